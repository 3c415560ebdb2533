"""The Denoise panel."""

from dataclasses import dataclass
from typing import Any

from qtpy.QtWidgets import QApplication, QCheckBox, QFormLayout, QPushButton
from superqt import QLabeledDoubleSlider

from napari_recon.config import Config, option
from napari_recon.errors import ReconError
from napari_recon.plugin._compare import COMPARE_KEY, BeforeAfter
from napari_recon.plugin._device_badge import DeviceBadge
from napari_recon.plugin._extent import ExtentChooser
from napari_recon.plugin._forms import ConfigForm, Foldout, add_row, compact_form, row, without_wheel
from napari_recon.plugin._jobs import Job
from napari_recon.plugin._layer_chooser import DataLine, LayerCombo
from napari_recon.plugin._layers import add_result, count_planes, refuse_labels
from napari_recon.plugin._models import ModelChooser
from napari_recon.plugin._noise_line import NoiseLine
from napari_recon.plugin._panel import Panel
from napari_recon.plugin._preview import Previewer, Wish
from napari_recon.plugin._requests import Denoised, DenoiseRequest
from napari_recon.plugin._run_controls import RunControls, duration, show_problem
from napari_recon.plugin._session import session
from napari_recon.progress import ProgressEvent

NO_PREVIEW = "Only models that are told the noise are fast enough to show what a change does."
DENOISE_HELP = f"Denoise the layer into a new one; then {COMPARE_KEY} over the image shows before and after."


@dataclass(frozen=True)
class DenoiseOptions(Config):
    """What is folded away; the fields are arguments of `napari_recon.api.denoise`."""

    tile_size: int | None = option(
        None, "Tile", "Side of a tile in pixels; empty: as large as memory allows.", minimum=16
    )
    tile_overlap: int | None = option(
        None, "Overlap", "Pixels a tile sees beyond its edge; empty: all that matter. Less is faster.", minimum=0
    )
    precision: str = option(
        "auto",
        "Precision",
        "auto: bfloat16 where a short probe shows that this machine is faster with it.",
        choices=("auto", "float32", "bfloat16"),
    )


