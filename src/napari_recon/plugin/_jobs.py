"""A job: work on a thread of its own that reports, stops when asked, and never loses its result.

napari's own workers do not serve here: their ``quit()`` stops nothing and drops the return value, and a progress bar
made inside of them builds its widget off the main thread.
"""

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, Qt, Signal

from napari_recon.errors import Cancelled
from napari_recon.progress import CancelToken, ProgressCallback, ProgressEvent

NICENESS = 5  # more, and a second busy program would bring training to a halt

Work = Callable[[ProgressCallback, CancelToken], Any]


class Job(QObject):
    """One piece of work on a thread of its own. All signals come on the main thread.

    Parameters
    ----------
    title : str
        For people, such as ``"Denoise cells"``.
    work : callable
        Called on the thread with a progress callback and a `CancelToken`; what it returns is the result.
    """

    started = Signal()
    progressed = Signal(object)  # ProgressEvent
    returned = Signal(object)  # the result, also of a job that was asked to stop
    failed = Signal(object)  # the exception
    cancelled = Signal()  # stopped before there was a result
    finished = Signal()  # always the last, also of a job stopped while it waited
    _woken = Signal()

    def __init__(self, title: str, work: Work, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.title = title
        self.token = CancelToken()
        self.active = True  # waits or runs
        self.last_event: ProgressEvent | None = None
        self._work = work
        self._thread: threading.Thread | None = None
        self._messages: deque[tuple[str, Any]] = deque()
        self._delivering = False
        # Queued by name: the sender is a plain Python thread, of which not every binding knows that it is another.
        self._woken.connect(self._deliver, Qt.ConnectionType.QueuedConnection)

    @property
    def running(self) -> bool:
        """Whether the work has begun and its end was not yet announced."""
        return self._thread is not None and self.active

    def start(self) -> None:
        """Begin the work."""
        # Not a daemon: torch must not be running while the interpreter is taken down.
        self._thread = threading.Thread(target=self._run, name=f"napari-recon {self.title}")
        self._thread.start()
        self.started.emit()

    def stop(self) -> None:
        """Ask the work to stop; what it returns is delivered all the same."""
        self.token.cancel()
        if self._thread is None and self.active:
            self.active = False
            self.cancelled.emit()
            self.finished.emit()

    def join(self) -> None:
        """Wait for the thread to end."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        if sys.platform == "linux":
            # Here niceness is a thread's own, and torch's threads inherit it: the window is drawn first.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        try:
            message = ("returned", self._work(self._report, self.token))
        except Cancelled:
            message = ("cancelled", None)
        except BaseException as error:  # delivered to the main thread, which shows it
            message = ("failed", error)
        self._post(*message)

    def _report(self, event: ProgressEvent) -> None:
        if not threading.main_thread().is_alive():
            self.token.cancel()  # the interpreter is shutting down and waits for this thread
        self._post("progressed", event)

    def _post(self, kind: str, content: Any) -> None:
        self._messages.append((kind, content))
        self._woken.emit()

    def _deliver(self) -> None:
        # napari's activity bar runs the event loop while it is updated, so this may be called from within itself.
        if self._delivering:
            return
        self._delivering = True
        try:
            while self._messages:
                self._handle(*self._messages.popleft())
        finally:
            self._delivering = False

    def _handle(self, kind: str, content: Any) -> None:
        if kind == "progressed":
            self.last_event = content
            self.progressed.emit(content)
            return
        self.join()
        self.active = False
        if kind == "returned":
            self.returned.emit(content)
        elif kind == "failed":
            self.failed.emit(content)
        else:
            self.cancelled.emit()
        self.finished.emit()
        self._work = _nothing  # lets go of the images


class JobQueue(QObject):
    """Runs one job at a time on each device; the others wait in the order in which they came."""

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._lanes: dict[str, list[Job]] = {}

    def submit(self, job: Job, device: str) -> None:
        """Run `job` on `device`, now or when its turn comes."""
        job.setParent(self)
        lane = self._lanes.setdefault(device, [])
        lane.append(job)
        job.finished.connect(self._advance)
        if lane[0] is job:
            job.start()
        self.changed.emit()

    def rename(self, old: str, new: str) -> None:
        """Let the jobs of a device wait under its other name, once that is known."""
        if old in self._lanes and old != new:
            self._lanes[new] = self._lanes.pop(old) + self._lanes.get(new, [])

    def ahead(self, job: Job) -> list[Job]:
        """Jobs that run or wait before `job`."""
        for lane in self._lanes.values():
            if job in lane:
                return lane[: lane.index(job)]
        return []

    def jobs(self) -> list[Job]:
        """All jobs that run or wait."""
        return [job for lane in self._lanes.values() for job in lane if job.active]

    def close(self) -> None:
        """Stop everything and wait until no thread is left."""
        jobs = self.jobs()
        for job in reversed(jobs):  # the waiting ones first, so that none of them starts
            job.stop()
        for job in jobs:
            job.join()

    def _advance(self) -> None:
        for lane in self._lanes.values():
            for job in [j for j in lane if not j.active]:
                lane.remove(job)
                job.deleteLater()
            if lane and not lane[0].running:
                lane[0].start()
        self.changed.emit()


def _nothing(on_progress: ProgressCallback, cancel: CancelToken) -> None:
    pass
