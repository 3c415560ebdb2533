"""Average planes with their neighbours where they show the same, before the network sees them.

Two neighbours and the plane between them lie on a line but for the noise where nothing changes. How much noise is left
is told to the network, pixel by pixel.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_recon.axes import repeat_pixels

NOISE = 6.0  # variance of low + high - 2 * own, of planes whose noise has a variance of one
TOLERATED = 1.2  # squared difference beyond noise, in variances of the noise, at which a pair counts half
SCALES = (0.7, 1.5, 3.0)  # pixels; weak but broad differences show only when noise is averaged away
BROAD = 20.0  # how much more such differences count than their square
CHANCE = 0.1  # share by which the mean square of noise exceeds its expectation now and then
WINDOW, EVEN = 4.0, 1.0  # pixels: over which differences are averaged, and shares are evened out
THREADS = 2
CUT = 3.0  # standard deviations at which the filters end
REACH = 2 + sum(int(CUT * s + 0.5) for s in (max(SCALES), WINDOW, EVEN))  # pixels around that one depends on

Plane = NDArray[np.float32]


def mix(
    own: Plane,
    pairs: Sequence[tuple[Plane, Plane, float]],
    sigma: float,
    correlation: tuple[float, float],
) -> tuple[Plane, Plane]:
    """Average a plane with its neighbours where they show the same.

    Parameters
    ----------
    own : numpy.ndarray
        (Y, X), with noise of equal strength everywhere. Pixels that are NaN, here or in a neighbour, stay as they are.
    pairs : sequence of (numpy.ndarray, numpy.ndarray, float)
        Neighbours, and how much more their differences count.
    sigma : float
        Standard deviation of the noise.
    correlation : tuple of float
        Of the noise of neighbouring pixels, along Y and X.

    Returns
    -------
    numpy.ndarray, numpy.ndarray
        The average, and the standard deviation of its noise over that of `own`; both (Y, X).
    """
    total = own.astype(np.float32)
    weight, squares, fresh = (np.ones_like(total) for _ in range(3))
    for low, high, doubt in pairs:
        both = low + high
        known = np.isfinite(both - own)
        difference = np.where(known, (both - 2 * own) / np.float32(sigma), 0)
        with ThreadPoolExecutor(THREADS) as threads:
            power, *broad = threads.map(partial(_power, difference), (0.0, *SCALES))
        excess = power - NOISE * (1 + CHANCE)
        for scale, found in zip(SCALES, broad, strict=True):
            expected = NOISE * _variance_left(scale, correlation[0]) * _variance_left(scale, correlation[1])
            excess = np.maximum(excess, BROAD * (found - expected * (1 + 4 * CHANCE)))
        share = known * _smooth(_whole(TOLERATED / (TOLERATED + doubt * excess.clip(0)), own.shape), EVEN)
        total += np.where(known, share * both, 0)
        weight += 2 * share
        squares += 2 * share**2
        # Planes that differ by less than noise share some of it, as interpolated ones do: that cannot be averaged away.
        fresh = np.minimum(fresh, _whole(power / (NOISE * (1 - CHANCE)), own.shape))
    left = 1 - fresh * (1 - squares / weight**2)
    return total / weight, np.sqrt(left)


def _power(difference: Plane, scale: float) -> Any:
    """Mean square around each second pixel, of what is broader than `scale` pixels."""
    squares = (_smooth(difference, scale) if scale else difference) ** 2
    # So wide a window needs no value for each pixel, and is four times as fast with every second.
    even = np.pad(squares, [(0, n % 2) for n in squares.shape], mode="symmetric")
    halved = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / np.float32(4)
    return _smooth(halved, WINDOW / 2)


def _whole(halved: Any, shape: tuple[int, ...]) -> Any:
    """Give back every pixel of an image of this shape."""
    return repeat_pixels(halved, 2)[: shape[0], : shape[1]]


def _smooth(plane: Any, sigma: float) -> Any:
    return gaussian_filter(plane, sigma, truncate=CUT)


@lru_cache
def _variance_left(sigma: float, correlation: float) -> float:
    """Variance that `_smooth` leaves, along one axis, of noise of the variance one; blurred as by a Gaussian."""
    around = int(CUT * sigma + 0.5)
    impulse = np.zeros(4 * around + 1)
    impulse[2 * around] = 1
    kernel = gaussian_filter(impulse, sigma, truncate=CUT)
    overlap = np.convolve(kernel, kernel[::-1], "same")
    return float(overlap @ max(correlation, 0.0) ** np.arange(-2 * around, 2 * around + 1) ** 2.0)
