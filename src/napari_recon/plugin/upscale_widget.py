"""The Upscale panel."""

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
from napari_recon.plugin._layers import add_result, finer, refuse_labels
from napari_recon.plugin._models import ModelChooser
from napari_recon.plugin._panel import Panel
from napari_recon.plugin._preview import Previewer, Wish
from napari_recon.plugin._requests import Upscaled, UpscaleRequest
from napari_recon.plugin._run_controls import RunControls, duration, show_problem
from napari_recon.plugin._session import session
from napari_recon.progress import ProgressEvent

UPSCALE_HELP = f"Upscale the layer into a new one; then {COMPARE_KEY} over the image shows before and after."
FAITHFUL_ONLY = "This model knows the faithful side only; one trained with the perceptual stage has both."
FIDELITY_HELP = "From sharp, which invents texture, to faithful, whose intensities may be measured."


@dataclass(frozen=True)
class UpscaleOptions(Config):
    """What is folded away; the fields are arguments of `napari_recon.api.upscale`."""

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


class UpscaleWidget(Panel):
    """Upscale a layer with a shipped, trained or opened model, and show how far to trust the result."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self.preview = Previewer(self, self._wish)
        self.compare = BeforeAfter(self)
        rows = compact_form()
        self.column.addLayout(rows)
        self._make_what(rows)
        self._make_how(rows)
        self.controls = RunControls("Upscale", UPSCALE_HELP, _progress_line)
        self.controls.requested.connect(self._run)
        self.copy = QPushButton("Copy as Python")
        self.copy.setToolTip("Copy lines that do what this panel would do now, for a script or napari's console.")
        self.copy.clicked.connect(self._copy)
        self.advanced = Foldout("Advanced", "Tile size and precision.", lambda: ConfigForm(UpscaleOptions), self.copy)
        for widget in (self.controls, self.advanced):
            self.column.addWidget(widget)
        self._show_layer()
        self.finish_column()

    def _make_what(self, rows: QFormLayout) -> None:
        self.layer = LayerCombo(self)
        self.layer.setToolTip("The layer to upscale; follows the layer that is active.")
        self.data = DataLine()
        self.model = ModelChooser("upscale")
        self.model.setToolTip("The model that upscales; it has a scale of its own.")
        add_row(rows, "Layer", self.layer)
        rows.addRow(self.data)
        add_row(rows, "Model", self.model)
        self.layer.currentIndexChanged.connect(self._show_layer)
        self.data.axes_changed.connect(self._show_layer)
        self.model.changed.connect(self._show_layer)

    def _make_how(self, rows: QFormLayout) -> None:
        self.fidelity = QLabeledDoubleSlider()
        self.fidelity.setOrientation(self.fidelity.orientation().Horizontal)
        self.fidelity.setRange(0.0, 1.0)
        self.fidelity.setDecimals(2)
        self.fidelity.setValue(1.0)
        without_wheel(self.fidelity)
        self.fidelity.valueChanged.connect(self.preview.ask)
        self.keep_dtype = QCheckBox("keep type")
        self.keep_dtype.setChecked(True)
        self.keep_dtype.setToolTip("Round the result to the pixel type of the layer; else it is float32.")
        self.trust = QCheckBox("trust layer")
        self.trust.setChecked(True)
        self.trust.setToolTip("Add a layer that is bright where the input shows what is there, dark where it does not.")
        self.extent = ExtentChooser("Upscale")
        self.device = DeviceBadge()
        add_row(rows, "Fidelity", row(self.fidelity, self.preview.box))
        rows.addRow(row(self.keep_dtype, self.trust))
        rows.addRow(self.extent)
        add_row(rows, "Device", self.device)

    def request(self) -> UpscaleRequest:
        """Read the panel.

        Raises
        ------
        ReconError
            When there is no layer or model, or what was typed does not fit.
        """
        layer = self.layer.layer()
        if layer is None:
            refuse_labels(self.viewer.layers.selection.active)
            raise ReconError("There is no image to upscale.", "Open one, or try File > Open Sample > Reconstruct.")
        if self.model.reference() is None:
            raise ReconError("There is no model yet.", "Train one in the Train panel, or open a model file.")
        options = {
            "fidelity": self._fidelity(),
            # napari shows colours as integers or in 0 to 1 only.
            "keep_dtype": self.keep_dtype.isChecked() or layer.rgb,
            "device": self.device.device(),
            **self.advanced.values(),
        }
        source = self.extent.take(self.viewer, layer, self.data.axes())
        return UpscaleRequest(source, self.model.reference(), options, self.trust.isChecked())

    def left(self) -> None:
        """Stop, and take away what shall not outlive the panel."""
        self.preview.clear()
        self.compare.close()
        super().left()

    def _fidelity(self) -> float:
        return round(self.fidelity.value(), 2) if self.fidelity.isEnabled() else 1.0

    def _wish(self) -> Wish:
        spec = self.model.spec()
        return Wish(
            layer=self.layer.layer(),
            axes=self.data.axes(),
            model=self.model.reference(),
            verb="upscale",
            options={"fidelity": self._fidelity(), "device": self.device.device(), "trust": False},
            scale=spec.scale if spec is not None else 1,
            refusal="" if spec is not None else "There is no model yet.",
        )

    def _run(self) -> None:
        try:
            request = self.request()
        except ReconError as error:
            show_problem(error)
            self.controls.say(error.problem)
            return
        self.preview.clear()
        job = Job(f"Upscale {request.source.name}", request.run)
        job.returned.connect(self._add)
        self._running = request
        self.follow(job)
        session().submit(job, request.options["device"])

    def _add(self, done: Upscaled) -> None:
        source = self._running.source
        record = done.record
        placed = finer(source, record["scale"])
        if done.trust is not None:
            shown = {"colormap": "viridis", "contrast_limits": (0.0, 1.0), "visible": False}
            add_result(self.viewer, placed, done.trust, "trust", record, **shown)
        layer = add_result(self.viewer, placed, done.image.array, f"x{record['scale']}", record)
        self.viewer.layers.selection.active = layer
        source_layer = next((x for x in self.viewer.layers if x.name == source.name), None)
        self.layer.choose(source_layer)
        self.compare.remember(layer, source_layer)
        self.controls.say(f"Upscaled in {done.seconds:.1f} s · {_verdict(record)}")

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
        both = self.model.option("perceptual") is True
        self.fidelity.setEnabled(both)
        self.fidelity.setToolTip(FIDELITY_HELP if both else FAITHFUL_ONLY)
        self.preview.follow()


def _progress_line(event: ProgressEvent) -> str:
    parts = [f"tile {event.done:,} / {event.total:,}"]
    if event.eta is not None:
        parts.append(f"{duration(event.eta)} left")
    return " · ".join([*parts, *filter(None, [event.message])])


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
