"""From float32 back to the pixel type of the image, saying what did not fit."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def cast(pixels: NDArray[Any], dtype: np.dtype[Any]) -> tuple[NDArray[Any], str]:
    """Round to an integer type within its range, or convert to a floating one; tell what was clipped."""
    fitted, clipped = fit(pixels, dtype)
    return fitted, clipping_note(clipped / pixels.size, dtype)


def fit(pixels: NDArray[Any], dtype: np.dtype[Any]) -> tuple[NDArray[Any], int]:
    """Do as `cast` does; count what was clipped."""
    if dtype == pixels.dtype:
        return pixels, 0
    if dtype.kind == "f":
        largest = np.finfo(dtype).max
        outside = (np.abs(pixels) > largest) & np.isfinite(pixels)
        return np.where(outside, np.copysign(largest, pixels), pixels).astype(dtype), int(outside.sum())
    info = np.iinfo(dtype)
    clipped = int(((pixels < info.min - 0.5) | (pixels > info.max + 0.5)).sum())
    # float32 cannot hold the largest 32-bit integer: one step below it is the largest that converts safely.
    top = info.max if float(np.float32(info.max)) <= info.max else np.nextafter(np.float32(info.max), np.float32(0))
    return np.clip(np.nan_to_num(np.rint(pixels)), info.min, top).astype(dtype), clipped


def clipping_note(share: float, dtype: np.dtype[Any]) -> str:
    """Say what share of the pixels was clipped; empty for none."""
    return f"{share:.2%} of the pixels were clipped to the range of {dtype}" if share else ""
