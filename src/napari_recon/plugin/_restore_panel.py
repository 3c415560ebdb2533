"""What the Denoise and the Upscale panel have in common: a layer, a model, and a result that lies on its source."""

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from qtpy.QtWidgets import QCheckBox, QFormLayout, QWidget

from napari_recon.config import Config, option
from napari_recon.errors import ReconError
from napari_recon.plugin._compare import BeforeAfter
from napari_recon.plugin._device_badge import DeviceBadge
from napari_recon.plugin._extent import ExtentChooser
from napari_recon.plugin._folder import folder_foldout
from napari_recon.plugin._forms import ConfigForm, Foldout, add_row, compact_form, row
from napari_recon.plugin._jobs import Job
from napari_recon.plugin._keeper import ModelKeeper
from napari_recon.plugin._layer_chooser import DataLine, LayerCombo
from napari_recon.plugin._layers import add_result, refuse_labels
from napari_recon.plugin._level_slider import LevelSlider
from napari_recon.plugin._live_layer import NO_PREVIEW, LiveLayer, LiveWish
from napari_recon.plugin._models import ModelChooser
from napari_recon.plugin._panel import Panel
from napari_recon.plugin._preview import Previewer
from napari_recon.plugin._run_controls import RunControls, duration
from napari_recon.plugin._session import session
from napari_recon.plugin._tile_options import TileOptions
from napari_recon.progress import CancelToken, ProgressCallback, ProgressEvent

ATTENTION_HELP = "Add a layer that is bright where the network's attention gates let features through."


@dataclass(frozen=True)
class RestoreOptions(TileOptions):
    """What is folded away; the fields are arguments of the verbs."""

    tile_overlap: int | None = option(
        None, "Overlap", "Pixels a tile sees beyond its edge; empty: all that matter. Less is faster.", minimum=0
    )


