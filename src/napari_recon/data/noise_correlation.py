"""Whether neighbouring pixels share noise, from the flattest blocks of an image."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

FloatArray = NDArray[np.float64]
Correlation = tuple[float, float]

BLOCK = 16  # side of the blocks that show flatness and correlation
LEAST = 0.08  # lag-1 correlation below which noise passes for white
WHITE = (0.0, 0.0)
SMOOTH = 0.8  # correlation in both directions beyond which it is the shape of smooth things, not noise
LIKE_NOISE = 1.05  # strength at the highest frequency, in units of that of blurred noise, up to which it may be noise
TEXTURED = 1.2  # the same, from which it is texture in white noise ...
WEAK = 0.4  # ... as far as the correlation is not more: else it may be edges in blurred noise
FINEST, FINER = slice(13, 16), slice(9, 12)  # cosines of a block whose strengths are compared
MUCH_WEAKER = -2.0  # logarithm of what blurring leaves of the finest, from which it can be told whether they lack
LACKING = 0.25  # share of that loss, on a logarithmic scale, that must be seen


def noise_correlation(bright: FloatArray, noisy: FloatArray) -> Correlation:
    """Lag-1 correlation of the noise along Y and X, from groups of equally bright blocks.

    Specimen adds correlation where it is seen, noise has its own in all groups: so of three or more that show noise the
    second lowest counts. Where none does, noise is taken for white.

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
        shown = _of_blocks(residual[flattest])
        found += [shown] if shown else []
    if not found:
        return WHITE
    counts = sorted(found, key=max)[1 if len(found) > 2 else 0]
    return counts if max(counts) >= LEAST else WHITE


def _detrend(blocks: FloatArray) -> FloatArray:
    """Residual of each block from its least-squares plane."""
    t = np.arange(BLOCK) - (BLOCK - 1) / 2
    norm = (t**2).sum() * BLOCK
    slope_y = np.einsum("nyx,y->n", blocks, t) / norm
    slope_x = np.einsum("nyx,x->n", blocks, t) / norm
    plane = slope_y[:, None, None] * t[:, None] + slope_x[:, None, None] * t
    residual: FloatArray = blocks - blocks.mean(axis=(1, 2), keepdims=True) - plane
    return residual


def _of_blocks(flat: FloatArray) -> Correlation | None:
    """Correlation of the noise in detrended blocks; None where specimen hides it.

    Noise has the spectrum that a blur gives noise of its correlation. Of the highest frequencies that leaves next to
    nothing; edges have more there, and so has texture in white noise.
    """
    if not flat.any():
        return None
    correlation = _lag_one(flat)
    second = np.diff(np.diff(flat, n=2, axis=1), n=2, axis=2)
    high = (second**2).mean() / 36 / (flat**2).mean()  # 1 for white noise
    # The autocorrelation of Gaussian-blurred noise is a Gaussian: r at one pixel, r**4 at two.
    excess = (high - 0.01) / math.prod((6 - 8 * r + 2 * r**4) / 6 for r in correlation)
    if excess > TEXTURED and max(correlation) < WEAK:
        return WHITE
    like_noise = min(correlation) < SMOOTH and excess < LIKE_NOISE and _falls_off(flat, correlation)
    return correlation if like_noise else None


def _lag_one(flat: FloatArray) -> Correlation:
    """Correlation of neighbours along Y and X, 0 to 0.95."""
    power = (flat**2).mean()
    lost = 3 / BLOCK**2  # share of white noise that a fitted plane takes out of a block
    along_y = ((flat[:, 1:] * flat[:, :-1]).mean() / power + lost) / (1 - 2 * lost)
    along_x = ((flat[:, :, 1:] * flat[:, :, :-1]).mean() / power + lost) / (1 - 2 * lost)
    return float(np.clip(along_y, 0.0, 0.95)), float(np.clip(along_x, 0.0, 0.95))


def _falls_off(flat: FloatArray, correlation: Correlation) -> bool:
    """Whether the finest cosines are weaker than coarser ones, as a blur would leave them.

    Texture may be so strong that white noise adds little to the highest frequencies, but then it is all that is there.
    """
    energy = (dctn(flat, axes=(1, 2), norm="ortho") ** 2).mean(axis=0) + np.finfo(float).tiny
    fall = math.log(energy[FINEST, FINEST].mean() / energy[FINER, FINER].mean())
    # The spectrum of blurred noise is exp(pi² f² / log r), here at the middles of both ranges.
    squares = ((FINEST.start + 1) ** 2 - (FINER.start + 1) ** 2) / (2 * BLOCK) ** 2
    fall_of_blurred = sum(math.pi**2 * squares / math.log(r) for r in correlation if r > 0)
    return fall_of_blurred > MUCH_WEAKER or fall < LACKING * fall_of_blurred
