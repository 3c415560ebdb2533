"""Save image layers with their scale, position, units and names, which napari's own writer leaves out."""

from typing import Any

import numpy as np
from napari.layers import Layer

from napari_recon.errors import ReconError
from napari_recon.image import Image
from napari_recon.io import write_image
from napari_recon.plugin._layers import KEY, snapshot

LayerData = tuple[Any, dict[str, Any], str]


def write_layers(path: str, layers: list[LayerData]) -> list[str]:
    """Write one layer, or several as the channels of one image; return the path.

    Raises
    ------
    ReconError
        When the layers cannot be channels of one image, or the format cannot hold them.
    """
    write_image(path, _together([_image(Layer.create(*layer)) for layer in layers]))
    return [path]


def _image(layer: Any) -> Image:
    image = snapshot(layer).image
    record = {KEY: layer.metadata[KEY]} if KEY in layer.metadata else {}
    return image.with_array(image.array, metadata=record)


def _together(images: list[Image]) -> Image:
    first = images[0]
    if len(images) == 1:
        return first
    if len({(i.shape, i.axes, i.scale, i.translate) for i in images}) > 1:
        raise ReconError("Layers of different shapes or places are no channels of one image.", "Save them one by one.")
    if "C" in first.axes:
        raise ReconError("Layers that have channels of their own are not put together.", "Save them one by one.")
    place = next(n for n, axis in enumerate(first.axes) if axis in "ZYX")

    def with_channel(values: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
        return (*values[:place], value, *values[place:])

    arrays = [i.array for i in images]
    if all(isinstance(a, np.ndarray) for a in arrays):
        pixels: Any = np.stack(arrays, place)
    else:
        import dask.array

        pixels = dask.array.stack(arrays, place)
    return Image(
        pixels,
        "".join(with_channel(tuple(first.axes), "C")),
        scale=with_channel(first.scale, 1.0),
        translate=with_channel(first.translate, 0.0),
        units=with_channel(first.units, None),
        name=first.name,
        channel_names=tuple(i.name for i in images),
    )