class RestorePanel(Panel):
    """The subclass says its `verb`, makes ``self.preview``, and calls `fill`."""

    verb: str
    preview: Previewer
    options: type[Config] = RestoreOptions  # what is folded away

    def fill(self, help: str, slider: LevelSlider, title: str, switches: list[QCheckBox]) -> None:
        """Fill the column.

        Parameters
        ----------
        help : str
            What the primary button does.
        slider : LevelSlider
            How strongly to do it; a change of it is previewed.
        title : str
            What the slider sets.
        switches : list of QCheckBox
            What else to choose, beside the pixel type.
        """
        self.compare = BeforeAfter(self)
        self.controls = RunControls(self.verb.capitalize(), help, _progress_line)
        self.live_layer = LiveLayer(self, self.live_wish)
        self.controls.buttons.addWidget(self.live_layer.button)
        rows = compact_form()
        self.column.addLayout(rows)
        self._make_layer(rows)
        rows, last = self.pages(rows)
        self._make_model(rows)
        slider.valueChanged.connect(self.preview.ask)
        slider.valueChanged.connect(self.live_layer.follow)
        self.keep_dtype = QCheckBox("keep type")
        self.keep_dtype.setChecked(True)
        self.keep_dtype.setToolTip("Round the result to the pixel type of the layer; else it is float32.")
        self.attention = QCheckBox("attention layer")
        self.attention.setToolTip(ATTENTION_HELP)
        self.extent = ExtentChooser(self.verb.capitalize())
        self.device = DeviceBadge()
        add_row(rows, title, row(slider, self.preview.box))
        rows.addRow(row(self.keep_dtype, *switches))
        rows.addRow(self.attention)
        rows.addRow(self.extent)
        add_row(last, "Device", self.device)
        self.keep_dtype.toggled.connect(self.live_layer.follow)
        self.device.combo.currentIndexChanged.connect(self.live_layer.follow)
        self.live_layer.switched.connect(self.preview.follow)
        self.controls.requested.connect(self._run)
        self.copy = self.copy_button()
        self.advanced = Foldout("Advanced", "Tile size and precision.", self._make_advanced, self.copy)
        self.folder = folder_foldout(self, self.verb, self.for_folder)
        for widget in (self.controls, *self.below_button(), self.folder, self.advanced):
            self.column.addWidget(widget)
        self.show_layer()
        self.finish_column()
        session().devices_found.connect(self._warm_up)
        if session().devices:
            self._warm_up()

    def pages(self, rows: QFormLayout) -> tuple[QFormLayout, QFormLayout]:
        """Return the forms for what the verb needs and for the device; a panel of several pages makes them here."""
        return rows, rows

    def _make_advanced(self) -> ConfigForm:
        form = ConfigForm(self.options)
        form.changed.connect(self.preview.ask)
        form.changed.connect(self.live_layer.follow)
        return form

    def _make_layer(self, rows: QFormLayout) -> None:
        self.layer = LayerCombo(self)
        self.layer.setToolTip(f"The layer to {self.verb}; follows the layer that is active.")
        self.data = DataLine()
        add_row(rows, "Layer", self.layer)
        rows.addRow(self.data)

    def _make_model(self, rows: QFormLayout) -> None:
        self.model = ModelChooser(self.verb)
        self.model.setToolTip(f"The model to {self.verb} with. Models trained in this sitting come first.")
        add_row(rows, "Model", self.model)
        for signal in (self.layer.currentIndexChanged, self.data.axes_changed, self.model.changed):
            signal.connect(self.show_layer)

    def below_button(self) -> list[QWidget]:
        """Return what stands between the button and the advanced options."""
        return []

    def chosen(self) -> tuple[Any, Any, dict[str, Any]]:
        """Return layer, model and the options that both verbs take.

        Raises
        ------
        ReconError
            When there is no layer or model, or what was typed does not fit.
        """
        layer = self.layer.layer()
        if layer is None:
            refuse_labels(self.viewer.layers.selection.active)
            raise ReconError(f"There is no image to {self.verb}.", "Open one, or try File > Open Sample > Reconstruct.")
        model, options = self._model_and_options()
        # napari shows colours as integers or in 0 to 1 only.
        return layer, model, {**options, "keep_dtype": options["keep_dtype"] or layer.rgb}

    def for_folder(self) -> tuple[Any, dict[str, Any]]:
        """Return the model, and the options that suit any image; raises `ReconError` when there is no model."""
        model, options = self._model_and_options()
        return model, {**self.level(), **options}

    def _model_and_options(self) -> tuple[Any, dict[str, Any]]:
        model = self.model.reference()
        if model is None:
            raise ReconError("There is no model yet.", "Train one in the Train panel, or open a model file.")
        options = {"keep_dtype": self.keep_dtype.isChecked(), "device": self.device.device()}
        return model, {**options, **self.advanced.values()}

    def level(self) -> dict[str, float]:
        """Return what the slider is set to, as an option of the verb."""
        raise NotImplementedError

    def live_wish(self) -> LiveWish:
        """Return what a live layer shall show; raises `ReconError` when something is missing."""
        layer, model, options = self.chosen()
        spec = self.model.spec()
        if spec is None:
            raise ReconError("The model cannot be read.", "Choose another one.")
        options = {**self.level(), **options}
        return LiveWish(layer, self.data.axes(), model, self.verb, options, spec.axes, spec.scale)

    def show_result(self, done: Any, source: Any) -> tuple[Any, str]:
        """Add the result of a run on a snapshot; return its layer and what to say of it."""
        raise NotImplementedError

    def show_attention(self, done: Any, source: Any) -> None:
        """Add the map of attention of a run where it was asked for; `source` is where the result lies."""
        if done.attention is not None:
            shown = {"colormap": "inferno", "contrast_limits": (0.0, 1.0), "visible": False}
            add_result(self.viewer, source, done.attention, "attention", done.record, **shown)

    def no_preview(self, why: str) -> str:
        """Return why there is no preview: that of the panel, or that a live layer shows more."""
        return why or (NO_PREVIEW if self.live_layer.on else "")

    def wants_attention(self) -> bool:
        """Whether the map of attention is asked for, of a model that has one."""
        return not self.attention.isHidden() and self.attention.isChecked()

    def choice_changed(self) -> None:
        """Follow the layer, its axes and the model in what only the subclass shows."""

    def show_layer(self, *_: Any) -> None:
        """Follow the layer, its axes and the model."""
        layer, spec = self.layer.layer(), self.model.spec()
        self.data.show_layer(layer, spec.axes if spec else "YX", "Open an image to begin.")
        if layer is not None:
            self.keep_dtype.setText(f"keep {layer.dtype}")
        gates = spec is not None and spec.attention
        self.attention.setVisible(gates)
        self.choice_changed()
        self.preview.follow()
        self.live_layer.follow()

    def _warm_up(self) -> None:
        """Make the chosen model ready while the user looks at the panel."""
        model = self.model.reference()
        if model is not None and self.controls.job is None:
            job = session().aside(f"Make {self.verb} ready", partial(_warm_up, self.keeper, model))
            self.ends_with(job)
            job.start()

    def left(self) -> None:
        """Stop, and take away what shall not outlive the panel."""
        self.preview.clear()
        self.live_layer.off()
        self.compare.close()
        super().left()

    def _run(self) -> None:
        request = self.attempt(self.request)
        if request is None:
            return
        self.preview.clear()
        job = Job(f"{self.verb.capitalize()} {request.source.name}", partial(request.run, load=self.keeper.load))
        job.returned.connect(self._add)
        self._running = request
        self.follow(job)
        session().submit(job, request.options["device"])

    def _add(self, done: Any) -> None:
        source = self._running.source
        layer, line = self.show_result(done, source)
        self.viewer.layers.selection.active = layer
        # The next run is more likely to be another try on the source than one on the result.
        source_layer = source.layer_in(self.viewer)
        self.layer.choose(source_layer)
        self.compare.remember(layer, source_layer)
        self.controls.say(line)


def _warm_up(keeper: ModelKeeper, model: Any, on_progress: ProgressCallback, cancel: CancelToken) -> None:
    # What is wrong with a model is told when it is used.
    with suppress(ReconError):
        keeper.warm_up(model)


def _progress_line(event: ProgressEvent) -> str:
    what = {"train": "training: step", "generate": "image", "batch": "image"}.get(event.phase, "tile")
    total = f" / {event.total:,}" if event.total else ""
    parts = [f"{what} {event.done:,}{total}"]
    if event.eta is not None:
        parts.append(f"{duration(event.eta)} left")
    return " · ".join([*parts, *filter(None, [event.message])])
