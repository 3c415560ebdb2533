"""Measure the noise of an image from the image alone.

Small blocks are compared with a plane fitted to them. Where the specimen is flat the residual is noise; elsewhere it
is larger. So the lower edge of the residual variance against the mean of the block is the noise curve, and the
flattest blocks show how far neighbouring pixels are in step.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

BLOCK = 8
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
        Darkest level of the image, taken as the camera's offset.
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

    def to_json(self) -> dict[str, Any]:
        """Return as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Rebuild from `to_json`."""
        return cls(**{**values, "correlation": tuple(values["correlation"])})


def estimate_noise(stacks: Sequence[NDArray[Any]], max_blocks: int = 40_000) -> NoiseEstimate:
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
    blocks = _blocks(stacks, max_blocks)
    values = blocks.ravel()
    low, high = float(values.min()), float(values.max())
    clipped, saturated = float((values == low).mean()), float((values == high).mean())
    inside = np.ones(len(blocks), bool)
    if clipped > 0.005:  # a piled-up lowest value hides noise: such blocks would look too quiet
        inside &= (blocks == low).mean(axis=(1, 2)) < 0.02
    if saturated > 0.0005:
        inside &= (blocks == high).mean(axis=(1, 2)) < 0.02
    used = blocks[inside] if inside.sum() >= 50 else blocks

    residual = _detrend(used)
    mean = used.mean(axis=(1, 2))
    gain, intercept, correlation, spread = _fit(mean, residual)
    # Never less than rounding error: a noiseless image must not be divided by zero.
    floor = max((high - low) ** 2 * 1e-10, float(np.finfo(np.float32).tiny), (1e-6 * max(abs(low), abs(high))) ** 2)
    offset = float(np.quantile(values, 0.001))
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


def _blocks(stacks: Sequence[NDArray[Any]], limit: int) -> FloatArray:
    """Blocks of 8 x 8 finite pixels, (n, 8, 8), drawn evenly from all planes."""
    rng = np.random.default_rng(0)
    planes = [(s, i) for s in stacks for i in np.ndindex(s.shape[:-2])]
    if len(planes) > 64:
        planes = [planes[i] for i in np.linspace(0, len(planes) - 1, 64).astype(int)]
    parts = []
    for stack, index in planes:
        plane = np.asarray(stack[index], dtype=np.float64)
        size = [max(n, BLOCK) for n in plane.shape]
        if size != list(plane.shape):
            plane = np.pad(plane, [(0, s - n) for s, n in zip(size, plane.shape, strict=True)], mode="symmetric")
        rows, columns = plane.shape[0] // BLOCK, plane.shape[1] // BLOCK
        cut = plane[: rows * BLOCK, : columns * BLOCK]
        blocks = cut.reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2).reshape(-1, BLOCK, BLOCK)
        blocks = blocks[np.isfinite(blocks).all(axis=(1, 2))]
        share = max(limit // len(planes), 1)
        parts.append(blocks[rng.permutation(len(blocks))[:share]])
    joined = np.concatenate(parts)
    return joined if len(joined) else np.zeros((1, BLOCK, BLOCK))


def _detrend(blocks: FloatArray) -> FloatArray:
    """Residual of each block from its least-squares plane."""
    t = np.arange(BLOCK) - (BLOCK - 1) / 2
    norm = (t**2).sum() * BLOCK
    slope_y = np.einsum("nyx,y->n", blocks, t) / norm
    slope_x = np.einsum("nyx,x->n", blocks, t) / norm
    plane = slope_y[:, None, None] * t[:, None] + slope_x[:, None, None] * t
    residual: FloatArray = blocks - blocks.mean(axis=(1, 2), keepdims=True) - plane
    return residual


def _fit(mean: FloatArray, residual: FloatArray) -> tuple[float, float, tuple[float, float], float]:
    """Gain, intercept, correlation and confidence from block means and residuals."""
    variance = (residual**2).sum(axis=(1, 2)) / (BLOCK * BLOCK - 3)
    gain, intercept = _lower_curve(mean, variance, freedom=BLOCK * BLOCK - 3.0)
    for _ in range(2):
        expected = np.maximum(gain * mean + intercept, variance.min() + 1e-30)
        flat = np.argsort(variance / expected)[: max(len(mean) // 10, 30)]
        correlation = _correlation(residual[flat])
        # In-step neighbours leave fewer independent pixels, so block variances scatter more.
        independent = math.prod((1 - r) / (1 + r) for r in correlation)
        gain, intercept = _lower_curve(mean, variance, max((BLOCK**2 - 3.0) * independent, 4.0))
    expected = np.maximum(gain * mean + intercept, 1e-30)
    agreeing = float((np.abs(variance / expected - 1) < 0.5).mean())
    return gain, intercept, correlation, agreeing


def _lower_curve(mean: FloatArray, variance: FloatArray, freedom: float) -> tuple[float, float]:
    """Line under which the block variances of flat regions lie: (gain, intercept)."""
    share = 0.15
    bins = np.array_split(np.argsort(mean), int(np.clip(len(mean) // 40, 1, 24)))
    x = np.array([mean[b].mean() for b in bins])
    # The 15 % quantile of a chi-square variable, divided out, is the variance itself.
    y = np.array([np.quantile(variance[b], share) for b in bins]) / (chi2.ppf(share, freedom) / freedom)
    count = np.array([len(b) for b in bins], float)
    weight = count / np.maximum(y, y.max() * 1e-6 + 1e-30) ** 2
    gain, intercept = 0.0, float(np.average(y, weights=weight))
    for _ in range(8):
        centre = np.average(x, weights=weight)
        spread = np.average((x - centre) ** 2, weights=weight)
        level = np.average(y, weights=weight)
        gain = float(np.average((x - centre) * (y - level), weights=weight) / spread) if spread > 0 else 0.0
        if gain < 0:
            gain = 0.0
        intercept = float(level - gain * centre)
        fitted = np.maximum(gain * x + intercept, y.min() * 0.1 + 1e-30)
        # Bins without any flat block lie above the curve: trust them less each time.
        excess = np.maximum(y / fitted - 1, 0)
        weight = count / fitted**2 / (1 + (excess / 0.1) ** 2)
    return gain, intercept


def _correlation(residual: FloatArray) -> tuple[float, float]:
    """Lag-1 correlation along Y and X of detrended blocks, corrected for what detrending takes away."""
    power = (residual**2).mean()
    if power <= 0:
        return 0.0, 0.0
    along_y = (residual[:, 1:] * residual[:, :-1]).mean() / power
    along_x = (residual[:, :, 1:] * residual[:, :, :-1]).mean() / power
    # White noise shows -0.047 after a plane was taken out of 8 x 8 pixels.
    corrected = [float(np.clip((r + 0.047) / 1.047, 0.0, 0.95)) for r in (along_y, along_x)]
    return corrected[0], corrected[1]
