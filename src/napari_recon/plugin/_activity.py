"""A job's bar in napari's activity dock. Made on the main thread, as it builds a widget."""

import time

from napari.utils.progress import cancelable_progress
from qtpy.QtCore import QObject

from napari_recon.plugin._jobs import Job
from napari_recon.progress import ProgressEvent

PARTS = 100  # a bar in percent, as a training may not know its number of steps
INTERVAL = 0.5  # seconds; each update of the bar runs the event loop


class _Bar(cancelable_progress):
    """napari's bar only stops an iteration when cancelled; this one stops a job."""

    def cancel(self) -> None:
        super().cancel()
        self.cancel_callback()


class ActivityBar(QObject):
    """Shows a job in the activity dock while it runs; belongs to the job.

    Not before it has reported for a while: napari turns a wheel beside its bars, and each step of it draws the whole
    window, at the cost of what comes before the first report, such as the import of torch.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._job = job
        self._bar: _Bar | None = None
        self._updated = 0.0
        job.progressed.connect(self._update)
        job.finished.connect(self._close)

    def _update(self, event: ProgressEvent) -> None:
        now = time.monotonic()
        self._updated = self._updated or now
        if now - self._updated < INTERVAL:
            return
        self._updated = now
        if self._bar is None:
            self._bar = _Bar(desc=self._job.title, total=PARTS, cancel_callback=self._job.stop)
        part = int(PARTS * share(event))
        if part > self._bar.n:
            self._bar.update(part - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def share(event: ProgressEvent) -> float:
    """Part of the work that is done, 0 to 1; 0 while unknown."""
    return min(event.done / event.total, 1.0) if event.total else 0.0
