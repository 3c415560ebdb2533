"""Open OME-Zarr in napari: lazily, all levels of the pyramid, at its place in the world and with its names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    kept = [i for i, axis in enumerate(first.axes) if axis != "C"]
    name = folder.name.removesuffix(".zarr").removesuffix(".ome")
    options: dict[str, Any] = {
        "name": name,
        "scale": [first.scale[i] for i in kept],
        "translate": [first.translate[i] for i in kept],
        "units": [first.units[i] or "pixel" for i in kept],
        "axis_labels": [_LABELS[first.axes[i]] for i in kept],
        "metadata": dict(first.metadata),
    }
    if "C" in first.axes:
        options["channel_axis"] = first.axes.index("C")
        options["metadata"][PART] = True
        names = first.channel_names or tuple(f"{name} {i}" for i in range(first.size("C")))
        options["name"] = list(names)
    return [(arrays if len(arrays) > 1 else arrays[0], options, "image")]
