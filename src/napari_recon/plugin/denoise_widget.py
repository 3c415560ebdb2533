"""The Denoise panel."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from qtpy.QtWidgets import QCheckBox, QWidget

from napari_recon.config import option
from napari_recon.plugin._compare import COMPARE_KEY
from napari_recon.plugin._layers import add_result, count_planes
from napari_recon.plugin._level_slider import LevelSlider
from napari_recon.plugin._noise_line import NoiseLine
from napari_recon.plugin._preview import Previewer, Wish
from napari_recon.plugin._requests import Denoised, DenoiseRequest
from napari_recon.plugin._restore_panel import RestoreOptions, RestorePanel

NO_PREVIEW = "Only models that are told the noise are fast enough to show what a change does."
DENOISE_HELP = f"Denoise the layer into a new one; then {COMPARE_KEY} over the image shows before and after."
STRENGTH_HELP = "How much of the noise is removed: 0 nothing, 1 as measured, up to 1.5."


@dataclass(frozen=True)
class DenoiseOptions(RestoreOptions):
    """What is folded away; the fields are arguments of `napari_recon.denoise`."""

    plane_by_plane: bool = option(
        False,
        "Plane by plane",
        "Look at each plane of a stack or movie alone, not averaged with its neighbours where they show the same.",
    )


class DenoiseWidget(RestorePanel):
    """Denoise a layer with a shipped, trained or opened model."""

    verb = "denoise"
    options = DenoiseOptions

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self.noise = NoiseLine(self)
        self.preview = Previewer(self, self._wish, self.noise)
        self.strength = LevelSlider(1.5, STRENGTH_HELP)
        self.residual = QCheckBox("residual")
        self.residual.setToolTip("Add what was removed as a layer: it should look like noise, without structure.")
        self.adapt = QCheckBox("adapt")
        self.adapt.setToolTip("First train the model on this image for 20 seconds; kept only where that helps.")
        self.fill(DENOISE_HELP, self.strength, "Strength", [self.residual, self.adapt])

    def below_button(self) -> list[QWidget]:
        """Return the line that tells the noise."""
        return [self.noise]

    def request(self) -> DenoiseRequest:
        """Read the panel; raises `ReconError` when something is missing or does not fit."""
        layer, model, options = self.chosen()
        options = {**self.level(), "adapt": self.adapt.isChecked(), **options}
        source = self.extent.take(self.viewer, layer, self.data.axes())
        residual, attention = self.residual.isChecked(), self.wants_attention()
        return DenoiseRequest(source, model, options, residual, attention, self.noise.known())

    def show_result(self, done: Denoised, source: Any) -> tuple[Any, str]:
        """Add the denoised layer, and what was removed where it was asked for."""
        if done.residual is not None:
            shown = {"colormap": "gray", "contrast_limits": _residual_limits(done.residual), "visible": False}
            add_result(self.viewer, source, done.residual, "residual", done.record, **shown)
        self.show_attention(done, source)
        layer = add_result(self.viewer, source, done.image.array, "denoised", done.record)
        record = done.record
        notes = "".join(f" · {note}" for note in (*record.get("notes", ()), f"{COMPARE_KEY}: before/after"))
        detail = f"tile {record['tile_size']}, {record['precision']}" if "tile_size" in record else ""
        return layer, f"Denoised {count_planes(done.image)} in {done.seconds:.1f} s · {detail}{notes}"

    def choice_changed(self) -> None:
        """Measure the noise of the layer."""
        self.noise.watch(self.layer.layer(), self.data.axes())

    def _planes(self) -> dict[str, Any]:
        """Return the advanced option that changes pixels, as far as it can be read."""
        form = self.advanced.content
        return {k: v for k, v in form.changes().items() if k == "plane_by_plane"} if form is not None else {}

    def level(self) -> dict[str, float]:
        """Return the strength."""
        return {"strength": round(self.strength.value(), 2)}

    def for_folder(self) -> tuple[Any, dict[str, Any]]:
        """Return the model, and the options that suit any image; raises `ReconError` when there is no model."""
        model, options = super().for_folder()
        return model, {**options, "adapt": self.adapt.isChecked()}

    def _wish(self) -> Wish:
        spec, planes = self.model.spec(), self._planes()
        return Wish(
            layer=self.layer.layer(),
            axes=self.data.axes(),
            model=self.model.reference(),
            verb=self.verb,
            options={**self.level(), **planes, "device": self.device.device()},
            neighbours=not planes,
            refusal=self.no_preview("" if spec is not None and spec.noise_aware else NO_PREVIEW),
        )


def _residual_limits(residual: Any) -> tuple[float, float]:
    # One plane is enough to see how strong the noise is, and a stack may be lazy.
    plane = residual[(0,) * (residual.ndim - 2)] if residual.shape[-1] > 4 else residual
    finite = plane[np.isfinite(plane)]  # other pixels are kept as they are: what was removed of them is no number
    bound = 3 * float(finite.std()) if finite.size else 0.0
    return -(bound or 1.0), bound or 1.0
