"""What all panels of one napari share: the job queue, the models of this sitting, and what torch found here.

It belongs to the Qt application, not to a module, so that it ends with it.
"""

import builtins
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QCoreApplication, QObject, Signal

from napari_recon.errors import ReconError
from napari_recon.library import models_folder
from napari_recon.plugin._activity import ActivityBar
from napari_recon.plugin._jobs import Job, JobQueue, Work
from napari_recon.plugin._requests import Trained
from napari_recon.progress import CancelToken, ProgressCallback

if TYPE_CHECKING:
    from napari_recon.checkpoint import TrainedModel
    from napari_recon.device import DeviceInfo

NAME = "napari-recon session"


class Session(QObject):
    """The shared state of the panels."""

    devices_found = Signal()
    models_changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(NAME)
        self.queue = JobQueue(self)
        self.devices: list[DeviceInfo] = []
        self.trained: list[tuple[TrainedModel, Path | None]] = []
        self._warm_up: Job | None = None
        self._asides: list[Job] = []

    def warm_up(self) -> None:
        """Import torch in the background, so that the first run does not wait for it."""
        if self._warm_up is not None:
            return
        self._warm_up = self.aside("Look for devices", _find_devices)
        self._warm_up.returned.connect(self._set_devices)
        self._warm_up.start()

    def aside(self, title: str, work: Work) -> Job:
        """Make a short job that need not wait for a device; the caller connects and starts it."""
        job = Job(title, work, self)
        self._asides.append(job)
        job.finished.connect(self._forget_asides)
        return job

    def submit(self, job: Job, device: str) -> None:
        """Queue a job for a device, with a bar in napari's activity dock."""
        ActivityBar(job)
        if device == "auto" and self.devices:
            device = self.devices[0].name
        self.queue.submit(job, device)

    def add_model(self, model: "TrainedModel", path: Path | None) -> None:
        """Remember a model that was trained in this sitting, and where it was saved (None: nowhere)."""
        self.trained.insert(0, (model, path))
        self.models_changed.emit()

    def release_networks(self) -> None:
        """Let the models of this sitting go without their networks until they are used again; free a GPU's memory."""
        for model, _ in self.trained:
            model.release()
        if self.devices:  # else torch may be half imported: the panel was closed as soon as it was opened
            import torch

            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()

    def rename_model(self, trained: Trained, name: str) -> Trained:
        """Save a model of this sitting under another name instead of its automatic one.

        Raises
        ------
        ReconError
            When there is a model of that name, or it cannot be written.
        """
        from napari_recon import api

        path = models_folder() / f"{name.strip()}.safetensors"
        if path.exists():
            raise ReconError(f"There is a model named {name.strip()!r} already.", "Choose another name.")
        renamed = Trained(trained.model, api.save_model(trained.model, name))
        if trained.path is not None:
            trained.path.unlink(missing_ok=True)
        self.trained = [(m, renamed.path if m is trained.model else p) for m, p in self.trained]
        self.models_changed.emit()
        return renamed

    def close(self) -> None:
        """Stop all jobs and wait until no thread is left."""
        self.queue.close()
        for job in self._asides:
            job.stop()
            job.join()

    def _set_devices(self, devices: Any) -> None:
        self.devices = devices
        self.queue.rename("auto", devices[0].name)
        self.devices_found.emit()

    def _forget_asides(self) -> None:
        for job in [j for j in self._asides if not j.active]:
            self._asides.remove(job)
            job.deleteLater()


def session() -> Session:
    """Return the session of the running application; made when first asked for."""
    application = QCoreApplication.instance()
    assert application is not None, "a panel is opened within a Qt application"
    found = application.findChild(QObject, NAME)
    if isinstance(found, Session):
        return found
    made = Session(application)
    application.aboutToQuit.connect(made.close)
    return made


def _find_devices(on_progress: ProgressCallback, cancel: CancelToken) -> list["DeviceInfo"]:
    with _imports_not_searched():
        import napari_recon.api  # noqa: F401 (what every job needs; seconds the first time)
    from napari_recon.device import describe_devices

    # Not pyqtgraph, whose import makes classes of Qt: off the main thread that can end the program.
    return describe_devices()


@contextmanager
def _imports_not_searched() -> Iterator[None]:
    """Import as Python does. PySide reads the source of each imported module in search of its own name.

    None of torch's 1500 modules uses it, and that reading takes a quarter of the time.
    """
    searching, plain = builtins.__import__, getattr(builtins, "__orig_import__", None)
    if plain is not None:
        builtins.__import__ = plain
    try:
        yield
    finally:
        builtins.__import__ = searching
