"""Run a network over an image of any size, tile by tile, into OME-Zarr: a tile is a chunk of the result."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from napari_recon.axes import split_axes
from napari_recon.data.normalization import Normalization
from napari_recon.device import is_out_of_memory
from napari_recon.image import Image
from napari_recon.inference.pixel_type import clipping_note, fit
from napari_recon.inference.runner import Job, TileRunner
from napari_recon.inference.tiling import plan_tiles
from napari_recon.inference.unfinished import Unfinished
from napari_recon.io import ome_zarr
from napari_recon.io._files import is_store, writing
from napari_recon.io._ngff import stored_axes
from napari_recon.progress import CancelToken, ProgressCallback, Reporter

LARGEST_CHUNK = 2048  # side, in pixels of the result
LOOKED_AT = 16  # places of an image on disk, whose pixels tell it from another
LOOKED_SIDE = 64
_TOKEN = "settings"  # name, in the record of a store, of what stands for all that it depends on

Slices = tuple[slice, ...]
Make = Callable[..., TileRunner]


class Target(NamedTuple):
    """A store to fill.

    Parameters
    ----------
    path : Path
        Where it will be.
    like : Image
        Its shape, pixel type and physics; the pixels are not looked at.
    first, many : int
        Which outputs of the runner it takes; with `many` 0 one, else as many along a first axis (S) of their own.
    """

    path: Path
    like: Image
    first: int = 0
    many: int = 0


class Answer(NamedTuple):
    """What came of a job: its number, where the pixels belong, the pixels, and what is to be noted.

    `source` is the checksum of the pixels that it was made of.
    """

    number: int
    place: Slices
    values: NDArray[np.float32]
    notes: list[str]
    source: int | None


@dataclass
class Work:
    """What to compute, in a form that goes to another process; `make` makes the runner at its first use there."""

    make: Callable[[], TileRunner]
    _runner: TileRunner | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"make": self.make}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def answer(self, number: int, job: Job, stop: Callable[[], bool] | None = None) -> Answer:
        """Do one job, one at a time; raises `Cancelled` soon after `stop` says so."""
        with self._lock:
            if self._runner is None:
                self._runner = self.make()
            runner = self._runner
            known = len(runner.notes)
            with runner.interruptible(stop):
                values = _compute(runner, job)
            return Answer(number, runner.place(job), values, runner.notes[known:], _checksum(runner, job))


def _compute(runner: TileRunner, job: Job) -> NDArray[np.float32]:
    """Do one job, in smaller parts or on the CPU when memory is short."""
    samples, place = job.unit[0], runner.place(job)
    result = np.empty((runner.outputs, *(s.stop - s.start for s in place)), np.float32)
    while True:
        try:
            for part in _parts(runner, samples, job):
                own = zip(runner.place(part), place, strict=True)
                inside = (slice(None), *(slice(s.start - p.start, s.stop - p.start) for s, p in own))
                result[inside] = runner.compute(part)
            return result
        except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            runner.use_less_memory()


def _parts(runner: TileRunner, samples: slice, job: Job) -> Iterator[Job]:
    """Cut a job; it stays whole as long as its runner has the tiles that it was planned with."""
    step = max(samples.stop - samples.start, 1) if runner.tile >= (runner.wanted_tile or 0) else runner.together
    for first in range(samples.start, samples.stop, step):
        unit = slice(first, min(first + step, samples.stop)), job.unit[1]
        multiple = runner.spec.size_multiple
        for tile in plan_tiles(runner.padded, runner.tile, runner.halo, multiple, within=job.tile.write):
            yield Job(unit, tile)


def _checksum(runner: TileRunner, job: Job) -> int | None:
    """Tell the pixels of a tile from others; None for an image in memory, which is compared as a whole."""
    if isinstance(runner.image.array, np.ndarray):
        return None
    own = (slice(s.start, min(s.stop, n)) for s, n in zip(job.tile.write, runner.shape, strict=True))
    return zlib.crc32(np.asarray(runner.batch[(*job.unit, *own)]).tobytes())


Workers = Callable[[Work, Iterator[tuple[int, Job]], CancelToken], Generator[Answer, None, None]]


def here(work: Work, jobs: Iterator[tuple[int, Job]], cancel: CancelToken) -> Generator[Answer, None, None]:
    """Do the jobs one after the other in this process."""
    for number, job in jobs:
        yield work.answer(number, job, lambda: cancel.cancelled)


def stream(
    make: Make,
    image: Image,
    targets: Sequence[Target],
    settings: dict[str, Any],
    record: Callable[[TileRunner, list[str]], dict[str, Any]],
    *,
    tile_size: int | None = None,
    workers: Workers = here,
    keep: bool = False,
    on_progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> None:
    """Fill stores with what a runner makes of an image; go on where an earlier run of the same settings stopped.

    Parameters
    ----------
    make : callable
        Makes the runner, given `normalization`, `tile_size` and `precision`; None to have them measured and chosen.
    image : Image
        What the runner works on.
    targets : sequence of Target
        The stores, all filled by the same jobs.
    settings : dict
        What the result depends on besides the image, as JSON types.
    record : callable
        Makes the record of how the stores were made, for their metadata.
    tile_size : int, optional
        Side of a tile; chosen by the runner when left out.
    workers : callable
        Does the jobs, in any order.
    keep : bool
        Leave complete stores of the same settings as they are.

    Raises
    ------
    ReconError
        When there is an unfinished run with other settings, or a store cannot be written; what is done is kept.
    Cancelled
        When stopped; what is done is kept.
    """
    settings = {**settings, "tile size": tile_size, **_fingerprint(image)}
    token = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    if keep and all(_token(t.path) == token for t in targets):
        return
    run = Unfinished.find([t.path for t in targets], settings)
    if not run.state:
        runner = make(normalization=None, tile_size=tile_size, precision=None)
        with writing(targets[0].path):
            _begin(run, targets, runner, tile_size)
    remake = partial(_remake, make, run.state)
    planner = remake()  # another than works: when memory is short that one changes its tiles
    jobs = list(_jobs(planner, run.state["together"]))
    cancel = cancel or CancelToken()
    _check_source(run, planner, jobs, on_progress, cancel)
    pending = ((n, job) for n, job in enumerate(jobs) if n not in run.done)
    levels = [ome_zarr.open_level(folder) for folder in run.folders]
    progress = _Progress(planner.spec.task, len(jobs), len(run.done), on_progress)
    try:
        with closing(workers(Work(remake), pending, cancel)) as answers:
            for answer in answers:
                with writing(targets[0].path):
                    clipped = [_write(*pair, answer, image, planner) for pair in zip(levels, targets, strict=True)]
                    run.note(answer.number, clipped=sum(clipped), notes=answer.notes, source=answer.source)
                progress.show(len(run.done))
    finally:
        run.close()
    with writing(targets[0].path):
        _finish(run, targets, planner, lambda runner, notes: {**record(runner, notes), _TOKEN: token})


class _Progress:
    """Reports jobs; the time left follows from those of this run."""

    def __init__(self, task: str, total: int, done: int, on_progress: ProgressCallback | None) -> None:
        self._reporter = Reporter(on_progress, task, total=total)
        self._first, self._start = done, time.monotonic()
        self._reporter.update(done, eta=0.0 if done == total else None, force=True)

    def show(self, done: int) -> None:
        pace = (time.monotonic() - self._start) / max(done - self._first, 1)
        self._reporter.update(done, eta=pace * (self._reporter.total - done))


def _remake(make: Make, state: dict[str, Any]) -> TileRunner:
    normalization = Normalization.from_json(state["normalization"])
    return make(normalization=normalization, tile_size=state["tile_size"], precision=state["precision"])


def _begin(run: Unfinished, targets: Sequence[Target], runner: TileRunner, tile_size: int | None) -> None:
    """Make the empty stores, then the note that the run has begun."""
    multiple, scale = runner.spec.size_multiple, runner.spec.scale
    side = runner.tile if tile_size else max(min(runner.tile, LARGEST_CHUNK // scale), 1)
    side = -(-side // multiple) * multiple
    for target, folder in zip(targets, run.folders, strict=True):
        axes, like = stored_axes(target.like.axes), target.like
        chunks = [min(scale * side, like.size(a)) if a in runner.spec.axes else 1 for a in axes]
        ome_zarr.create(folder, like, chunks)
    run.start(
        {
            "normalization": runner.normalization.to_json(),
            "tile_size": side,
            "together": runner.together,
            "precision": str(runner.dtype).removeprefix("torch."),
            "notes": runner.notes,
        }
    )


def _jobs(runner: TileRunner, together: int) -> Iterator[Job]:
    """All jobs, each of `together` samples at most: for chunks that last, the plan must not depend on the device."""
    samples, step = int(runner.batch.shape[0]), runner.spec.channels
    for channel in range(0, int(runner.batch.shape[1]), step):
        for first in range(0, samples, together):
            unit = slice(first, min(first + together, samples)), slice(channel, channel + step)
            yield from runner.jobs(unit)


def _check_source(
    run: Unfinished, runner: TileRunner, jobs: Sequence[Job], on_progress: ProgressCallback | None, cancel: CancelToken
) -> None:
    """Raise when the image has changed where an earlier run did its tiles; to read these takes far less than they took.

    What else is on disk is not read, and what it was before nobody needs to know.
    """
    reporter = Reporter(on_progress, "check", total=len(run.done))
    for count, (number, entry) in enumerate(run.done.items()):
        cancel.raise_if_cancelled()
        reporter.update(count)
        if entry.get("source") != _checksum(runner, jobs[number]):
            run.refuse(["image"])


def _write(level: Any, target: Target, answer: Answer, image: Image, runner: TileRunner) -> int:
    """Write what came of a job into one store; return how many pixels were clipped to its pixel type."""
    values = answer.values[target.first : target.first + max(target.many, 1)]
    pixels, clipped = fit(values, target.like.dtype)
    split, axes = split_axes(image.axes, runner.spec.axes), stored_axes(target.like.axes)
    sizes = [image.size(a) for a in split.samples]
    samples, channels, *sides = answer.place
    for output in range(len(pixels)):
        for i, sample in enumerate(range(samples.start, samples.stop)):
            places = dict(zip(split.samples, map(int, np.unravel_index(sample, sizes)), strict=True)) if sizes else {}
            s = output if target.many else places.get("S", 0)
            places["T"] = s * image.size("T") + places.get("T", 0)
            for c, channel in enumerate(range(channels.start, channels.stop)):
                at: dict[str, Any] = {**places, "C": channel, **dict(zip(split.spatial, sides, strict=True))}
                level[tuple(at[a] for a in axes)] = pixels[output, i, c]
    return clipped


def _finish(
    run: Unfinished,
    targets: Sequence[Target],
    runner: TileRunner,
    record: Callable[[TileRunner, list[str]], dict[str, Any]],
) -> None:
    """Add the pyramids and the record, and give the stores their names."""
    said = [*run.state["notes"], *runner.notes, *(note for entry in run.done.values() for note in entry["notes"])]
    notes = list(dict.fromkeys(said))
    clipped = sum(entry["clipped"] for entry in run.done.values())
    if clipped:
        pixels = sum(float(np.prod(t.like.shape, dtype=float)) for t in targets)
        notes.append(clipping_note(clipped / pixels, targets[0].like.dtype))
    made = record(runner, notes)
    for target, folder in zip(targets, run.folders, strict=True):
        metadata = {**target.like.metadata, "napari_recon": made}  # in place of how the source was made
        ome_zarr.finish(folder, target.like.with_array(target.like.array, metadata=metadata))
    run.finish()


def _token(path: Path) -> Any:
    if not is_store(path):
        return None
    return (ome_zarr.read(path).metadata.get("napari_recon") or {}).get(_TOKEN)


def like(image: Image, dtype: Any, scale: int = 1, **changes: Any) -> Image:
    """Return an image of the shape and physics of another, of nothing, that takes no memory."""
    shape = [scale * n if a in "YX" else n for n, a in zip(image.shape, image.axes, strict=True)]
    return image.with_array(np.broadcast_to(np.zeros((), dtype), shape), **changes)


def _fingerprint(image: Image) -> dict[str, Any]:
    """What tells an image from another; of what is not in memory only some places are read."""
    digest = hashlib.sha256()
    for index in _looked_at(image):
        digest.update(np.asarray(image.array[index]).tobytes())
    return {"shape": list(image.shape), "axes": image.axes, "type": str(image.dtype), "image": digest.hexdigest()[:16]}


def _looked_at(image: Image) -> Iterator[tuple[Any, ...]]:
    if isinstance(image.array, np.ndarray):
        yield from np.ndindex(image.shape[:-2])
        return
    blocks = [-(-n // LOOKED_SIDE) if a in "YX" else n for n, a in zip(image.shape, image.axes, strict=True)]
    for number in np.linspace(0, np.prod(blocks, dtype=float) - 1, LOOKED_AT).astype(np.int64):
        yield tuple(
            slice(int(p) * LOOKED_SIDE, (int(p) + 1) * LOOKED_SIDE) if a in "YX" else int(p)
            for p, a in zip(np.unravel_index(number, blocks), image.axes, strict=True)
        )
