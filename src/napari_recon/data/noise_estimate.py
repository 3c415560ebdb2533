"""Measure the noise of an image from the image alone.

The flattest blocks of the image tell whether neighbouring pixels are in step. White noise is then read off the smallest
principal components of small patches, where the specimen leaves no trace (Chen, Zhu and Heng, "An efficient statistical
method for image noise level estimation", ICCV 2015), for each brightness apart. In correlated noise no component is
free of specimen; there the lower edge of the block variances against brightness is the noise curve.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.stats import chi2

BLOCK = 16  # side of the blocks that show flatness and correlation
PATCH = 5  # side of the patches whose principal components show white noise
CORRELATED = 0.1  # lag-1 correlation from which neighbouring pixels share noise
STRIDE = 3  # pixels from one patch to the next
WINDOW = 11  # side of the surroundings by which flat patches are chosen
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class NoiseEstimate:
    """Noise of one channel, in the units of its pixels.

    Parameters
    ----------
    gain : float
        Increase of the variance per unit of signal; 0 when the noise does not depend on the signal.
    intercept : float
        Variance at the pixel value zero (negative where a camera offset is larger than the read noise).
    offset : float
        Mean of its darkest regions, taken as the camera's offset.
    read_noise : float
        Standard deviation of the noise at that level.
    correlation : tuple of float
        Correlation of the noise of neighbouring pixels along Y and along X; 0 for white noise.
    saturated, clipped : float
        Share of pixels at the highest and at the lowest value, where those are piled up.
    snr : float
        Standard deviation of the image over that of its noise.
    confidence : float
        0 to 1: how well the flat blocks agree with the fitted curve.
    """

    gain: float
    intercept: float
    offset: float = 0.0
    read_noise: float = 0.0
    correlation: tuple[float, float] = (0.0, 0.0)
    saturated: float = 0.0
    clipped: float = 0.0
    snr: float = 0.0
    confidence: float = 1.0

    def variance(self, value: float) -> float:
        """Return the variance of the noise at a pixel value."""
        return self.gain * value + self.intercept

    @property
    def mask_axis(self) -> str:
        """Axes along which neighbours share noise: ``"none"``, ``"y"``, ``"x"`` or ``"both"``."""
        least = max(CORRELATED, 0.3 * max(self.correlation))  # less than that is the other direction seen askew
        axes = [axis for axis, r in zip("yx", self.correlation, strict=True) if r > least]
        return {0: "none", 1: "".join(axes), 2: "both"}[len(axes)]

    def to_json(self) -> dict[str, Any]:
        """Return as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Rebuild from `to_json`."""
        return cls(**{**values, "correlation": tuple(values["correlation"])})


def estimate_noise(stacks: Sequence[NDArray[Any]], max_blocks: int = 24_000) -> NoiseEstimate:
    """Estimate Poisson-Gaussian noise and its correlation.

    Parameters
    ----------
    stacks : sequence of numpy.ndarray
        Images of one channel, any number of leading axes before (Y, X).
    max_blocks : int
        Most blocks to look at; a random subset of a larger data set is as good.

    Returns
    -------
    NoiseEstimate
        For an image without measurable noise, `gain` is 0 and `intercept` tiny but positive.
    """
    planes = _planes(stacks)
    blocks = _cut(planes, BLOCK, BLOCK // 2, max_blocks // 4)
    values = blocks.ravel()
    low, high = float(values.min()), float(values.max())
    clipped, saturated = float((values == low).mean()), float((values == high).mean())
    # A piled-up lowest or highest value hides noise: such places would look too quiet.
    walls = ([low] if clipped > 0.005 else []) + ([high] if saturated > 0.0005 else [])
    used = _inside(blocks, walls)
    residual = _detrend(used)
    correlation = _correlation(used.mean(axis=(1, 2)), residual)
    if max(correlation) < 0.08:
        x, y, count = _component_curve(_inside(_cut(planes, WINDOW, STRIDE, max_blocks), walls))
    else:
        x, y, count = _flat_block_curve(used.mean(axis=(1, 2)), residual, correlation)
    gain, intercept = _fit_line(x, y, count)
    fitted = np.maximum(gain * x + intercept, y.min() * 0.1 + 1e-30)
    spread = float(np.average(np.abs(y / fitted - 1) < 0.25, weights=count))
    # Never less than rounding: a noiseless image must not be divided by zero.
    floor = max((high - low) ** 2 * 1e-10, (1e-6 * max(abs(low), abs(high))) ** 2, float(np.finfo(np.float32).tiny))
    if all(np.issubdtype(s.dtype, np.integer) for s in stacks):
        floor = max(floor, 1 / 12)
    offset = float(x.min())
    if gain * offset + intercept < floor:
        intercept = floor - gain * offset
    noise_variance = max(gain * float(values.mean()) + intercept, floor)
    return NoiseEstimate(
        gain=gain,
        intercept=float(intercept),
        offset=offset,
        read_noise=float(np.sqrt(gain * offset + intercept)),
        correlation=correlation,
        saturated=saturated if saturated > 0.0005 else 0.0,
        clipped=clipped if clipped > 0.005 else 0.0,
        snr=float(np.sqrt(max(values.var() - noise_variance, 0) / noise_variance)),
        confidence=spread,
    )


def _planes(stacks: Sequence[NDArray[Any]]) -> list[FloatArray]:
    """Up to 64 planes, evenly spread, none smaller than a block."""
    places = [(s, i) for s in stacks for i in np.ndindex(s.shape[:-2])]
    if len(places) > 64:
        places = [places[i] for i in np.linspace(0, len(places) - 1, 64).astype(int)]
    planes = []
    for stack, index in places:
        plane = np.asarray(stack[index], dtype=np.float64)
        short = [(0, max(BLOCK - n, 0)) for n in plane.shape]
        planes.append(np.pad(plane, short, mode="symmetric"))
    return planes


def _cut(planes: list[FloatArray], side: int, stride: int, limit: int) -> FloatArray:
    """Square windows (n, side, side) of finite pixels, a random choice of at most `limit`."""
    rng = np.random.default_rng(0)
    parts = []
    for plane in planes:
        windows = sliding_window_view(plane, (side, side))[::stride, ::stride].reshape(-1, side, side)
        windows = windows[np.isfinite(windows).all(axis=(1, 2))]
        parts.append(windows[rng.permutation(len(windows))[: max(limit // len(planes), 1)]])
    joined = np.concatenate(parts)
    return joined if len(joined) else np.zeros((1, side, side))


def _inside(windows: FloatArray, walls: list[float]) -> FloatArray:
    """Windows of which hardly any pixel lies at a wall; all of them when too few are left."""
    keep = np.ones(len(windows), bool)
    for wall in walls:
        keep &= (windows == wall).mean(axis=(1, 2)) < 0.02
    return windows[keep] if keep.sum() >= 50 else windows


def _detrend(blocks: FloatArray) -> FloatArray:
    """Residual of each block from its least-squares plane."""
    t = np.arange(BLOCK) - (BLOCK - 1) / 2
    norm = (t**2).sum() * BLOCK
    slope_y = np.einsum("nyx,y->n", blocks, t) / norm
    slope_x = np.einsum("nyx,x->n", blocks, t) / norm
    plane = slope_y[:, None, None] * t[:, None] + slope_x[:, None, None] * t
    residual: FloatArray = blocks - blocks.mean(axis=(1, 2), keepdims=True) - plane
    return residual


def _correlation(mean: FloatArray, residual: FloatArray) -> tuple[float, float]:
    """Lag-1 correlation of the noise along Y and X, from groups of equally bright blocks.

    Specimen adds correlation in the groups where it is seen, noise has its own in all: so the second lowest counts.
    """
    groups = np.array_split(np.argsort(mean), int(np.clip(len(mean) // 100, 1, 6)))
    variance = (residual**2).mean(axis=(1, 2))
    found = []
    for group in groups:
        flattest = group[np.argsort(variance[group])[: max(len(group) // 7, min(len(group), 12))]]
        found.append(_correlation_of(residual[flattest]))
    return sorted(found, key=max)[min(1, len(found) - 1)]


def _correlation_of(flat: FloatArray) -> tuple[float, float]:
    """Correlation within detrended blocks; 0 where it is the specimen's fine texture that is seen in white noise.

    The two are told apart by the strength at the highest frequency: blurred noise has hardly any left there.
    """
    power = (flat**2).mean()
    if power <= 0:
        return 0.0, 0.0
    lost = 3 / BLOCK**2  # share of white noise that a fitted plane takes out of a block
    along_y = ((flat[:, 1:] * flat[:, :-1]).mean() / power + lost) / (1 - 2 * lost)
    along_x = ((flat[:, :, 1:] * flat[:, :, :-1]).mean() / power + lost) / (1 - 2 * lost)
    correlation = [float(np.clip(r, 0.0, 0.95)) for r in (along_y, along_x)]
    second = np.diff(np.diff(flat, n=2, axis=1), n=2, axis=2)
    high = (second**2).mean() / 36 / power  # 1 for white noise
    # The autocorrelation of Gaussian-blurred noise is a Gaussian: r at one pixel, r**4 at two.
    high_of_blurred = math.prod((6 - 8 * r + 2 * r**4) / 6 for r in correlation)
    # Beyond 0.8 in both directions it is the shape of smooth things, not noise.
    if max(correlation) < 0.08 or min(correlation) > 0.8 or high > 1.15 * high_of_blurred + 0.06:
        return 0.0, 0.0
    return correlation[0], correlation[1]


def _component_curve(windows: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Brightness, variance of white noise and patch count, for groups of equally bright patches."""
    margin = (WINDOW - PATCH) // 2
    inner = windows[:, margin:-margin, margin:-margin].reshape(len(windows), -1)
    mean = windows.mean(axis=(1, 2))
    # Flat patches are chosen by their surroundings alone: chosen by themselves, the quietest would win.
    outer_sum = windows.sum(axis=(1, 2)) - inner.sum(axis=1)
    outer_squares = (windows**2).sum(axis=(1, 2)) - (inner**2).sum(axis=1)
    pixels = WINDOW**2 - PATCH**2
    unrest = outer_squares / pixels - (outer_sum / pixels) ** 2
    groups = []
    for group in _groups(mean, 300):
        groups.append(group[np.argsort(unrest[group])[: max(len(group) // 2, 150)]])
    centred = inner - inner.mean(axis=1, keepdims=True)
    # The mean is gone, so the smallest component is empty.
    # einsum and not BLAS, whose threads cost more than they save on matrices this small.
    covariances = [np.einsum("ni,nj->ij", centred[g], centred[g]) / max(len(g) - 1, 1) for g in groups]
    spectra = [np.linalg.eigvalsh(c)[1:] for c in covariances]
    x = np.array([mean[g].mean() for g in groups])
    # Noise is in every patch: it cannot be stronger than what the quietest tenth shows.
    freedom = PATCH**2 - 1.0
    quiet = [np.quantile((centred[g] ** 2).sum(axis=1), 0.1) / chi2.ppf(0.1, freedom) for g in groups]
    y = np.array([min(_noise_eigenvalue(s, len(g)), 1.5 * q) for s, g, q in zip(spectra, groups, quiet, strict=True)])
    return x, np.maximum(y, 0), np.array([len(g) for g in groups], float)


def _groups(mean: FloatArray, smallest: int) -> list[NDArray[np.intp]]:
    """Indices grouped by brightness in up to 24 equal steps, each of at least `smallest` members."""
    order = np.argsort(mean)
    low, high = np.quantile(mean, [0.002, 0.998])
    edges = np.linspace(low, high, 25)[1:-1]
    cuts = np.searchsorted(mean[order], edges)
    groups: list[NDArray[np.intp]] = []
    start = 0
    for cut in [*cuts, len(order)]:
        if cut - start >= smallest:
            groups.append(order[start:cut])
            start = int(cut)
    if not groups:
        return [order]
    groups[-1] = np.concatenate([groups[-1], order[start:]])
    return groups


def _noise_eigenvalue(spectrum: FloatArray, patches: int) -> float:
    """Drop the largest eigenvalues until those left lie about their mean as those of noise do.

    Those of few patches are skewed (Marchenko and Pastur): their median lies below their mean by a third of the ratio
    of pixels to independent patches. Half of that is allowed for; all of it would let fine texture pass for noise.
    """
    independent = patches * (STRIDE / PATCH) ** 2
    for kept in range(len(spectrum), 1, -1):
        level = float(spectrum[:kept].mean())
        if level * (1 - kept / independent / 6) <= np.median(spectrum[:kept]):
            return level
    return float(spectrum[0])


def _flat_block_curve(
    mean: FloatArray, residual: FloatArray, correlation: tuple[float, float]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Brightness, variance of correlated noise and block count for groups of equally bright blocks."""
    variance = (residual**2).sum(axis=(1, 2)) / (BLOCK * BLOCK - 3)
    # In-step neighbours leave fewer independent pixels, so block variances scatter more.
    independent = math.prod(1 / (1 + 2 * sum(r ** (2 * d * d) for d in range(1, 8))) for r in correlation)
    freedom = max((BLOCK**2 - 3.0) * independent, 4.0)
    share = 0.15
    # The 15 % quantile of a chi-square variable, divided out, is the variance itself.
    factor = chi2.ppf(share, freedom) / freedom
    groups = _groups(mean, 40)
    x = np.array([mean[g].mean() for g in groups])
    y = np.array([np.quantile(variance[g], share) for g in groups]) / factor
    return x, y, np.array([len(g) for g in groups], float)


def _fit_line(x: FloatArray, y: FloatArray, count: FloatArray) -> tuple[float, float]:
    """Gain and intercept of the noise curve.

    Every line through two groups, and every level one, is tried. Groups far above a line hold specimen in all their
    patches and count for little; groups below it speak against it, for nothing is quieter than its noise.
    """
    floor = y.max() * 1e-6 + 1e-30
    lines = [(0.0, float(level)) for level in y]
    for i in range(len(x)):
        for j in range(i + 1, len(x)):
            slope = float((y[j] - y[i]) / (x[j] - x[i])) if x[j] > x[i] else 0.0
            if slope > 0:
                lines.append((slope, float(y[i] - slope * x[i])))
    weight = np.sqrt(count)

    def misfit(line: tuple[float, float]) -> float:
        fitted = np.maximum(line[0] * x + line[1], floor)
        excess = np.log(np.maximum(y, floor) / fitted)
        return float((weight * np.where(excess > 0, np.minimum(excess, 1.0), np.minimum(-1.5 * excess, 3))).sum())

    gain, intercept = min(lines, key=misfit)
    fitted = np.maximum(gain * x + intercept, floor)
    near = np.abs(np.log(np.maximum(y, floor) / fitted)) < 0.35
    if gain > 0:
        gain, intercept = _least_squares(x[near], y[near], weight[near] / fitted[near])
    if gain > 0 and gain * x[0] + intercept < 0.7 * y[0]:
        # A line too steep for the darkest group, which is the surest: turn it about that group.
        slopes = (y[1:] - y[0]) / (x[1:] - x[0])
        gain = max(float(np.average(slopes, weights=weight[1:])), 0.0)
        intercept = float(y[0] - gain * x[0])
    return gain, intercept


def _least_squares(x: FloatArray, y: FloatArray, weight: FloatArray) -> tuple[float, float]:
    """Line through the groups that agree; level when it would fall."""
    if len(x) < 3:
        slope, level = np.polyfit(x, y, 1) if len(x) == 2 else (0.0, y[0])
    else:
        slope, level = np.polyfit(x, y, 1, w=weight)
    return (float(slope), float(level)) if slope > 0 else (0.0, float(np.average(y, weights=weight**2)))
