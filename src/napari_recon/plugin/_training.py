"""A training in the job queue, which outlives the panel that started it."""

from qtpy.QtWidgets import QMessageBox, QWidget

from napari_recon.plugin._jobs import Job
from napari_recon.plugin._requests import Trained, TrainRequest
from napari_recon.plugin._session import session


class TrainJob(Job):
    """Trains what a request says; the model goes to the session, whether or not a panel still watches.

    Parameters
    ----------
    request : TrainRequest
        What to train.
    resume : bool
        Go on from where the last training of these images was left.
    """

    def __init__(self, request: TrainRequest, resume: bool = False) -> None:
        super().__init__(
            f"Train on {request.name}", lambda on_progress, cancel: request.run(on_progress, cancel, resume)
        )
        self.request = request
        self.returned.connect(self._keep)

    def _keep(self, trained: Trained) -> None:
        session().add_model(trained.model, trained.path)


def running_training() -> TrainJob | None:
    """Return the training that runs or waits, for a panel that is opened meanwhile."""
    return next((job for job in session().queue.jobs() if isinstance(job, TrainJob)), None)


def ask_to_go_on(request: TrainRequest, window: QWidget) -> None:
    """Ask whether a training whose panel was closed shall go on in the background.

    It has been stopped and loses nothing by that: it goes on exactly from where it was.
    """
    box = QMessageBox(
        QMessageBox.Icon.Question,
        "Training",
        "The Train panel was closed, so training was stopped and its model kept. Go on in the background?",
        QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.No,
        window,
    )
    box.setDefaultButton(QMessageBox.StandardButton.No)
    box.setInformativeText("The activity dock then shows it; the Train panel finds it when it is opened again.")
    box.accepted.connect(lambda: session().submit(TrainJob(request, resume=True), request.options["device"]))
    box.finished.connect(box.deleteLater)
    box.open()
