"""Run a network over an image tile by tile: bounded memory, the same result as in one piece."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from torch import Tensor

from napari_recon.axes import from_batch, repeat_pixels, time_step, to_batch
from napari_recon.checkpoint import TrainedModel
from napari_recon.data.noise_estimate import NoiseEstimate, estimate_noise
from napari_recon.data.normalization import Normalization, measure
from napari_recon.device import choose_device, choose_precision, free_memory, is_out_of_memory
from napari_recon.errors import Cancelled, ReconError
from napari_recon.image import Image
from napari_recon.inference.averaging import REACH
from napari_recon.inference.neighbours import Pair, find_pairs
from napari_recon.inference.seen import EVERY, Seen, read_tile
from napari_recon.inference.tiling import Tile, padded_shape, plan_tiles
from napari_recon.progress import CancelToken, Reporter

logger = logging.getLogger(__name__)

BYTES_PER_PIXEL = 1500  # of working memory: a generous guess, to be measured
SMALLEST_TILE = 64
TOGETHER_ON_CPU = 2**16  # pixels of small planes; with more a plane takes no less time, and is waited for longer
MEAN_KEPT_OVER = 33  # pixels; two passes of the mean reach 32
LITTLE_NOISE = 40.0  # range over the noise of the brightest pixels, from which an upscaler keeps all light in place
NOISELESS = 100.0  # signal-to-noise ratio from which there is nothing worth removing


@dataclass
class Prediction:
    """Result of `predict`.

    Parameters
    ----------
    array : numpy.ndarray
        float32, in the units of the image and of its shape; Y and X times the model's scale.
    normalization : Normalization
        What the intensities were transformed by.
    notes : list of str
        What the user should know: smaller tiles, another device, pixels that were not numbers.
    """

    array: NDArray[np.float32]
    normalization: Normalization
    device: str
    precision: str
    tile_size: int
    notes: list[str] = field(default_factory=list)


class Job(NamedTuple):
    """A piece of a run that can be done on its own: one tile of some samples and channels of the batch."""

    unit: tuple[slice, slice]
    tile: Tile


class TileRunner:
    """One run over one image, with `companions` of its shape such as the guide of a guided network.

    It falls into jobs, whose results cover the whole once; they can be computed in any order, or only some of them.
    With `neighbours`, a network that is told the noise sees planes of stacks and movies averaged with their neighbours.
    """

    outputs = 1  # images that come of one
    pieces = 1  # parts of a tile's work of which each is reported
    missing_note = "pixels that are not finite were kept as they are"

    def __init__(
        self,
        model: TrainedModel,
        image: Image,
        strength: float,
        noise: Sequence[NoiseEstimate] | None,
        companions: Sequence[Any],
        tile_size: int | None,
        tile_overlap: int | None,
        device: str,
        precision: str,
        *,
        neighbours: bool = False,
    ) -> None:
        spec = model.spec
        self.model, self.image, self.spec, self.strength = model, image, spec, strength
        self.batch = to_batch(image.array, image.axes, spec.axes)
        self.companions = [to_batch(c, image.axes, spec.axes) for c in companions]
        self.keeps_mean = spec.noise_aware or spec.task == "sample"
        self.notes: list[str] = []
        self.normalization = self._check(noise)
        told = spec.noise_aware and spec.axes == "YX" and self.normalization.stabilised
        self.neighbours = neighbours and told and bool(find_pairs(0, image.axes, image.shape))
        if self.neighbours:
            self.notes.append("planes were averaged with their neighbours where these show the same")
        self.device, self.precision = choose_device(device), precision
        self.dtype = choose_precision(self.device, precision, len(spec.axes))
        self.shape = tuple(int(n) for n in self.batch.shape[2:])
        self.padded = padded_shape(self.shape, spec.size_multiple)
        if tile_overlap is not None and tile_overlap < 0:
            raise ReconError(f"Tiles cannot overlap by {tile_overlap} pixels.", "Leave tile_overlap out, or give 0.")
        reach = spec.receptive_field + (2 * (MEAN_KEPT_OVER // 2) if self.keeps_mean else 0)
        reach += REACH if self.neighbours else 0
        self.halo = reach if tile_overlap is None else tile_overlap
        self.wanted_tile = tile_size
        self._tick: Callable[[int], None] = lambda pieces: None
        self.tile = self._choose_tile()

    def _check(self, noise: Sequence[NoiseEstimate] | None) -> Normalization:
        """Find the normalisation; raise when the model cannot take this image."""
        channels = int(self.batch.shape[1])
        spec = self.spec
        if spec.channels not in (1, channels):
            raise ReconError(
                f"The model takes {spec.channels} channels together; the image has {channels}.",
                "Choose the same channels as in training, or check the axes.",
            )
        found = self.model.normalization
        if found is None:
            stabilised = spec.noise_aware
            steps = [time_step(self.image.axes, self.image.shape, spec.axes)]
            found = measure(
                [self.batch], stabilised=stabilised, unit_noise=stabilised, noise=noise, time_steps=steps, blanks=True
            )
            if stabilised and all(n.snr > NOISELESS for n in found.noise):
                self.notes.append("hardly any noise was found: the result is nearly the input")
        found.check_channels(channels)
        if spec.keeps_light and not found.noise:
            measured = tuple(estimate_noise([self.batch[:, c]]) for c in range(channels))
            found = replace(found, noise=measured, stabilised=False)
        return found

    def _choose_tile(self) -> int:
        wanted = self.wanted_tile
        if wanted is not None:
            if wanted < 1:
                raise ReconError(f"A tile of {wanted} pixels is not possible.", "Give 1 or more; 64 and more are fast.")
            return wanted
        pixels = free_memory(self.device) * 0.4 / BYTES_PER_PIXEL
        largest = (1024 if self.device.type == "cpu" else 2048) if len(self.shape) == 2 else 128
        side = int(pixels ** (1 / len(self.shape))) - 2 * self.halo
        return int(np.clip(side, SMALLEST_TILE, largest))

    @property
    def planes(self) -> int:
        """How many planes (or volumes) go through the network, each of one sample and the channels taken together."""
        return int(self.batch.shape[0]) * (int(self.batch.shape[1]) // self.spec.channels)

    def unit(self, plane: int) -> tuple[slice, slice]:
        """Return the samples and channels that go through the network together from `plane` on."""
        samples, step = int(self.batch.shape[0]), self.spec.channels
        group, first = divmod(plane, samples)
        return slice(first, min(first + self.together, samples)), slice(group * step, group * step + step)

    @property
    def together(self) -> int:
        """How many small planes go together: as many as make up a tile, and no more than a CPU is faster with."""
        pixels = self.tile ** len(self.shape)
        if self.device.type == "cpu":
            pixels = min(pixels, TOGETHER_ON_CPU)
        return max(int(pixels // np.prod(self.padded)), 1)

    def jobs(self, unit: tuple[slice, slice]) -> list[Job]:
        """Cut the work on some planes into tiles."""
        return [Job(unit, t) for t in plan_tiles(self.padded, self.tile, self.halo, self.spec.size_multiple)]

    def place(self, job: Job) -> tuple[slice, ...]:
        """Return where the result of a job belongs, in (samples, channels, *sides) of the result."""
        scale, sides = self.spec.scale, zip(job.tile.write, self.shape, strict=True)
        return (*job.unit, *(slice(scale * s.start, scale * min(s.stop, n)) for s, n in sides))

    def compute(self, job: Job) -> NDArray[np.float32]:
        """Do one job: (outputs, *shape of its place), in the units of the image."""
        seen = self._read(job.unit, job.tile)
        values = self._restore(seen)
        scale = self.spec.scale
        own = EVERY + tuple(
            slice(place.start - scale * start, place.stop - scale * start)
            for place, start in zip(self.place(job)[2:], seen.start, strict=True)
        )
        raw, missing = (repeat_pixels(a, scale)[own] for a in (seen.raw, seen.missing))
        return np.where(missing, raw, values[(slice(None), *own)])

    @contextmanager
    def interruptible(self, stop: Callable[[], bool] | None) -> Iterator[None]:
        """Within this, `compute` raises `Cancelled` at the next layer of the network once `stop` says so.

        On this thread only: others may be using the same network.
        """
        own = threading.get_ident()

        def check(*_: Any) -> None:
            if stop is not None and threading.get_ident() == own and stop():
                raise Cancelled

        network = self.model.network(self.device)
        hooks = [m.register_forward_pre_hook(check) for m in network.modules()] if stop is not None else []
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def run(self, reporter: Reporter, cancel: CancelToken) -> list[NDArray[np.float32]]:
        """Predict all planes, with smaller tiles or on the CPU when memory is short; one array for each output."""
        result = self._allocate()
        done = 0
        while done < self.planes:
            unit = self.unit(done)
            jobs, count = self.jobs(unit), unit[0].stop - unit[0].start
            reporter.total = self.planes * len(jobs) * self.pieces
            try:
                for number, job in enumerate(jobs):
                    before = (done * len(jobs) + number * count) * self.pieces

                    def tick(pieces: int, before: int = before, count: int = count) -> None:
                        cancel.raise_if_cancelled()
                        reporter.update(before + pieces * count)

                    self._tick = tick
                    tick(0)
                    with self.interruptible(lambda: cancel.cancelled):
                        result[(slice(None), *self.place(job))] = self.compute(job)
                    reporter.update(before + self.pieces * count)
                done += count
            except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self.use_less_memory()
        return [from_batch(r, self.image.axes, self.image.shape, self.spec.axes) for r in result]

    def prediction(self, array: NDArray[np.float32]) -> Prediction:
        """Put a result and how it was made together."""
        precision = str(self.dtype).removeprefix("torch.")
        return Prediction(array, self.normalization, str(self.device), precision, self.tile, self.notes)

    def _allocate(self) -> NDArray[np.float32]:
        shape = (self.outputs, *self.batch.shape[:2], *(self.spec.scale * n for n in self.shape))
        try:
            return np.empty(shape, np.float32)
        except MemoryError as error:
            size = 4 * float(np.prod(shape, dtype=float)) / 2**30
            raise ReconError(
                f"The result needs {size:.1f} GB of memory, which are not free.", "Work on a part of the image."
            ) from error

    def use_less_memory(self) -> None:
        """Go on with smaller tiles, at last on the CPU; raises `ReconError` where even those are too large."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.tile > SMALLEST_TILE:
            self.tile = max(min(self.tile, max(self.padded)) // 2, SMALLEST_TILE)
            note = f"memory was short: tiles of {self.tile} pixels"
        elif self.device.type != "cpu":
            self.device = torch.device("cpu")
            self.dtype = choose_precision(self.device, self.precision, len(self.spec.axes))
            self.tile = self._choose_tile()
            note = "memory was short: done on the CPU"
        else:
            raise ReconError("There is not enough memory even for small tiles.", "Close other programs and try again.")
        logger.warning(note)
        self.notes.append(note)

    def _read(self, unit: tuple[slice, slice], tile: Tile) -> Seen:
        """Read and normalise what the network sees of a tile."""
        seen = read_tile(self.batch, self.companions, self.normalization, self._pairs, unit, tile, self.shape)
        if seen.missing.any() and self.missing_note and self.missing_note not in self.notes:
            self.notes.append(self.missing_note)
        return seen

    def _pairs(self, plane: int) -> list[Pair]:
        """Return the neighbours that a plane is averaged with."""
        return find_pairs(plane, self.image.axes, self.image.shape) if self.neighbours else []

    def _restore(self, seen: Seen) -> NDArray[np.float32]:
        """Make the outputs of what was seen, (outputs, *seen.raw.shape), in the units of the image."""
        values = self._in_units(self._network(seen)[None], seen)
        if self.keeps_mean:
            values += self._bias(values[0], seen)
        if self.spec.keeps_light:
            values += self._misplaced_light(values, seen)
        if self.strength < 1 or (self.strength > 1 and not self.spec.noise_aware):
            with np.errstate(invalid="ignore"):
                values = seen.raw + np.float32(self.strength) * (values - seen.raw)
        return values

    def _bias(self, mean: NDArray[np.float32], seen: Seen) -> NDArray[np.float32]:
        """Mean of what is missing from the answer over some 1000 pixels around each pixel.

        Noise averages out over that many, so what remains is a bias: where the network is unsure, the mean of a
        transformed pixel is not the transform of its mean. Added back, it keeps local mean intensities what they were.
        """
        difference = np.where(seen.missing, 0, seen.raw - mean)
        for _ in range(2):
            difference = uniform_filter(difference, size=(1, 1, *(MEAN_KEPT_OVER,) * (difference.ndim - 2)))
        return difference

    def _misplaced_light(self, values: NDArray[np.float32], seen: Seen) -> NDArray[np.float32]:
        """What each square of the result lacks to have the mean of the pixel it was made of, times the share to add.

        Networks smooth weak noise as they do strong noise. In long exposures most of it is finer specimen, or grain
        that the fine image would have too: there nothing of the input is to be lost. Of strong noise, nothing is kept.
        """
        scale, noise = self.spec.scale, self.normalization.noise
        corners = itertools.product(range(scale), repeat=2)
        means = sum(values[..., y::scale, x::scale] for y, x in corners) / np.float32(scale**2)
        lacking = np.where(seen.missing, 0, seen.raw - means)
        for c in range(lacking.shape[2]):
            lacking[:, :, c] *= min(noise[seen.channel + c].peak_snr / LITTLE_NOISE, 1.0) ** 4
        return np.asarray(repeat_pixels(lacking, scale), np.float32)

    def _in_units(self, answer: NDArray[np.float32], seen: Seen) -> NDArray[np.float32]:
        """Crop answers (outputs, planes, channels, *sides) to what was read, and undo the normalisation."""
        answer = answer[(slice(None), *EVERY, *(slice(self.spec.scale * n) for n in seen.raw.shape[2:]))]
        channels = range(answer.shape[2])
        return np.stack([self.normalization.inverse(answer[:, :, c], seen.channel + c) for c in channels], axis=2)

    def _network(self, seen: Seen) -> NDArray[np.float32]:
        """Run the network; once more in float32 when the answer is not finite."""
        for dtype in (self.dtype, torch.float32):
            answer = self._forward(seen, dtype)
            if torch.isfinite(answer).all():
                return answer.numpy()
        raise ReconError(
            "The model's answer is not finite.", "Its training went wrong, or it does not suit this image: try another."
        )

    @torch.inference_mode()
    def _forward(self, seen: Seen, dtype: torch.dtype) -> Tensor:
        network = self.model.network(self.device)
        more: tuple[Any, ...] = ()
        if self.spec.noise_aware and self.normalization.noise:
            level = np.array(self.normalization.noise_level(seen.channel), np.float32) * max(self.strength, 1.0)
            noise = torch.tensor(level, dtype=torch.float32, device=self.device)
            if seen.left is None:
                more = (noise.expand(len(seen.normal), 3),)
            else:
                more = (noise[:, None, None] * self._tensor(seen.left),)
        elif self.spec.guided and seen.companions:
            more = (self._tensor(seen.companions[0]),)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            answer: Tensor = network(self._tensor(seen.normal), *more)
        return answer.float().cpu()

    def _tensor(self, normal: NDArray[np.float32]) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(normal)).to(self.device)
        if normal.shape[1] == 1:
            return tensor  # in either layout the same, and the network's own is kept
        return tensor.to(memory_format=torch.channels_last if normal.ndim == 4 else torch.channels_last_3d)
