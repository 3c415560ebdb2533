"""The result of a run of which only what is asked for is computed, tile by tile, and kept within bounds.

Knows no torch until it computes, so that a viewer can show such a result at once.
"""

from __future__ import annotations

import itertools
import operator
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_recon.axes import from_batch, split_axes, to_batch
from napari_recon.image import Image
from napari_recon.inference.pixel_type import cast

if TYPE_CHECKING:
    from napari_recon.inference.runner import TileRunner

CACHE = 2**30  # bytes

Key = tuple[int, int]
"""One job of a run: the number of its planes, and that of its tile."""

Make = Callable[[], "tuple[TileRunner, dict[str, Any]]"]


class Region(NamedTuple):
    """A part of a result as networks see it: samples, channels, and spatial slices."""

    samples: list[int]
    channels: range
    sides: tuple[slice, ...]


class Plan:
    """How a run falls into jobs, and where in the result each belongs.

    Parameters
    ----------
    runner : TileRunner
        Asked for the same jobs as its `run` would do.
    """

    def __init__(self, runner: TileRunner) -> None:
        self.runner = runner
        self.units: list[tuple[slice, slice]] = []
        unit_of: list[int] = []
        while len(unit_of) < runner.planes:
            unit = runner.unit(len(unit_of))
            unit_of += [len(self.units)] * (unit[0].stop - unit[0].start)
            self.units.append(unit)
        self._unit_of = unit_of
        self._samples = int(runner.batch.shape[0])
        self.jobs = runner.jobs(self.units[0])  # other planes are cut alike
        self.sides = [runner.place(job)[2:] for job in self.jobs]

    def keys(self, region: Region) -> list[Key]:
        """Return the jobs that a region needs, in its order."""
        together = self.units[0][1].stop - self.units[0][1].start
        groups = dict.fromkeys(c // together for c in region.channels)
        units = dict.fromkeys(self._unit_of[g * self._samples + n] for g in groups for n in region.samples)
        tiles = [t for t, sides in enumerate(self.sides) if all(map(_overlap, sides, region.sides))]
        return [(u, t) for u in units for t in tiles]

    def pixels(self, key: Key) -> int:
        """Return how many pixels a job makes."""
        spans = (*self.units[key[0]], *self.sides[key[1]])
        return int(np.prod([s.stop - s.start for s in spans]))

    def compute(self, key: Key, stop: Callable[[], bool] | None) -> NDArray[np.float32]:
        """Do a job; raises `Cancelled` soon after `stop` says so."""
        with self.runner.interruptible(stop):
            (values,) = self.runner.compute(self.jobs[key[1]]._replace(unit=self.units[key[0]]))
        return np.asarray(values)

    def paste(self, key: Key, values: NDArray[Any], out: NDArray[Any], region: Region) -> None:
        """Copy what a job made to where it belongs in the pixels of a region (samples, channels, *sides)."""
        (samples, channels), sides = self.units[key[0]], self.sides[key[1]]
        wanted = slice(region.channels.start, region.channels.stop)
        pairs = [_shared(a, b) for a, b in zip((channels, *sides), (wanted, *region.sides), strict=True)]
        source, target = tuple(a for a, _ in pairs), tuple(b for _, b in pairs)
        for i, n in enumerate(region.samples):
            if samples.start <= n < samples.stop:
                there: tuple[Any, ...] = (i, *target)
                here: tuple[Any, ...] = (n - samples.start, *source)
                out[there] = values[here]


class LazyResult:
    """An array, of which each tile is computed when it is first read.

    Whatever is read equals, bit for bit, what the whole run would have given. Thread-safe.

    Parameters
    ----------
    source : Image
        What the run is about.
    spatial : str
        Axes that the network sees at once.
    scale : int
        Pixels of the result per pixel of the source, along Y and X.
    dtype : dtype
        Pixel type of the result.
    make : callable
        Prepares the run, on the thread that first needs it: returns a runner and the record of how results are made.
    limit : int
        Bytes of tiles to keep, beside those of one region that is being shown.
    """

    def __init__(
        self, source: Image, spatial: str, scale: int, dtype: np.dtype[Any], make: Make, limit: int = CACHE
    ) -> None:
        self.source, self.spatial, self.scale, self.dtype, self.limit = source, spatial, scale, np.dtype(dtype), limit
        sizes = zip(source.axes, source.shape, strict=True)
        self.shape = tuple(n * scale if axis in "YX" else n for axis, n in sizes)
        self.ndim = len(self.shape)
        self.record: dict[str, Any] = {}
        self.plan: Plan | None = None  # None until it is prepared
        self._make = make
        self._kept: OrderedDict[Key, NDArray[Any]] = OrderedDict()  # the longest unused first
        self._shown: frozenset[Key] = frozenset()  # not to be dropped
        self._state = threading.Lock()
        self._computing = threading.RLock()

    def __getitem__(self, index: Any) -> NDArray[Any]:
        found = split_index(index, self.shape)
        if found is None:  # picks single pixels
            return np.asarray(np.asarray(self)[index])
        slices, rest = found
        return np.asarray(self.read(slices)[rest])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.read([slice(0, n) for n in self.shape]), dtype)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes_kept(self) -> int:
        """Bytes of the tiles that are kept."""
        with self._state:
            return sum(values.nbytes for values in self._kept.values())

    def kept(self, key: Key) -> bool:
        """Whether a tile is there."""
        with self._state:
            return key in self._kept

    def prepare(self) -> Plan:
        """Measure and cut the image, unless that was done."""
        with self._computing:
            if self.plan is None:
                runner, self.record = self._make()
                self.plan = Plan(runner)
            return self.plan

    def release(self) -> None:
        """Let go of the network and of all tiles; whatever is read later is prepared and computed anew."""
        with self._computing, self._state:
            self.plan = None
            self._kept.clear()
            self._shown = frozenset()

    def protect(self, keys: frozenset[Key]) -> None:
        """Keep these tiles before all others."""
        with self._state:
            self._shown = keys

    def region(self, slices: Sequence[slice]) -> Region:
        """Return what networks see of a part of the result, given one slice for each axis."""
        along = dict(zip(self.source.axes, slices, strict=True))
        split = split_axes(self.source.axes, self.spatial)
        samples = []
        for place in itertools.product(*(range(along[a].start, along[a].stop) for a in split.samples)):
            number = 0
            for axis, position in zip(split.samples, place, strict=True):
                number = number * self.source.size(axis) + position
            samples.append(number)
        channels = along.get(split.channel, slice(0, 1))
        return Region(samples, range(channels.start, channels.stop), tuple(along[a] for a in split.spatial))

    def read(self, slices: Sequence[slice]) -> NDArray[Any]:
        """Compute a part of the result, given one slice for each axis."""
        region = self.region(slices)
        while True:
            plan = self.prepare()
            shape = (len(region.samples), len(region.channels), *(s.stop - s.start for s in region.sides))
            out = np.empty(shape, self.dtype)
            for key in plan.keys(region):
                values = self.tile(plan, key)
                if values is None:
                    break
                plan.paste(key, values, out, region)
            else:
                return self._in_order(out, slices)

    def peek(self, slices: Sequence[slice]) -> NDArray[Any]:
        """Return a part of the result at once; where it was not computed yet, the source's pixels.

        A source that does not lie in memory takes time to read: there, black.
        """
        region, plan = self.region(slices), self.plan
        out = self._placeholder(slices)
        if plan is None:
            return out
        # A copy, for merged axes may not be a view.
        batch = np.array(to_batch(out, self.source.axes, self.spatial))
        for key in plan.keys(region):
            with self._state:
                values = self._kept.get(key)
                if values is not None:
                    self._kept.move_to_end(key)
            if values is not None:
                plan.paste(key, values, batch, region)
        return self._in_order(batch, slices)

    def tile(self, plan: Plan, key: Key, stop: Callable[[], bool] | None = None) -> NDArray[Any] | None:
        """Compute a tile unless it is there; None when memory was short, and the image is cut anew.

        Raises
        ------
        Cancelled
            Soon after `stop` says so.
        """
        with self._computing:
            if plan is not self.plan:
                return None
            with self._state:
                values = self._kept.get(key)
            if values is None:
                try:
                    values, _ = cast(plan.compute(key, stop), self.dtype)
                except (RuntimeError, MemoryError) as error:
                    self._cut_anew(plan.runner, error)
                    return None
                self._keep(key, values)
            return values

    def _cut_anew(self, runner: TileRunner, error: Exception) -> None:
        from napari_recon.device import is_out_of_memory

        if not is_out_of_memory(error):
            raise error
        runner.use_less_memory()
        with self._state:
            self._kept.clear()
            self._shown = frozenset()
        self.plan = Plan(runner)

    def _keep(self, key: Key, values: NDArray[Any]) -> None:
        with self._state:
            self._kept[key] = values
            total = sum(v.nbytes for v in self._kept.values())
            for old in [k for k in self._kept if k != key and k not in self._shown]:
                if total <= self.limit:
                    break
                total -= self._kept.pop(old).nbytes

    def _in_order(self, batch: NDArray[Any], slices: Sequence[slice]) -> NDArray[Any]:
        """Bring pixels (samples, channels, *sides) into the order of the axes."""
        shape = [s.stop - s.start for s in slices]
        return np.asarray(from_batch(batch, self.source.axes, shape, self.spatial))

    def _placeholder(self, slices: Sequence[slice]) -> NDArray[Any]:
        axes, scale = self.source.axes, self.scale
        if not isinstance(self.source.array, np.ndarray):
            return np.zeros([s.stop - s.start for s in slices], self.dtype)
        coarse, fine = [], []
        for axis, part in zip(axes, slices, strict=True):
            factor = scale if axis in "YX" else 1
            first = part.start // factor
            coarse.append(slice(first, -(-part.stop // factor)))
            fine.append(slice(part.start - factor * first, part.stop - factor * first))
        pixels = self.source.array[tuple(coarse)]
        for axis in "YX" if scale > 1 else "":
            pixels = np.repeat(pixels, scale, axes.index(axis))
        return np.asarray(pixels[tuple(fine)].astype(self.dtype))


def split_index(index: Any, shape: Sequence[int]) -> tuple[list[slice], tuple[Any, ...]] | None:
    """Write an index as one plain slice for each axis, and what to take of the part they cut out.

    None for an index that picks single pixels by lists or masks.
    """
    given = list(index) if isinstance(index, tuple) else [index]
    if not all(isinstance(i, slice | int | np.integer | EllipsisType) for i in given):
        return None
    missing = [slice(None)] * (len(shape) - sum(i is not Ellipsis for i in given))
    if Ellipsis in given:
        at = given.index(Ellipsis)
        given[at : at + 1] = missing
    else:
        given += missing
    if len(given) != len(shape):
        raise IndexError(f"{len(given)} indices for {len(shape)} axes")
    slices: list[slice] = []
    rest: list[Any] = []
    for i, n in zip(given, shape, strict=True):
        if isinstance(i, slice):
            places = range(*i.indices(n))
            slices.append(slice(min(places), max(places) + 1) if places else slice(0, 0))
            rest.append(slice(None, None, places.step))
            continue
        position = operator.index(i)
        if not -n <= position < n:
            raise IndexError(f"there is no position {position} among {n}")
        slices.append(slice(position % n, position % n + 1))
        rest.append(0)
    return slices, tuple(rest)


def _overlap(a: slice, b: slice) -> bool:
    return bool(a.start < b.stop and b.start < a.stop)


def _shared(a: slice, b: slice) -> tuple[slice, slice]:
    """What two spans have in common, counted from the start of each."""
    start, stop = max(a.start, b.start), min(a.stop, b.stop)
    return slice(start - a.start, stop - a.start), slice(start - b.start, stop - b.start)
