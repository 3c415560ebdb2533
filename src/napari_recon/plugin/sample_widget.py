"""The Sample panel."""

from dataclasses import fields
from typing import Any

from qtpy.QtWidgets import QLabel, QPushButton, QTabWidget, QVBoxLayout, QWidget

from napari_recon.errors import ReconError
from napari_recon.models import MODELS
from napari_recon.plugin._calibration import CalibrationLine
from napari_recon.plugin._device_badge import DeviceBadge
from napari_recon.plugin._explore_page import ExplorePage
from napari_recon.plugin._folder import folder_foldout
from napari_recon.plugin._forms import ConfigForm, Foldout, add_row, compact_form
from napari_recon.plugin._jobs import Job
from napari_recon.plugin._layer_chooser import DataLine, LayerCombo
from napari_recon.plugin._layers import refuse_labels
from napari_recon.plugin._live_layer import LiveLayer, LiveWish
from napari_recon.plugin._models import ModelChooser
from napari_recon.plugin._panel import Panel
from napari_recon.plugin._run_controls import RunControls, duration
from napari_recon.plugin._sample_pages import GeneratePage, SampleOptions, SamplesPage
from napari_recon.plugin._sample_requests import Made
from napari_recon.plugin._session import session
from napari_recon.plugin._tile_options import TileOptions
from napari_recon.progress import ProgressEvent

VERB = "sample"
FAMILY = next(name for name, family in MODELS.items() if family.verb == VERB)
LIVE_HELP = "The mean as a layer that is computed plane by plane as you scroll; it goes when this is switched off."
NO_MODEL = f"There is no model that samples yet. Train one first: Plugins > Train, {MODELS[FAMILY].label}."


