"""From float32 back to the pixel type of the image, saying what did not fit."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def cast(pixels: NDArray[Any], dtype: np.dtype[Any]) -> tuple[NDArray[Any], str]:
    """Round to an integer type within its range, or convert to a floating one; tell what was clipped."""
    if dtype.kind == "f":
        largest = np.finfo(dtype).max
        outside = (np.abs(pixels) > largest) & np.isfinite(pixels)
        clipped = np.where(outside, np.copysign(largest, pixels), pixels).astype(dtype)
        return clipped, _clipping_note(float(outside.mean()), dtype)
    info = np.iinfo(dtype)
    share = float(((pixels < info.min - 0.5) | (pixels > info.max + 0.5)).mean())
    # float32 cannot hold the largest 32-bit integer: one step below it is the largest that converts safely.
    top = info.max if float(np.float32(info.max)) <= info.max else np.nextafter(np.float32(info.max), np.float32(0))
    rounded = np.clip(np.nan_to_num(np.rint(pixels)), info.min, top).astype(dtype)
    return rounded, _clipping_note(share, dtype)


def _clipping_note(share: float, dtype: np.dtype[Any]) -> str:
    return f"{share:.2%} of the pixels were clipped to the range of {dtype}" if share else ""
