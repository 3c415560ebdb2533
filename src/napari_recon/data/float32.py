"""What float32, in which networks work and results are, cannot hold of an image: told, not lost."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_recon.errors import ReconError

MOST_ROUNDED = 0.01  # standard deviation of what rounding takes from the pixels, in that of the pixels


def as_float32(pixels: Any) -> NDArray[np.float32]:
    """Load and convert pixels; raises `ReconError` when a number is too large for it."""
    exact = np.asarray(pixels)
    with np.errstate(over="ignore"):
        values = exact.astype(np.float32, copy=False)
    if exact.dtype.itemsize > values.itemsize:
        beyond = np.isinf(values) & np.isfinite(exact)
        if beyond.any():
            largest = float(np.abs(exact[beyond]).max())
            raise ReconError(
                f"Pixels of up to {largest:.3g} are more than float32 can hold, in which images are worked on.",
                f"Divide the image by {10.0 ** math.floor(math.log10(largest)):g} first; "
                "where such pixels mean nothing, make them NaN.",
            )
    return values


def check_float32(values: NDArray[np.float64], what: str) -> None:
    """Raise `ReconError` when numbers are too large for float32, or it loses their contrast.

    Parameters
    ----------
    values : numpy.ndarray
        Finite pixels of one channel.
    what : str
        How to call them, such as ``"Channel 0"``.
    """
    lost, contrast = (as_float32(values) - values).std(), values.std()
    if lost > MOST_ROUNDED * contrast:
        raise ReconError(
            f"{what} varies by {contrast:.3g} around {values.mean():.3g}: float32, in which images are worked on, "
            f"rounds that to steps of {np.spacing(np.float32(np.abs(values).max())):.3g}.",
            f"Subtract {values.min():.10g} from the image first, and add it to the result where it is needed.",
        )
