"""The Train panel."""

from dataclasses import replace
from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QHBoxLayout, QInputDialog, QLabel, QPushButton, QWidget

from napari_recon.config import split_options
from napari_recon.errors import ReconError
from napari_recon.models import MODELS
from napari_recon.plugin._forms import Foldout
from napari_recon.plugin._jobs import Job
from napari_recon.plugin._noise_line import NoiseLine
from napari_recon.plugin._optics import OpticsFoldout
from napari_recon.plugin._panel import Panel
from napari_recon.plugin._requests import Trained, TrainRequest
from napari_recon.plugin._run_controls import RunControls, duration, show_problem
from napari_recon.plugin._session import session
from napari_recon.plugin._train_form import AdvancedForm, TrainForm
from napari_recon.plugin._training import TrainJob, ask_to_go_on, running_training
from napari_recon.plugin._use_model import PAGES, use_in_panel
from napari_recon.progress import ProgressEvent
from napari_recon.training.config import TrainConfig

ESTIMATE_DELAY = 400  # milliseconds without a change


class TrainWidget(Panel):
    """Train a model on layers or files, and watch it learn."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self.live: Any = None
        self.result: Trained | None = None
        self._theme: Any = None
        self._estimating: Job | None = None
        self.form = TrainForm(self)
        self.estimate = QLabel()
        self.estimate.setObjectName("grey")
        self.estimate.setWordWrap(True)
        self.estimate.setToolTip("What the training will take, estimated for this machine.")
        self.noise = NoiseLine(self)
        self.controls = RunControls("Train", "Train a model on the chosen images.", progress_line)
        self.controls.requested.connect(lambda: self._run(resume=False))
        self.controls.job_ended.connect(self._show_state)
        self._make_buttons()
        help_text = "Every option of the network and of its training."
        self.advanced = Foldout("Advanced", help_text, self._make_advanced, self.copy)
        self.optics = OpticsFoldout(self, self.form)
        for widget in (self.form, self.estimate, self.controls, self.after, self.noise, self.optics, self.advanced):
            self.column.addWidget(widget)
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(ESTIMATE_DELAY)
        self._later.timeout.connect(self._estimate)
        self.form.changed.connect(self._changed)
        self.form.family.currentIndexChanged.connect(self.advanced.reset)
        session().devices_found.connect(self._changed)
        self.finish_column()
        self._changed()
        job = running_training()
        if job is not None:
            self._watch(job, anew=True)

    def _make_buttons(self) -> None:
        self.resume = QPushButton("Resume")
        self.resume.setToolTip("Go on with the training of these images that was stopped or cut off.")
        self.resume.clicked.connect(lambda: self._run(resume=True))
        self.save = QPushButton("Save as...")
        self.save.setToolTip("Give the model just trained a name of its own in your list of models.")
        self.save.clicked.connect(self._ask_for_name)
        self.use = QPushButton()
        self.use.setToolTip("Open the panel that uses such models, with the model just trained.")
        self.use.clicked.connect(self._use)
        self.copy = self.copy_button()
        self.controls.buttons.addWidget(self.resume)
        self.after = QWidget()
        line = QHBoxLayout(self.after)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.save)
        line.addWidget(self.use)

    def request(self) -> TrainRequest:
        """Read the panel; raises `ReconError` when something does not fit."""
        optics = self.optics.used()
        parts = [part for part in (self.advanced.content, optics) if part is not None]
        request = self.form.request(*parts)
        problem = None
        try:
            changes = {name: value for part in parts for name, value in part.changes().items()}
            split_options(changes, MODELS[request.family].config(), TrainConfig())
            return request if optics is None else replace(request, psf=optics.psf())
        except ReconError as error:
            problem = error
            raise
        finally:
            for part in parts:
                part.mark(problem)

    def set_theme(self, theme: Any) -> None:
        """Take over the colours of a theme."""
        self._theme = theme
        if self.live is not None:
            self.live.set_theme(theme)

    def show_live(self) -> None:
        """Make room for curves and pictures; done when the first training starts."""
        if self.live is None:
            from napari_recon.plugin._live import LiveView  # pyqtgraph takes most of a second to import

            self.live = LiveView()
            self.column.insertWidget(self.column.indexOf(self.after) + 1, self.live)
            self.live.set_theme(self._theme)

    def left(self) -> None:
        """Stop, keep the model, and ask once whether to go on in the background."""
        job = self.controls.job
        super().left()
        window = QApplication.activeWindow()
        if isinstance(job, TrainJob) and window is not None:
            ask_to_go_on(job.request, window)

    def use_model(self, trained: Trained) -> None:
        """Let the buttons act on a finished training."""
        self.result = trained
        model = trained.model
        verb = MODELS[model.family].verb
        self.use.setText(f"Use in {PAGES.get(verb, verb.capitalize())}")
        how = "stopped, best weights kept" if model.stopped else "done"
        steps = model.provenance.get("steps", 0)
        where = f"saved as {trained.path.stem}" if trained.path else f"not saved: {trained.problem}"
        self.controls.say(f"Training {how} after {steps:,} steps · {where}")

    def use_options(self, options: dict[str, Any]) -> None:
        """Fill in options of the advanced part, and unfold it so that they are seen."""
        self.advanced.button.setChecked(True)
        self.advanced.content.set_values(options)

    def _make_advanced(self) -> AdvancedForm:
        form = self.form.advanced()
        for part in form.forms:
            part.changed.connect(self._changed)
        return form

    def _run(self, resume: bool) -> None:
        request = self.attempt(self.request)
        if request is None:
            return
        job = TrainJob(request, resume)
        self._watch(job, anew=not resume)
        session().submit(job, request.options["device"])

    def _watch(self, job: TrainJob, anew: bool) -> None:
        self.show_live()
        request = job.request
        self.live.begin(request.preview, request.sources[0].look if request.sources else {}, anew)
        job.progressed.connect(self.live.show_event)
        job.returned.connect(self.use_model)
        self.follow(job)
        self._show_state()

    def _changed(self) -> None:
        self._later.start()
        self.noise.watch(self.form.layer(), self.form.data.axes())
        self._show_state()

    def _show_state(self) -> None:
        busy = self.controls.job is not None
        try:
            unfinished = self.form.request().state_path.exists()
        except ReconError:
            unfinished = False
        self.resume.setVisible(unfinished and not busy)
        self.after.setVisible(self.result is not None)
        self.estimate.setVisible(not busy)

    def _estimate(self) -> None:
        if not session().devices or (self._estimating is not None and self._estimating.active):
            self._later.start()  # torch is being imported, or the answer to the last question is on its way
            return
        try:
            request = self.request()
        except ReconError as error:
            self.estimate.setText(error.problem)
            return
        self._estimating = session().aside("Estimate", request.estimate)
        self._estimating.returned.connect(self._show_estimate)
        self._estimating.failed.connect(self._show_no_estimate)
        self._estimating.start()

    def _show_estimate(self, estimate: dict[str, float]) -> None:
        gigabytes = estimate["memory_bytes"] / 2**30
        self.estimate.setText(f"takes about {duration(estimate['seconds'])} and {gigabytes:.1f} GB of memory")

    def _show_no_estimate(self, error: BaseException) -> None:
        self.estimate.setText(str(error))

    def _ask_for_name(self) -> None:
        assert self.result is not None
        name, agreed = QInputDialog.getText(self, "Save model", "Name:", text=self.result.model.name)
        if agreed:
            self.save_as(name)

    def save_as(self, name: str) -> None:
        """Save the model just trained under a name; the automatic one goes."""
        assert self.result is not None
        try:
            self.result = session().rename_model(self.result, name)
            self.controls.say(f"saved as {name}")
        except ReconError as error:
            show_problem(error)

    def _use(self) -> None:
        assert self.result is not None
        use_in_panel(self.viewer, MODELS[self.result.model.family].verb, self.result.path or self.result.model)


def progress_line(event: ProgressEvent) -> str:
    """Write ``step 1,240 / 3,000 · 1:12 left · best at 1,100``."""
    total = f" / {event.total:,}" if event.total else ""
    what = {"train": "step", "calibrate": "calibrating: sample"}.get(event.phase, "guide: tile")
    parts = [f"{what} {event.done:,}{total}"]
    if event.eta is not None:
        parts.append(f"{duration(event.eta)} left")
    if "best_step" in event.values:
        parts.append(f"best at {int(event.values['best_step']):,}")
    return " · ".join([*parts, *filter(None, [event.message])])
