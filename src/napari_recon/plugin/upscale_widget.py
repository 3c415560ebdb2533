"""The Upscale panel."""

from typing import Any

from qtpy.QtWidgets import QCheckBox

from napari_recon.plugin._compare import COMPARE_KEY
from napari_recon.plugin._layers import add_result, finer
from napari_recon.plugin._preview import Previewer, Wish
from napari_recon.plugin._requests import Upscaled, UpscaleRequest
from napari_recon.plugin._restore_panel import RestorePanel, level_slider

UPSCALE_HELP = f"Upscale the layer into a new one; then {COMPARE_KEY} over the image shows before and after."
FAITHFUL_ONLY = "This model knows the faithful side only; one trained with the perceptual stage has both."
FIDELITY_HELP = "From sharp, which invents texture, to faithful, whose intensities may be measured."


class UpscaleWidget(RestorePanel):
    """Upscale a layer with a shipped, trained or opened model, and show how far to trust the result."""

    verb = "upscale"

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self.preview = Previewer(self, self._wish)
        self.fidelity = level_slider(1.0)
        self.trust = QCheckBox("trust layer")
        self.trust.setChecked(True)
        self.trust.setToolTip("Add a layer that is bright where the input shows what is there, dark where it does not.")
        self.fill(UPSCALE_HELP, self.fidelity, "Fidelity", [self.trust])

    def request(self) -> UpscaleRequest:
        """Read the panel; raises `ReconError` when something is missing or does not fit."""
        layer, model, options = self.chosen()
        source = self.extent.take(self.viewer, layer, self.data.axes())
        options = {**self.level(), **options}
        return UpscaleRequest(source, model, options, self.trust.isChecked(), self.wants_attention())

    def show_result(self, done: Upscaled, source: Any) -> tuple[Any, str]:
        """Add the upscaled layer, and the map of trust where it was asked for."""
        record = done.record
        placed = finer(source, record["scale"])
        if done.trust is not None:
            shown = {"colormap": "viridis", "contrast_limits": (0.0, 1.0), "visible": False}
            add_result(self.viewer, placed, done.trust, "trust", record, **shown)
        self.show_attention(done, placed)
        layer = add_result(self.viewer, placed, done.image.array, f"x{record['scale']}", record)
        return layer, f"Upscaled in {done.seconds:.1f} s · {_verdict(record)}"

    def choice_changed(self) -> None:
        """Offer the fidelity of models that have two sides."""
        both = self.model.option("perceptual") is True
        self.fidelity.setEnabled(both)
        self.fidelity.setToolTip(FIDELITY_HELP if both else FAITHFUL_ONLY)

    def level(self) -> dict[str, float]:
        """Return the fidelity; faithful for a model that knows nothing else."""
        return {"fidelity": round(self.fidelity.value(), 2) if self.fidelity.isEnabled() else 1.0}

    def _wish(self) -> Wish:
        spec = self.model.spec()
        return Wish(
            layer=self.layer.layer(),
            axes=self.data.axes(),
            model=self.model.reference(),
            verb=self.verb,
            options={**self.level(), "device": self.device.device(), "trust": False},
            scale=spec.scale if spec is not None else 1,
            refusal=self.no_preview("" if spec is not None else "There is no model yet."),
        )


def _verdict(record: dict[str, Any]) -> str:
    """What a user should know of a result, in a line."""
    trust = record["trust"]
    measured = "intensities may be quantified" if trust["quantifiable"] else "not for measuring intensities"
    parts = [
        f"trust {trust['value']:.2f}",
        f"agrees with {trust['agreement']:.0%} of the input within its noise",
        measured,
        *record["notes"],
    ]
    return " · ".join(parts)
