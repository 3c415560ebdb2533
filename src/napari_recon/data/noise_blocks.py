"""Small blocks of an image: how bright they are, and how much they vary where specimen varies least."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.fft import dct, dctn
from scipy.ndimage import uniform_filter

from napari_recon.data.noise_curve import BINS, NoiseCurve, fit_curve, flattest, lower_where_flat

FloatArray = NDArray[np.float64]
Correlation = tuple[float, float]

CROP = 512  # side of the parts of a plane that are looked at
SMALLEST = 16  # planes smaller than that are continued by copies of themselves
PIXELS = 2**22  # in all; more would not make the estimate better
CANDIDATES = 800  # blocks of each step of brightness, of which the flattest are looked at by themselves
BLOCKS = 400  # of them that a curve is fitted to
ROUGH = 100  # of them for a first, rough curve
FEW = 50  # blocks off the walls, of which nothing can be said
SILENT = 0.1  # share of blocks without any energy from which on an image is free of noise
WALL_SHARE = 0.02  # of pixels cut off at the highest or lowest value: fewer do no harm
WALL_REACH = 16  # side of the surroundings in which they count


class View(NamedTuple):
    """A part of a plane: what holds the noise, and how bright it is there; one and the same in a single image."""

    noisy: FloatArray
    bright: FloatArray


class Band(NamedTuple):
    """Cosines of a block that are measured: its side, and the least sum of their frequencies."""

    side: int
    lowest: int


FINE = Band(8, 7)  # the finer half, which optics leave nearly free of specimen; finer still, noise in step is missed
FLAT = Band(4, 2)  # all but mean and slope: finds the flat parts between sharp edges
WHITE = (FINE, FLAT)
IN_STEP = (Band(16, 6), Band(8, 3))  # noise that is in step with its neighbours is coarse, so only flat parts tell


def crops(stacks: Sequence[NDArray[Any]], first: Sequence[int] | None = None) -> list[tuple[int, tuple[Any, ...]]]:
    """Where to look: number of the stack and index of a part of a plane, evenly spread over all of them.

    Parameters
    ----------
    stacks : sequence of array
        Any number of leading axes before (Y, X).
    first : sequence of int, optional
        How many entries of the first axis of each stack to choose from.
    """
    leading = [list(s.shape[:-2]) for s in stacks]
    for shape, limit in zip(leading, first or (), strict=bool(first)):
        shape[0] = limit
    tiles = [math.ceil(s.shape[-2] / CROP) * math.ceil(s.shape[-1] / CROP) for s in stacks]
    ends = np.cumsum([math.prod(shape) * n for shape, n in zip(leading, tiles, strict=True)])
    largest = max(min(s.shape[-2], CROP) * min(s.shape[-1], CROP) for s in stacks)
    wanted = min(int(ends[-1]), max(PIXELS // max(largest, 1), 1), 256)
    places = []
    for number in np.linspace(0, ends[-1] - 1, wanted).astype(int) if ends[-1] else ():
        which = int(np.searchsorted(ends, number, side="right"))
        plane, tile = divmod(int(number - (ends[which - 1] if which else 0)), tiles[which])
        height, width = stacks[which].shape[-2:]
        row, column = divmod(tile, math.ceil(width / CROP))
        index = np.unravel_index(plane, leading[which]) if leading[which] else ()
        places.append((which, (*map(int, index), _span(row, height), _span(column, width))))
    return places


def _span(number: int, size: int) -> slice:
    count = math.ceil(size / CROP)
    start = round(number * (size - CROP) / (count - 1)) if count > 1 else 0
    return slice(start, start + CROP)


def load(stack: NDArray[Any], index: tuple[Any, ...]) -> FloatArray:
    """A part of a plane as float64; beside one that is too small stand copies of it, each moved along.

    Mirrored copies would not do: pixels equal to their neighbours look like less noise.
    """
    part = np.asarray(stack[index], dtype=np.float64)
    for axis in (0, 1):
        copies = math.ceil(SMALLEST / part.shape[axis])
        moves = [round(k * part.shape[1 - axis] / copies) for k in range(copies)]
        part = np.concatenate([np.roll(part, move, axis=1 - axis) for move in moves], axis=axis)
    return part


def windows(views: Sequence[View], side: int, stride: int, limit: int, walls: Sequence[float]) -> tuple[Any, Any]:
    """Windows (n, side, side) of what is noisy and of the brightness, a random choice of finite ones off the walls."""
    rng = np.random.default_rng(0)
    noisy, bright = [], []
    for view in views:
        a, b = (sliding_window_view(v, (side, side))[::stride, ::stride] for v in view)
        free = np.ones(a.shape[:2], bool)
        # Windows overlap, so to look at each is slow: only where there is anything to be found.
        for pixels, windows_of in ((view.noisy, a), (view.bright, b)):
            if not np.isfinite(pixels).all():
                free &= np.isfinite(windows_of).all(axis=(2, 3))
        for wall in walls:
            free &= (b == wall).mean(axis=(2, 3)) < WALL_SHARE
        chosen = np.unravel_index(rng.permutation(np.flatnonzero(free))[: max(limit // len(views), 1)], free.shape)
        noisy.append(a[chosen])
        bright.append(noisy[-1] if view.bright is view.noisy else b[chosen])
    return np.concatenate(noisy), np.concatenate(bright)


def measure_band(
    views: Sequence[View],
    band: Band,
    correlation: Correlation,
    walls: Sequence[float],
    floor: float,
    coarser: NoiseCurve | None = None,
    all_blocks: bool = False,
) -> tuple[NoiseCurve, FloatArray, FloatArray, float] | None:
    """Fit a noise curve to the energy of the blocks within a band of frequencies.

    `coarser` is the curve of a coarser band, which must not contradict quieter flat blocks. With `all_blocks` flat ones
    are not looked at by themselves.

    Returns
    -------
    tuple or None
        The curve; brightness and energy of the blocks; degrees of freedom of an energy. None without blocks, or with
        few of them off the walls.
    """
    side = band.side
    weight, coarse_weight = _weights(band, correlation)
    freedom = float((weight > 0).sum())
    starts, raw, order = block_starts(views, side, walls)
    count = sum(len(s) for s in starts)
    if not count or (walls and count < FEW):
        return None
    used = [(v, s) for v, s in zip(views, starts, strict=True) if len(s)]
    energies = np.concatenate([_energies(v.noisy, s, side, (weight, coarse_weight)) for v, s in used])
    energy, coarse = energies.T
    silent = float((energy <= floor).mean())
    energy = np.maximum(energy, floor)
    if silent > SILENT:
        return NoiseCurve(float(raw.min()), float(raw.max()), floor, floor, silent), raw, energy, freedom
    rough = fit_curve(raw[order < ROUGH], energy[order < ROUGH], freedom)
    # The mean of a block is itself noisy, which would flatten the curve: so its noise is taken out, and fitted again.
    share = math.prod(1 + 2 * sum(r ** (d * d) for d in range(1, side)) for r in correlation) / side**2
    settled = np.concatenate([settled_brightness(v, s, side, rough, share) for v, s in used])
    some = order < BLOCKS
    curve = fit_curve(settled[some], energy[some], freedom)
    if all_blocks:
        return curve, settled[some], energy[some], freedom
    # White noise is as strong in blocks without coarse structure as elsewhere, weak edges are not.
    flat = flattest(settled, coarse / curve.variance(settled), float((coarse_weight > 0).sum()))
    lower = lower_where_flat(curve, settled[flat], energy[flat], freedom, coarser)
    kept = flat if lower else some
    return lower or curve, settled[kept], energy[kept], freedom


def _weights(band: Band, correlation: Correlation) -> tuple[FloatArray, FloatArray]:
    """One over the variance of each cosine in noise of variance one; 0 for those that are not measured.

    First for the band, then for the coarser cosines, which in white noise tell nothing of the band.

    The autocorrelation of Gaussian-blurred noise is a Gaussian: r at one pixel, r**(d*d) at d.
    """
    basis = dct(np.eye(band.side), axis=0, norm="ortho")
    distance = np.subtract.outer(np.arange(band.side), np.arange(band.side)) ** 2.0
    variances = [np.diag(basis @ np.where(distance, r**distance, 1.0) @ basis.T) for r in correlation]
    power = np.outer(*variances)
    frequency = np.add.outer(np.arange(band.side), np.arange(band.side))
    used = frequency >= band.lowest
    used &= power > 0.3 * power[used].max()
    return np.where(used, 1 / power, 0), np.where((frequency > 0) & (frequency < band.lowest), 1 / power, 0)


def block_starts(
    views: Sequence[View], side: int, walls: Sequence[float]
) -> tuple[list[NDArray[np.intp]], FloatArray, NDArray[np.intp]]:
    """Blocks of all views: all that are rare in brightness, and some of those that are not.

    Returns
    -------
    list of array, array, array
        Corners (n, 2) in each view; of them all the brightness, and their random order within a step of brightness.
    """
    rng = np.random.default_rng(0)
    corners, means = [], []
    for view in views:
        mean = _mean(view.bright, side)
        free = np.isfinite(mean)
        if view.noisy is not view.bright:
            free &= np.isfinite(_mean(view.noisy, side))
        for wall in walls:
            # A wide look around: chosen by its own pixels, a block would be chosen by its noise.
            free &= shifted(uniform_filter((view.bright == wall) * 1.0, WALL_REACH), side) < WALL_SHARE
        grid = np.argwhere(free[:: side // 2, :: side // 2]) * (side // 2)
        corners.append(grid)
        means.append(mean[tuple(grid.T)])
    brightness = np.concatenate(means)
    order = np.zeros(len(brightness), np.intp)
    if not len(brightness):
        return corners, brightness, order
    dark, bright = np.quantile(brightness, [0.02, 0.98])
    steps = np.searchsorted(np.linspace(dark, bright, BINS + 1)[1:-1], brightness)
    shuffled = rng.permutation(len(brightness))
    for step in range(BINS):
        members = shuffled[steps[shuffled] == step]
        order[members] = np.arange(len(members))
    keep = order < CANDIDATES
    cuts = np.cumsum([len(c) for c in corners])[:-1]
    return [c[k] for c, k in zip(corners, np.split(keep, cuts), strict=True)], brightness[keep], order[keep]


def _energies(
    noisy: FloatArray, starts: NDArray[np.intp], side: int, weights: tuple[FloatArray, FloatArray]
) -> FloatArray:
    """Mean squares (n, 2) of the cosines of each block under either weight, in units of the variance of a pixel."""
    power = cosines_squared(noisy, starts, side)
    return np.stack([np.einsum("nij,ij->n", power, w) / float((w > 0).sum()) for w in weights], axis=1)


def cosines_squared(noisy: FloatArray, starts: NDArray[np.intp], side: int) -> FloatArray:
    """Squares (n, side, side) of the cosines of each block."""
    blocks = sliding_window_view(noisy, (side, side))[tuple(starts.T)]
    return np.asarray(dctn(blocks, axes=(1, 2), norm="ortho") ** 2)


def _mean(image: FloatArray, side: int) -> FloatArray:
    """Mean of the block that begins at each pixel; not finite where the block holds such a pixel."""
    finite = np.isfinite(image)
    mean = np.asarray(uniform_filter(np.where(finite, image, 0), side))
    if not finite.all():
        mean[uniform_filter((~finite) * 1.0, side) > 0.5 / side**2] = np.nan
    return shifted(mean, side)


def shifted(image: NDArray[Any], side: int) -> NDArray[Any]:
    """From the centre of a block, where filters write, to its first pixel; blocks that would stick out are left off."""
    half = side // 2
    return image[half : image.shape[0] - side + half + 1, half : image.shape[1] - side + half + 1]


def settled_brightness(view: View, starts: NDArray[np.intp], side: int, curve: NoiseCurve, share: float) -> FloatArray:
    """Brightness of blocks without its noise: drawn to that of the surroundings as far as it varies by noise.

    The local linear filter of Lee (IEEE TPAMI 1980). `share` is the variance of a mean over that of a pixel.
    """
    finite = np.isfinite(view.bright)
    values = np.where(finite, view.bright, view.bright[finite].mean())
    if view.noisy is not view.bright:
        share = share / 2  # the mean of two images
    mean = uniform_filter(values, side)
    around = uniform_filter(mean, 3 * side)
    spread = uniform_filter((mean - around) ** 2, 3 * side)
    noise = curve.variance(around) * share
    settled = around + np.clip(1 - noise / np.maximum(spread, 1e-300), 0, 1) * (mean - around)
    return np.asarray(shifted(settled, side)[tuple(starts.T)])