class DenoiseWidget(Panel):
    """Denoise a layer with a shipped, trained or opened model."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self.noise = NoiseLine(self)
        self.preview = Previewer(self, self._wish, self.noise)
        self.compare = BeforeAfter(self)
        rows = compact_form()
        self.column.addLayout(rows)
        self._make_what(rows)
        self._make_how(rows)
        self.controls = RunControls("Denoise", DENOISE_HELP, _progress_line)
        self.controls.requested.connect(self._run)
        self.copy = QPushButton("Copy as Python")
        self.copy.setToolTip("Copy lines that do what this panel would do now, for a script or napari's console.")
        self.copy.clicked.connect(self._copy)
        self.advanced = Foldout("Advanced", "Tile size and precision.", lambda: ConfigForm(DenoiseOptions), self.copy)
        for widget in (self.controls, self.noise, self.advanced):
            self.column.addWidget(widget)
        self._show_layer()
        self.finish_column()

    def _make_what(self, rows: QFormLayout) -> None:
        self.layer = LayerCombo(self)
        self.layer.setToolTip("The layer to denoise; follows the layer that is active.")
        self.data = DataLine()
        self.model = ModelChooser("denoise")
        self.model.setToolTip("The model that denoises. Models trained in this sitting come first.")
        add_row(rows, "Layer", self.layer)
        rows.addRow(self.data)
        add_row(rows, "Model", self.model)
        self.layer.currentIndexChanged.connect(self._show_layer)
        self.data.axes_changed.connect(self._show_layer)
        self.model.changed.connect(self._show_layer)

    def _make_how(self, rows: QFormLayout) -> None:
        self.strength = QLabeledDoubleSlider()
        self.strength.setOrientation(self.strength.orientation().Horizontal)
        self.strength.setRange(0.0, 1.5)
        self.strength.setDecimals(2)
        self.strength.setValue(1.0)
        self.strength.setToolTip("How much of the noise is removed: 0 nothing, 1 as measured, up to 1.5.")
        without_wheel(self.strength)
        self.strength.valueChanged.connect(self.preview.ask)
        self.keep_dtype = QCheckBox("keep type")
        self.keep_dtype.setChecked(True)
        self.keep_dtype.setToolTip("Round the result to the pixel type of the layer; else it is float32.")
        self.residual = QCheckBox("residual")
        self.residual.setToolTip("Add what was removed as a layer: it should look like noise, without structure.")
        self.adapt = QCheckBox("adapt")
        self.adapt.setToolTip("First train the model on this image for 20 seconds; kept only where that helps.")
        self.extent = ExtentChooser("Denoise")
        self.device = DeviceBadge()
        add_row(rows, "Strength", row(self.strength, self.preview.box))
        rows.addRow(row(self.keep_dtype, self.residual, self.adapt))
        rows.addRow(self.extent)
        add_row(rows, "Device", self.device)

    def request(self) -> DenoiseRequest:
        """Read the panel.

        Raises
        ------
        ReconError
            When there is no layer or model, or what was typed does not fit.
        """
        layer = self.layer.layer()
        if layer is None:
            refuse_labels(self.viewer.layers.selection.active)
            raise ReconError("There is no image to denoise.", "Open one, or try File > Open Sample > Reconstruct.")
        if self.model.reference() is None:
            raise ReconError("There is no model yet.", "Train one in the Train panel, or open a model file.")
        source = self.extent.take(self.viewer, layer, self.data.axes())
        options = {
            "strength": round(self.strength.value(), 2),
            # napari shows colours as integers or in 0 to 1 only.
            "keep_dtype": self.keep_dtype.isChecked() or layer.rgb,
            "adapt": self.adapt.isChecked(),
            "device": self.device.device(),
            **self.advanced.values(),
        }
        return DenoiseRequest(source, self.model.reference(), options, self.residual.isChecked())

    def left(self) -> None:
        """Stop, and take away what shall not outlive the panel."""
        self.preview.clear()
        self.compare.close()
        super().left()

    def _wish(self) -> Wish:
        spec = self.model.spec()
        return Wish(
            layer=self.layer.layer(),
            axes=self.data.axes(),
            model=self.model.reference(),
            verb="denoise",
            options={"strength": round(self.strength.value(), 2), "device": self.device.device()},
            refusal="" if spec is not None and spec.noise_aware else NO_PREVIEW,
        )

    def _run(self) -> None:
        try:
            request = self.request()
        except ReconError as error:
            show_problem(error)
            self.controls.say(error.problem)
            return
        self.preview.clear()
        job = Job(f"Denoise {request.source.name}", request.run)
        job.returned.connect(self._add)
        self._running = request
        self.follow(job)
        session().submit(job, request.options["device"])

    def _add(self, done: Denoised) -> None:
        source = self._running.source
        if done.residual is not None:
            shown = {"colormap": "gray", "contrast_limits": _residual_limits(done.residual), "visible": False}
            add_result(self.viewer, source, done.residual, "residual", done.record, **shown)
        layer = add_result(self.viewer, source, done.image.array, "denoised", done.record)
        self.viewer.layers.selection.active = layer
        # The next run is more likely to be another try on the source than a second denoising of the result.
        source_layer = next((x for x in self.viewer.layers if x.name == source.name), None)
        self.layer.choose(source_layer)
        self.compare.remember(layer, source_layer)
        record = done.record
        notes = "".join(f" · {note}" for note in (*record.get("notes", ()), f"{COMPARE_KEY}: before/after"))
        detail = f"tile {record['tile_size']}, {record['precision']}" if "tile_size" in record else ""
        self.controls.say(f"Denoised {count_planes(done.image)} in {done.seconds:.1f} s · {detail}{notes}")

    def _copy(self) -> None:
        try:
            QApplication.clipboard().setText(self.request().as_python())
            self.controls.say("Copied.")
        except ReconError as error:
            show_problem(error)

    def _show_layer(self, *_: Any) -> None:
        layer, spec = self.layer.layer(), self.model.spec()
        self.data.show_layer(layer, spec.axes if spec else "YX", "Open an image to begin.")
        if layer is not None:
            self.keep_dtype.setText(f"keep {layer.dtype}")
        self.noise.watch(layer, self.data.axes())
        self.preview.follow()


def _progress_line(event: ProgressEvent) -> str:
    what = "adapting: step" if event.phase == "train" else "tile"
    parts = [f"{what} {event.done:,} / {event.total:,}"]
    if event.eta is not None:
        parts.append(f"{duration(event.eta)} left")
    return " · ".join([*parts, *filter(None, [event.message])])


def _residual_limits(residual: Any) -> tuple[float, float]:
    # One plane is enough to see how strong the noise is, and a stack may be lazy.
    plane = residual[(0,) * (residual.ndim - 2)] if residual.shape[-1] > 4 else residual
    bound = 3 * float(plane.std()) or 1.0
    return -bound, bound
