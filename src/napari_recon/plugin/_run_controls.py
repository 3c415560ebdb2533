"""The primary button, progress and the result line: the same in all panels."""

from collections.abc import Callable

from napari.utils.notifications import notification_manager, show_error
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_recon.errors import ReconError
from napari_recon.plugin._activity import PARTS, share
from napari_recon.plugin._jobs import Job
from napari_recon.plugin._session import session
from napari_recon.progress import ProgressEvent

STOP_HELP = "Stop at the next step and keep what there is. Key: Esc."


class RunControls(QWidget):
    """Starts and stops the panel's job and shows how far it is.

    Parameters
    ----------
    label, help : str
        Text and tooltip of the button.
    describe : callable
        Makes the progress line of a `ProgressEvent`.
    """

    requested = Signal()
    job_ended = Signal()

    def __init__(
        self, label: str, help: str, describe: Callable[[ProgressEvent], str], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._label, self._help, self._describe = label, help, describe
        self.job: Job | None = None
        self.button = QPushButton(label)
        self.button.setObjectName("primary")
        self.button.clicked.connect(self._clicked)
        self.bar = QProgressBar()
        self.bar.setToolTip("How much is done; also in napari's activity dock.")
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(6)
        self.bar.hide()
        self.line = QLabel()
        self.line.setObjectName("result")
        self.line.setWordWrap(True)
        self.line.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        self.buttons = QHBoxLayout()  # a panel may add one
        self.buttons.addWidget(self.button, 1)
        layout.addLayout(self.buttons)
        layout.addWidget(self.bar)
        layout.addWidget(self.line)
        session().queue.changed.connect(self._show_queue)
        self._idle()

    def follow(self, job: Job) -> None:
        """Show a job from now on; its button becomes Stop."""
        self.job = job
        self.button.setText("Stop")
        self.button.setToolTip(STOP_HELP)
        # Not Qt's moving bar: each of its steps draws the canvas anew, half a core's work without a graphics card.
        self.bar.setRange(0, PARTS)
        self.bar.setValue(0)
        self.bar.show()
        job.progressed.connect(self._show_progress)
        job.failed.connect(self._show_error)
        job.cancelled.connect(self._show_stop)
        job.finished.connect(self._finished)
        self.line.setText("starting ...")
        self._show_queue()

    def offer(self, label: str, help: str) -> None:
        """Let the button do something else from now on, once the present job is done."""
        self._label, self._help = label, help
        if self.job is None:
            self._idle()

    def run(self) -> None:
        """Ask the panel to run, unless its job runs already."""
        if self.job is None:
            self.requested.emit()

    def stop(self) -> None:
        """Stop the panel's job, if there is one."""
        if self.job is not None:
            self.button.setText("Stopping ...")
            self.button.setEnabled(False)
            self.job.stop()

    def say(self, text: str) -> None:
        """Show a line of result."""
        self.line.setText(text)

    def _clicked(self) -> None:
        self.run() if self.job is None else self.stop()

    def _show_progress(self, event: ProgressEvent) -> None:
        self.bar.setValue(int(PARTS * share(event)))
        self.line.setText(self._describe(event))

    def _show_queue(self) -> None:
        if self.job is None or self.job.running:
            return
        ahead = session().queue.ahead(self.job)
        if ahead:
            titles = ", ".join(job.title for job in ahead)
            self.line.setText(f"waits for {len(ahead)} job{'s' * (len(ahead) > 1)} on this device: {titles}")

    def _show_error(self, error: BaseException) -> None:
        show_problem(error)
        self.line.setText(error.problem if isinstance(error, ReconError) else "It failed; see the notification.")

    def _show_stop(self) -> None:
        self.line.setText("Stopped.")

    def _finished(self) -> None:
        self.job = None
        self._idle()
        self.job_ended.emit()

    def _idle(self) -> None:
        self.button.setText(self._label)
        self.button.setToolTip(f"{self._help} Key: Return.")
        self.button.setEnabled(True)
        self.bar.hide()


def show_problem(error: BaseException) -> None:
    """Tell the user: an error of his with its next step; a bug of ours through napari, with its traceback."""
    if isinstance(error, ReconError):
        show_error(f"{error.problem}\n{error.hint}".strip())
    else:
        notification_manager.receive_error(type(error), error, error.__traceback__)


def duration(seconds: float) -> str:
    """Write a number of seconds as ``0:42`` or ``1:02:03``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
