"""How a long job tells how far it is, and how it is told to stop. Knows no GUI and no thread."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from napari_recon.errors import Cancelled


@dataclass(frozen=True)
class ProgressEvent:
    """One message from a running job.

    Parameters
    ----------
    phase : str
        What is being done, such as ``"train"`` or ``"denoise"``.
    done, total : int
        Units finished and units in all (steps, tiles); `total` is 0 while it is unknown.
    eta : float or None
        Seconds left, None while unknown.
    message : str
        A line for the user, empty when there is nothing to say beyond the numbers.
    values : mapping of str to float
        Named numbers of the moment, such as ``{"loss": 0.1, "validation": 0.12}``.
    preview : numpy.ndarray or None
        A picture of the present state, when the job makes one.
    """

    phase: str
    done: int
    total: int = 0
    eta: float | None = None
    message: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    preview: Any = None


ProgressCallback = Callable[[ProgressEvent], None]


class CancelToken:
    """A switch shared between the one who waits and the one who works. Thread-safe."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the job to stop at its next check (every batch and every tile)."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether a stop was asked for."""
        return self._event.is_set()

    def raise_if_cancelled(self) -> None:
        """Raise `Cancelled` when a stop was asked for."""
        if self._event.is_set():
            raise Cancelled


class Reporter:
    """Sends `ProgressEvent`s of one phase, at most about ten a second.

    Parameters
    ----------
    on_progress : callable or None
        Receives the events; None sends nothing.
    phase : str
        Phase written into every event.
    total : int
        Units in all, 0 when unknown.
    interval : float
        Least number of seconds between two events that are not forced.
    """

    def __init__(
        self,
        on_progress: ProgressCallback | None,
        phase: str,
        total: int = 0,
        interval: float = 0.1,
    ) -> None:
        self._on_progress = on_progress
        self._phase = phase
        self.total = total
        self._interval = interval
        self._start = time.monotonic()
        self._last = float("-inf")

    def update(
        self,
        done: int,
        *,
        eta: float | None = None,
        message: str = "",
        values: Mapping[str, float] | None = None,
        preview: Any = None,
        force: bool = False,
    ) -> None:
        """Report `done` units; dropped when the last event is too recent, unless forced or final.

        `eta` in seconds; when None it follows from the pace so far.
        """
        if self._on_progress is None:
            return
        now = time.monotonic()
        final = self.total > 0 and done >= self.total
        if not (force or final or message or preview is not None or now - self._last >= self._interval):
            return
        self._last = now
        if eta is None and self.total and done:
            eta = (now - self._start) * (self.total - done) / done
        self._on_progress(ProgressEvent(self._phase, done, self.total, eta, message, dict(values or {}), preview))
