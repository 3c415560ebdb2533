"""How far an upscaled image can be trusted: whether it agrees with its input, and what of it the input does not show.

Everything works on one plane at a time, numpy arrays (Y, X).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Plane = NDArray[np.floating]
WINDOW = 2.0  # low-resolution pixels, standard deviation of what counts as local
BLOCK = 32  # side of the blocks whose roughness is compared with that of the training data
SLACK = 1.5  # how much rougher or smoother than nearly all training data an image may be
TOLERANCE = 0.01  # of an image's range: a disagreement that nobody minds, where the noise is smaller


def disagreement(low: Plane, degraded: Plane, noise: Plane | float) -> NDArray[np.float32]:
    """Local disagreement of a result with its input, in units of what is tolerated.

    Parameters
    ----------
    low : numpy.ndarray
        The input.
    degraded : numpy.ndarray
        What the optics make of the result; of the shape of `low`.
    noise : numpy.ndarray or float
        Standard deviation of the noise of each pixel of `low`.

    Returns
    -------
    numpy.ndarray
        Of the shape of `low`; up to about 1 the two agree within the noise.
    """
    span = float(np.percentile(low, 99.9) - np.percentile(low, 0.1))
    tolerated = np.square(noise) + (TOLERANCE * span) ** 2 + np.finfo(np.float32).tiny
    local = gaussian_filter(np.square(degraded - low) / tolerated, WINDOW)
    return np.asarray(np.sqrt(local), np.float32)


def unseen_share(details: Plane, result: Plane, scale: int, noise: float) -> NDArray[np.float32]:
    """Share of the local variance of a result that comes from `details`, 0 to 1.

    Parameters
    ----------
    details : numpy.ndarray
        The part in question, such as what the degradation removes or what only the perceptual weights add.
    result : numpy.ndarray
        The upscaled image, of the same shape.
    scale : int
        Its pixels per pixel of the input.
    noise : float
        Standard deviation of the input's noise: fainter structure counts as none.
    """
    width = WINDOW * scale
    varied = result - gaussian_filter(result, width)
    part, all_of_it = (gaussian_filter(np.square(x), width) for x in (details, varied))
    share = part / (all_of_it + noise**2 + np.finfo(np.float32).tiny)
    return np.asarray(np.clip(share, 0, 1), np.float32)


def trust_map(disagreed: Plane, shares: Iterable[Plane], scale: int) -> NDArray[np.float32]:
    """Combine to a map between 0 (made up) and 1 (shown by the input), at the resolution of the result.

    Parameters
    ----------
    disagreed : numpy.ndarray
        From `disagreement`, at low resolution; what lies within the noise costs nothing.
    shares : iterable of numpy.ndarray
        From `unseen_share`, at high resolution.
    """
    excess = np.maximum(disagreed - 1, 0)
    value = np.kron(1 / (1 + excess**2), np.ones((scale, scale), np.float32))
    for share in shares:
        value = value * (1 - share)
    return value.astype(np.float32)


def roughness(planes: Iterable[Plane]) -> NDArray[np.float64]:
    """Share of the fine structure (under about two pixels) in the contrast of each block that is not flat."""
    found = []
    for plane in planes:
        values: Plane = np.asarray(plane, np.float64)
        if min(values.shape) < BLOCK:
            blocks, fine = values[None], (values - gaussian_filter(values, 1.0))[None]
        else:
            blocks, fine = _blocks(values), _blocks(values - gaussian_filter(values, 1.0))
        contrast = blocks.std(axis=(1, 2))
        kept = contrast > 0.05 * values.std()
        found.append(fine.std(axis=(1, 2))[kept] / contrast[kept])
    return np.concatenate(found) if found else np.empty(0)


def typical_roughness(planes: Iterable[Plane]) -> tuple[float, float] | None:
    """Range of roughness that holds 98 % of the blocks of the training data; None when all are flat."""
    values = roughness(planes)
    if not values.size:
        return None
    low, high = np.percentile(values, [1, 99])
    return float(low), float(high)


def unlike_training(planes: Iterable[Plane], typical: Any) -> str:
    """Say how an image differs from what its model was trained on; empty when it does not, or nothing is known.

    Parameters
    ----------
    planes : iterable of numpy.ndarray
        The image.
    typical : (float, float) or None
        From `typical_roughness`.
    """
    values = roughness(planes)
    if typical is None or not values.size:
        return ""
    middle, (low, high) = float(np.median(values)), typical
    if middle > high * SLACK:
        return "the image is rougher (noisier, or coarser) than the model's training data: denoise it first"
    if middle < low / SLACK:
        return "the image is smoother (more blurred) than the model's training data: it may show no new detail"
    return ""


def _blocks(plane: Plane) -> Plane:
    rows, columns = (n // BLOCK for n in plane.shape)
    cut = plane[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    return cut.transpose(0, 2, 1, 3).reshape(-1, BLOCK, BLOCK)
