"""A result for a viewer: at once what there is, while a thread computes what is on screen, then what is next."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_recon.errors import Cancelled
from napari_recon.inference.lazy import Key, LazyResult, Plan, split_index
from napari_recon.progress import CancelToken

AHEAD = 4  # positions in the direction of scrolling; more would heat a laptop for nothing
PATIENCE = 0.2  # seconds between two looks at whether to stop

Part = Mapping[str, slice]
"""Part of a result by axis; axes that are left out are taken whole."""


class LiveResult:
    """Array whose pixels become those of the whole run one tile after the other.

    Indexing never waits: what was not computed yet shows the source's pixels. ``numpy.asarray`` waits for everything,
    so that what is saved is complete.

    Parameters
    ----------
    complete : LazyResult
        The result, of which indexing waits.
    """

    def __init__(self, complete: LazyResult) -> None:
        self.complete = complete
        self.shape, self.ndim, self.dtype = complete.shape, complete.ndim, complete.dtype
        self.size = int(np.prod(self.shape))
        self.nbytes = self.size * self.dtype.itemsize
        self._wake = threading.Condition()
        self._view: tuple[Part | None, Part | None] = (None, None)  # on screen, and of that what is visible
        self._direction = {a: 1 for a, n in zip(complete.source.axes, self.shape, strict=True) if n > 1}
        self._number = 0  # of the view, by which the thread sees that it changed

    def __getitem__(self, index: Any) -> NDArray[Any]:
        found = split_index(index, self.shape)
        if found is None:  # picks single pixels
            return np.asarray(self.complete[index])
        slices, rest = found
        return np.asarray(self.complete.peek(slices)[rest])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.complete.__array__(dtype, copy)

    def __len__(self) -> int:
        return self.shape[0]

    def astype(self, dtype: Any) -> NDArray[Any]:
        """Compute everything, as another type."""
        return self.__array__(dtype)

    def look_at(self, shown: Part | None, visible: Part | None = None) -> None:
        """Say what is on screen: that is computed before all else; None for nothing.

        Work on what is no longer wanted is given up.

        Parameters
        ----------
        shown : mapping of str to slice or None
            Part of the result that the viewer draws, such as one plane.
        visible : mapping of str to slice, optional
            What of it is not outside the canvas: comes first.
        """
        with self._wake:
            before = self._view[0]
            if (shown, visible) == self._view:
                return
            if shown and before:
                moved = {a: s.start - before[a].start for a, s in shown.items() if a in before}
                steps = {a: 1 if step > 0 else -1 for a, step in moved.items() if step}
                # What moved last is what moves next.
                self._direction = {**steps, **{a: d for a, d in self._direction.items() if a not in steps}}
            self._view = shown, visible
            self._number += 1
            self._wake.notify()

    def done(self) -> bool:
        """Whether all that is on screen was computed."""
        plan, shown = self.complete.plan, self._view[0]
        return plan is not None and shown is not None and all(map(self.complete.kept, self._keys(plan, shown)))

    def serve(self, on_ready: Callable[[], None], cancel: CancelToken) -> None:
        """Compute what is wanted until told to stop. Call it on a thread of its own.

        Parameters
        ----------
        on_ready : callable
            Called on this thread once the run is prepared, and whenever there is more of what is on screen.
        """
        self.complete.prepare()
        on_ready()
        order = _Order(-1, [], frozenset())
        # The interpreter waits for this thread when it shuts down.
        while not cancel.cancelled and threading.main_thread().is_alive():
            plan = self.complete.prepare()
            order = self._order(plan, order)
            key = next((k for k in order.keys if not self.complete.kept(k)), None)
            if key is None:
                with self._wake:
                    if order.number == self._number:
                        self._wake.wait(PATIENCE)
                continue
            current = [order]  # as the view changes

            def stop(key: Key = key, plan: Plan = plan, current: list[_Order] = current) -> bool:
                current[0] = self._order(plan, current[0])
                return cancel.cancelled or not self._wanted(key, current[0])

            try:
                done = self.complete.tile(plan, key, stop)
            except Cancelled:
                continue
            if done is None:
                order = _Order(-1, [], frozenset())  # of another cut
            elif key in order.urgent:
                on_ready()

    def _wanted(self, key: Key, order: _Order) -> bool:
        """Whether to finish a tile: it is on screen, or it comes next and all that is on screen is there."""
        if key in order.urgent:
            return True
        return key in order.keys and all(map(self.complete.kept, order.urgent))

    def _order(self, plan: Plan, before: _Order) -> _Order:
        """Return what to compute in which order, anew only when the view changed."""
        with self._wake:
            (shown, visible), number, direction = self._view, self._number, dict(self._direction)
        if number == before.number:
            return before
        if shown is None:
            self.complete.protect(frozenset())
            return _Order(number, [], frozenset())
        on_screen = self._keys(plan, shown)
        first = set(self._keys(plan, {**shown, **(visible or {})}))
        keys = sorted(on_screen, key=lambda k: k not in first)
        room = self.complete.limit - sum(map(plan.pixels, keys)) * self.dtype.itemsize
        for part in self._next(shown, direction):
            new = [k for k in self._keys(plan, part) if k not in keys]
            room -= sum(map(plan.pixels, new)) * self.dtype.itemsize
            if room < 0:
                break
            keys += new
        self.complete.protect(frozenset(keys))
        return _Order(number, keys, frozenset(on_screen))

    def _next(self, shown: Part, direction: Mapping[str, int]) -> list[Part]:
        """Where scrolling on will lead to: the axis that moved last, else the first that has a slider."""
        sizes = dict(zip(self.complete.source.axes, self.shape, strict=True))
        axis = next((a for a in direction if a in shown and shown[a].stop - shown[a].start == 1), None)
        if axis is None:
            return []
        places = (shown[axis].start + k * direction[axis] for k in range(1, AHEAD + 1))
        return [{**shown, axis: slice(p, p + 1)} for p in places if 0 <= p < sizes[axis]]

    def _keys(self, plan: Plan, part: Part) -> list[Key]:
        axes = self.complete.source.axes
        slices = [part.get(a, slice(0, n)) for a, n in zip(axes, self.shape, strict=True)]
        return plan.keys(self.complete.region(slices))


class _Order:
    """What to compute, the most urgent first, for the view of a number; `urgent` is on screen."""

    def __init__(self, number: int, keys: list[Key], urgent: frozenset[Key]) -> None:
        self.number, self.keys, self.urgent = number, keys, urgent
