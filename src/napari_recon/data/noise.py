"""Noise of cameras and detectors: measure it in one image, and make it equally strong everywhere.

The model is Poisson-Gaussian: a pixel of expected value s has the variance ``gain * s + intercept``, where
``intercept = read_noise**2 - gain * offset``. Transform and its inverse after Mäkitalo and Foi, "Optimal inversion
of the generalized Anscombe transformation for Poisson-Gaussian noise" (IEEE TIP 2013).
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray
from scipy.special import gammaln, xlogy

Array = Any  # numpy array, dask array or torch tensor: only operators and methods they share are used
FloatArray = NDArray[np.floating]

MUCH_READ_NOISE = 1e4
"""Variance in squared photo-electrons from which on the closed form of the inverse is exact for dark pixels too."""

LEAST_OFFSET = 1.0
"""Photo-electrons below zero that matter; with less room, what is darker than dark is an error of the denoiser."""


def stabilise(image: Array, gain: float, intercept: float) -> Array:
    """Transform so that the noise has a standard deviation of one everywhere (generalised Anscombe).

    Parameters
    ----------
    image : array
        Pixel values, in the units in which `gain` and `intercept` were measured.
    gain : float
        Slope of variance against value; 0 for noise that does not depend on the signal.
    intercept : float
        Variance at the value zero.
    """
    if gain <= 0:
        return image / math.sqrt(intercept)
    inside = (gain * image + (0.375 * gain * gain + intercept)).clip(0)
    return (2.0 / gain) * inside**0.5


def stabilised_mean(clean: Array, gain: float, intercept: float, variance: Array | None = None) -> Array:
    """Mean of `stabilise` over the noise of an image whose expected value is `clean`.

    Second-order expansion; better than 0.02 of a noise standard deviation where the variance in squared
    photo-electrons exceeds one. `variance` is that of the noise where gain and intercept are not the true ones.
    """
    if gain <= 0:
        return stabilise(clean, gain, intercept)
    inside = (gain * clean + intercept).clip(0) + 0.375 * gain * gain
    if variance is None:
        variance = (gain * clean + intercept).clip(0)
    return stabilise(clean, gain, intercept) - 0.25 * gain * variance * inside**-1.5


def unstabilise(stabilised: FloatArray, gain: float, intercept: float) -> FloatArray:
    """Invert `stabilise` without bias: from the mean of the transformed noise to the mean of the image.

    The plain inverse would darken the image, most where there are few photons. Below the transform of a dark pixel
    nothing is clipped: it goes on linearly, or, where there is room for an offset below zero, as the transform does.
    """
    if gain <= 0:
        return stabilised * np.float32(math.sqrt(intercept))
    # Only read_noise**2 - offset can be seen in one image: the share that is negative must be an offset. One that is
    # positive may be an offset too, as of an image whose background was subtracted: pixels are then far below zero.
    read_variance = max(intercept, 0.0) / gain**2
    offset = max(-intercept, 0.0) / gain**2
    value = stabilised.astype(np.float64) ** 2 / 4 - 0.125 - read_variance
    if read_variance > MUCH_READ_NOISE:
        return ((value + offset) * gain).astype(np.float32)
    photons, means = _mean_of_transform(round(read_variance, 4))
    value = np.where(stabilised > means[-1], value, np.interp(stabilised, means, photons))
    slope = (photons[1] - photons[0]) / (means[1] - means[0])
    below = stabilised - means[0]
    if read_variance >= LEAST_OFFSET:
        below = below * (stabilised.clip(0) + means[0]) / (2 * means[0])  # a parabola of the same slope
    value = np.where(stabilised < means[0], below * slope, value)
    return ((value + offset) * gain).astype(np.float32)


@lru_cache(maxsize=64)
def _mean_of_transform(read_variance: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Table of expected photons against the mean of the transformed noisy pixel, from the distribution itself."""
    photons = np.concatenate([[0.0], np.geomspace(0.01, 120.0, 160)])
    counts = np.arange(240)
    nodes, weights = hermegauss(24)
    weights = weights / weights.sum()
    raw = counts[:, None] + math.sqrt(read_variance) * nodes
    transformed = 2 * np.sqrt(np.clip(raw + 0.375 + read_variance, 0, None)) @ weights
    # Poisson's distribution; scipy.stats takes seconds to import.
    share = np.exp(xlogy(counts, photons[:, None]) - gammaln(counts + 1) - photons[:, None])
    means = share @ transformed
    return photons, means
