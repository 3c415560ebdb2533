"""Names of image axes, and the way from any order of axes to batches (N, C, [Z], Y, X) and back."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from napari_recon.errors import ReconError

AXES = "TZCYXS"
"""Time, depth, channel, row, column, and S for samples that are none of these."""

# What a bare array most likely is, by its number of axes.
_DEFAULTS = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TCZYX", 6: "STCZYX"}
_DEFAULTS_RGB = {3: "YXC", 4: "ZYXC", 5: "TZYXC", 6: "STZYXC"}


class Split(NamedTuple):
    """Which axes are separate samples, which is the channel ("" if none), and which are spatial."""

    samples: str
    channel: str
    spatial: str


def check_axes(axes: str, shape: Sequence[int]) -> str:
    """Return `axes` in upper case when they can describe an array of this shape.

    Parameters
    ----------
    axes : str
        One letter of ``"TZCYXS"`` for every axis of the array, in order; Y and X are needed.
    shape : sequence of int
        Shape of the array.

    Raises
    ------
    ReconError
        On unknown, double or missing letters, or when their number is not that of the array's axes.
    """
    letters = axes.strip().upper()
    size = " x ".join(map(str, shape)) or "a single number"
    hint = f"Give one letter of {AXES} for each axis, such as {_example(len(shape))!r}, with Y and X among them."
    unknown = sorted(set(letters) - set(AXES))
    if unknown:
        raise ReconError(f"The axes {axes!r} hold the unknown letters {', '.join(unknown)}.", hint)
    if len(set(letters)) < len(letters):
        raise ReconError(f"The axes {axes!r} name the same axis twice.", hint)
    if len(letters) != len(shape):
        raise ReconError(f"The axes {axes!r} name {len(letters)} axes, but the image has {len(shape)} ({size}).", hint)
    if not {"Y", "X"} <= set(letters):
        raise ReconError(f"The axes {axes!r} lack Y or X.", hint)
    return letters


def default_axes(shape: Sequence[int], rgb: bool = False) -> str:
    """Guess the axes of an array that says nothing about them.

    Parameters
    ----------
    shape : sequence of int
        Shape of the array, 2 to 6 axes.
    rgb : bool
        Whether the last axis holds colours; it is then the channel axis.

    Raises
    ------
    ReconError
        When the array has too few or too many axes to be an image.
    """
    defaults = _DEFAULTS_RGB if rgb else _DEFAULTS
    if len(shape) not in defaults:
        raise ReconError(
            f"An array with {len(shape)} axes is not an image that can be worked on.",
            f"Give an array with {min(defaults)} to {max(defaults)} axes.",
        )
    return defaults[len(shape)]


def split_axes(axes: str, spatial: str = "YX") -> Split:
    """Tell samples, channel and spatial axes apart.

    Parameters
    ----------
    axes : str
        Axes of the image, as `check_axes` returns them.
    spatial : {"YX", "ZYX"}
        Axes that a network sees at once; with ``"YX"`` each Z plane is a sample of its own.

    Raises
    ------
    ReconError
        When the image lacks one of the spatial axes.
    """
    missing = [a for a in spatial if a not in axes]
    if missing:
        raise ReconError(
            f"An image with the axes {axes} has no {' and no '.join(missing)} axis.",
            f"Use a 2D model, or an image with {spatial}.",
        )
    samples = "".join(a for a in AXES if a in axes and a != "C" and a not in spatial)
    return Split(samples, "C" if "C" in axes else "", spatial)


def to_batch(array: Any, axes: str, spatial: str = "YX") -> Any:
    """Bring an image into the order that networks read.

    Parameters
    ----------
    array : numpy.ndarray or dask.array.Array
        Image with the given axes. A numpy array is not copied where a view can do; dask stays lazy.
    axes : str
        Axes of `array`.
    spatial : {"YX", "ZYX"}
        Spatial axes, in the order of the result.

    Returns
    -------
    numpy.ndarray or dask.array.Array
        Shape (N, C, Y, X) or (N, C, Z, Y, X); N counts all samples, C is 1 without a channel axis.
    """
    split = split_axes(axes, spatial)
    array = array.transpose([axes.index(a) for a in "".join(split)])
    kept = array.shape[len(split.samples) :]
    if not split.channel:
        kept = (1, *kept)
    return _reshape(array, (math.prod(array.shape[: len(split.samples)]), *kept))


def time_step(axes: str, shape: Sequence[int], spatial: str = "YX") -> int:
    """Samples of `to_batch` from one time to the next of the same plane; 0 for an image without times.

    Parameters
    ----------
    axes, shape : str, sequence of int
        Axes and shape of the image.
    spatial : {"YX", "ZYX"}
        As given to `to_batch`.
    """
    samples = split_axes(axes, spatial).samples
    if "T" not in samples:
        return 0
    return math.prod(shape[axes.index(a)] for a in samples[samples.index("T") + 1 :])


def repeat_pixels(batch: Any, scale: int) -> Any:
    """Make each pixel of (..., Y, X) a square of `scale` pixels; dask stays lazy."""
    return np.repeat(np.repeat(batch, scale, -2), scale, -1) if scale > 1 else batch


def from_batch(batch: Any, axes: str, shape: Sequence[int], spatial: str = "YX") -> Any:
    """Undo `to_batch`.

    Parameters
    ----------
    batch : numpy.ndarray or dask.array.Array
        Shape (N, C, Y, X) or (N, C, Z, Y, X). Its spatial sizes may differ from those of the original image,
        as after upscaling; they are those of the result.
    axes, shape : str, sequence of int
        Axes and shape of the original image.
    spatial : {"YX", "ZYX"}
        As given to `to_batch`.

    Returns
    -------
    numpy.ndarray or dask.array.Array
        The image in the original order of axes.
    """
    split = split_axes(axes, spatial)
    leading = [shape[axes.index(a)] for a in split.samples + split.channel]
    array = _reshape(batch, (*leading, *batch.shape[2:]))
    order = "".join(split)
    return array.transpose([order.index(a) for a in axes])


def _reshape(array: Any, shape: tuple[int, ...]) -> Any:
    if hasattr(array, "dask"):
        # Merged chunks would hold a whole stack at once; planes are what is worked on.
        return array.reshape(shape, merge_chunks=False)
    return array.reshape(shape)


def _example(ndim: int) -> str:
    return _DEFAULTS.get(ndim, "ZYX")
