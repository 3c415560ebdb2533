"""Whether neighbouring pixels share noise, from the flattest blocks of an image."""

import math

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Correlation = tuple[float, float]

BLOCK = 16  # side of the blocks that show flatness and correlation
LEAST = 0.08  # lag-1 correlation below which noise passes for white


def noise_correlation(bright: FloatArray, noisy: FloatArray) -> Correlation:
    """Lag-1 correlation of the noise along Y and X, from groups of equally bright blocks.

    Specimen adds correlation in the groups where it is seen, noise has its own in all: so the second lowest counts.

    Parameters
    ----------
    bright, noisy : numpy.ndarray
        (n, BLOCK, BLOCK): brightness, and what holds the noise.
    """
    residual = _detrend(noisy)
    mean = bright.mean(axis=(1, 2))
    groups = np.array_split(np.argsort(mean), int(np.clip(len(mean) // 100, 1, 6)))
    variance = (residual**2).mean(axis=(1, 2))
    found = []
    for group in groups:
        flattest = group[np.argsort(variance[group])[: max(len(group) // 7, min(len(group), 12))]]
        found.append(_of_blocks(residual[flattest]))
    return sorted(found, key=max)[min(1, len(found) - 1)]


def _detrend(blocks: FloatArray) -> FloatArray:
    """Residual of each block from its least-squares plane."""
    t = np.arange(BLOCK) - (BLOCK - 1) / 2
    norm = (t**2).sum() * BLOCK
    slope_y = np.einsum("nyx,y->n", blocks, t) / norm
    slope_x = np.einsum("nyx,x->n", blocks, t) / norm
    plane = slope_y[:, None, None] * t[:, None] + slope_x[:, None, None] * t
    residual: FloatArray = blocks - blocks.mean(axis=(1, 2), keepdims=True) - plane
    return residual


def _of_blocks(flat: FloatArray) -> Correlation:
    """Correlation within detrended blocks; 0 where it is the specimen's fine texture that is seen in white noise.

    The two are told apart by the strength at the highest frequency: blurred noise has hardly any left there.
    """
    power = (flat**2).mean() if len(flat) else 0.0
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
    if max(correlation) < LEAST or min(correlation) > 0.8 or high > 1.15 * high_of_blurred + 0.06:
        return 0.0, 0.0
    return correlation[0], correlation[1]
