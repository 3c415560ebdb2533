"""Which part of a layer the viewer shows now."""

from typing import Any

import numpy as np
from napari.layers import Image as ImageLayer

LARGEST_PREVIEW = 256  # pixels; a training refreshes it often


def current_plane(viewer: Any, layer: ImageLayer, axes: str) -> dict[str, slice]:
    """Slices that keep of each axis with a slider only the position shown now."""
    position = layer.world_to_data(viewer.dims.point[-layer.ndim :])
    shape = _shape(layer)
    hidden = viewer.dims.ndim - layer.ndim
    displayed = {d - hidden for d in viewer.dims.displayed}
    slices = {}
    for i, axis in enumerate(axes[: layer.ndim]):
        if i not in displayed and axis not in "YX":
            index = int(np.clip(round(position[i]), 0, shape[i] - 1))
            slices[axis] = slice(index, index + 1)
    return slices


def visible_region(viewer: Any, layer: ImageLayer, axes: str) -> dict[str, slice]:
    """Slices of the plane shown now that keep what the canvas shows of it; all of it before the first drawing."""
    slices = current_plane(viewer, layer, axes)
    factor = layer.downsample_factors[layer.data_level] if layer.multiscale else np.ones(layer.ndim)
    first, last = np.asarray(layer.corner_pixels) * factor
    shape = _shape(layer)
    for axis in "YX":
        i = axes.index(axis)
        low, high = int(max(first[i], 0)), int(min(last[i] + factor[i], shape[i]))
        if axis not in slices and high - low > 1:
            slices[axis] = slice(low, high)
    return slices


def preview_region(
    viewer: Any, layer: ImageLayer, axes: str, box: Any = None, largest: int = LARGEST_PREVIEW
) -> dict[str, slice]:
    """Slices of a small region to watch: the middle of what is visible, or of a box of a shapes layer."""
    slices = visible_region(viewer, layer, axes)
    shape = _shape(layer)
    for column, axis in zip((-2, -1), "YX", strict=True):
        i = axes.index(axis)
        part = slices.get(axis, slice(0, shape[i]))
        low, high = part.start, part.stop
        if box is not None:
            low = int(np.clip(box[:, column].min(), 0, shape[i] - 1))
            high = int(np.clip(box[:, column].max() + 1, low + 1, shape[i]))
        slices[axis] = middle(slice(low, high), largest)
    return slices


def middle(part: slice, largest: int) -> slice:
    """The middle of a part of an axis, no more than `largest` pixels of it."""
    size = min(part.stop - part.start, largest)
    low = part.start + (part.stop - part.start - size) // 2
    return slice(low, low + size)


def _shape(layer: ImageLayer) -> tuple[int, ...]:
    return tuple((layer.data[0] if layer.multiscale else layer.data).shape)