class SampleWidget(Panel):
    """Sample what a noisy layer may show, make new images, and explore what a model has learned."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self.running: Any = None  # the request of the job ...
        self._page: Any = None  # ... and the page that asked
        self.controls = RunControls("", "", _progress_line)
        self.controls.requested.connect(self._run)
        self.live_layer = LiveLayer(self, self.live_wish)
        self.live_layer.button.setToolTip(LIVE_HELP)
        self.controls.buttons.addWidget(self.live_layer.button)
        rows = compact_form()
        self.column.addLayout(rows)
        self._make_choosers()
        self.tabs = QTabWidget()
        self.tabs.tabBar().setToolTip("What to do with the model.")
        self.samples, self.generate, self.explore = SamplesPage(self), GeneratePage(self), ExplorePage(self)
        for page in (self.samples, self.generate, self.explore):
            self.tabs.addTab(page, page.title)
        add_row(rows, "Layer", self.layer)
        rows.addRow(self.data)
        add_row(rows, "Model", self.model)
        rows.addRow(self.no_model)
        self.calibration = CalibrationLine(self)
        self.copy = self.copy_button()
        help_text = "Seed, mean, tile size and precision."
        self.advanced = Foldout("Advanced", help_text, lambda: ConfigForm(SampleOptions), self.copy)
        device = compact_form()
        add_row(device, "Device", self.device)
        self.column.addWidget(self.tabs)
        self.column.addLayout(device)
        self.folder = folder_foldout(self, VERB, self.for_folder)
        for widget in (self.controls, self.calibration, self.folder, self.advanced):
            self.column.addWidget(widget)
        self.layer.currentIndexChanged.connect(self._show_choice)
        self.data.axes_changed.connect(self._show_choice)
        self.model.changed.connect(self._show_choice)
        self.tabs.currentChanged.connect(self._show_choice)
        self.controls.job_ended.connect(self.explore.ended)
        self.device.combo.currentIndexChanged.connect(self.live_layer.follow)
        self._show_choice()
        self.finish_column()

    def _make_choosers(self) -> None:
        self.layer = LayerCombo(self)
        self.layer.setToolTip("The noisy layer; follows the layer that is active.")
        self.data = DataLine()
        self.model = ModelChooser(VERB)
        self.model.setToolTip("The model that samples, trained on this layer or on images like it.")
        self.device = DeviceBadge()
        self.train = QPushButton("Train one on this layer...")
        self.train.setToolTip("Open the Train panel with this layer and the right family.")
        self.train.clicked.connect(self._open_train)
        self.no_model = QWidget()
        text = QLabel(NO_MODEL)
        text.setWordWrap(True)
        layout = QVBoxLayout(self.no_model)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(text)
        layout.addWidget(self.train)

    def chosen_layer(self) -> Any:
        """Return the layer chosen; raises `ReconError` when there is none."""
        layer = self.layer.layer()
        if layer is None:
            refuse_labels(self.viewer.layers.selection.active)
            raise ReconError("There is no image to sample.", "Open one, or try File > Open Sample > Reconstruct.")
        return layer

    def chosen_model(self) -> Any:
        """Return the model chosen; raises `ReconError` when there is none."""
        model = self.model.reference()
        if model is None:
            raise ReconError(NO_MODEL, "Or open a model file with the button beside Model.")
        return model

    def for_folder(self) -> tuple[Any, dict[str, Any]]:
        """Return the model and the options of sampling; raises `ReconError` when something is missing."""
        return self.chosen_model(), self.samples.options()

    def live_wish(self) -> LiveWish:
        """Return what a live layer shall show; raises `ReconError` when something is missing."""
        layer, model = self.chosen_layer(), self.chosen_model()
        known = {field.name for field in fields(TileOptions)}
        options = {name: value for name, value in self.advanced.values().items() if name in known}
        return LiveWish(
            layer, self.data.axes(), model, VERB, {**options, "device": self.device.device()}, self.spatial()
        )  # fmt: skip

    def left(self) -> None:
        """Stop, and take away what shall not outlive the panel."""
        self.live_layer.off()
        super().left()

    def request(self) -> Any:
        """Read the page in front; raises `ReconError` when something is missing or does not fit."""
        page: Any = self.tabs.currentWidget()
        return page.request()

    def spatial(self) -> str:
        """Axes that the model sees at once."""
        spec = self.model.spec()
        return spec.axes if spec is not None else "YX"

    def show_action(self) -> None:
        """Let the button say what the page in front does."""
        page = self.tabs.currentWidget()
        if page is not None:
            self.controls.offer(page.label, page.help)

    def _show_choice(self, *_: Any) -> None:
        model = self.model.reference()
        self.no_model.setVisible(model is None)
        self.train.setEnabled(self.layer.layer() is not None)
        self.data.show_layer(self.layer.layer(), self.spatial(), "Open an image to begin.")
        self.calibration.show_model(model)
        sampling = self.tabs.currentWidget() is self.samples
        self.advanced.offer(sampling)
        self.folder.offer(sampling)
        self.live_layer.button.setVisible(sampling)
        self.live_layer.follow()
        self.generate.follow()
        self.explore.follow()
        self.show_action()

    def _run(self) -> None:
        page, request = self.tabs.currentWidget(), self.attempt(self.request)
        if request is None:
            return
        job = Job(request.title, request.run)
        job.returned.connect(self._show)
        self.running, self._page = request, page
        self.follow(job)
        session().submit(job, self.device.device())

    def _show(self, made: Made) -> None:
        source = self.layer.layer()
        self.controls.say(self._page.show_made(made))
        # The next run is more likely to be another try on the source than one on the result.
        self.layer.choose(source)

    def _open_train(self) -> None:
        _, train = self.viewer.window.add_plugin_dock_widget("napari-recon", "Train", tabify=True)
        train.form.choose(FAMILY, self.layer.layer())


def _progress_line(event: ProgressEvent) -> str:
    what = {"sample": "sample", "explore": "tile", "generate": "image", "batch": "image"}.get(
        event.phase, "guide: tile"
    )
    parts = [f"{what} {event.done:,} / {event.total:,}"]
    if event.eta is not None:
        parts.append(f"{duration(event.eta)} left")
    return " · ".join([*parts, *filter(None, [event.message])])
