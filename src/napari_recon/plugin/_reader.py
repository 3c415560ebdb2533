"""Open OME-Zarr in napari: lazily, all levels of the pyramid, at its place in the world and with its names.

And OME-TIFF, of which napari's own reader takes the pixels alone.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from napari_recon.image import Image
from napari_recon.io import read_image
from napari_recon.io._files import is_store, reading
from napari_recon.io.ome_zarr import read_levels
from napari_recon.plugin._layers import PART

LayerData = tuple[Any, dict[str, Any], str]
_LABELS = {"T": "time", "C": "channel", "Z": "z", "Y": "y", "X": "x", "S": "sample"}


def get_reader(path: str | list[str]) -> Callable[[Any], list[LayerData]] | None:
    """Return what reads a Zarr folder; None for anything else."""
    return read if isinstance(path, str) and is_store(Path(path)) else None


def read(path: str) -> list[LayerData]:
    """Read one image; its channels become layers."""
    folder = Path(path)
    with reading(folder, folder=True):
        levels = read_levels(folder)
    first = levels[0]
    # A coarser level loses what only the first one has a note of; its axes are then in another order.
    arrays = [level.array for level in levels if level.axes == first.axes]
    return [_layer(first, arrays if len(arrays) > 1 else arrays[0], folder)]


def get_tiff_reader(path: str | list[str]) -> Callable[[Any], list[LayerData]] | None:
    """Return what reads an OME-TIFF; None for a stack of several."""
    return read_tiff if isinstance(path, str) else None


def read_tiff(path: str) -> list[LayerData]:
    """Read the first image of a file; its channels become layers, colours stay together."""
    image = read_image(path)
    return [_layer(image, image.array, Path(path))]


def _layer(image: Image, pixels: Any, path: Path) -> LayerData:
    """Give pixels, or the levels of a pyramid, the place and the names of an image."""
    kept = [i for i, axis in enumerate(image.axes) if axis != "C"]
    name = path.name
    for suffix in (".zarr", ".tif", ".tiff", ".ome"):
        name = name.removesuffix(suffix)
    options: dict[str, Any] = {
        "name": name,
        "scale": [image.scale[i] for i in kept],
        "translate": [image.translate[i] for i in kept],
        "units": [image.units[i] or "pixel" for i in kept],
        "axis_labels": [_LABELS[image.axes[i]] for i in kept],
        "metadata": dict(image.metadata),
    }
    if image.axes.endswith("YXC") and image.size("C") == 3 and image.dtype == np.uint8:
        options["rgb"] = True
    elif "C" in image.axes:
        options["channel_axis"] = image.axes.index("C")
        options["metadata"][PART] = True
        names = image.channel_names or tuple(f"{name} {i}" for i in range(image.size("C")))
        options["name"] = list(names)
    return pixels, options, "image"
