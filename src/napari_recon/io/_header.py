"""A line of JSON in the comment of a file: what its format has no place for, so that nothing gets lost.

Formats fix the order of axes, drop those of length 1 and round the scale. Other programs read the pixels and
the format's own fields and pass the line over; `read_image` restores the image exactly.
"""

import json
import math
from typing import Any

import numpy as np

from napari_recon.errors import ReconError
from napari_recon.image import Image

KEY = "napari_recon"


def arrange(image: Image, order: str) -> np.ndarray[Any, Any]:
    """Return the pixels with exactly the axes in `order`; those that the image lacks have length 1."""
    present = [a for a in order if a in image.axes]
    array = np.asarray(image.array).transpose([image.axes.index(a) for a in present])
    return array.reshape([image.size(a) for a in order])


def dump(image: Image, order: str, **more: Any) -> str:
    """Write what `restore` needs, and more, in ASCII."""
    return json.dumps(
        {
            **more,
            "order": order,
            "axes": image.axes,
            "shape": image.shape,
            "scale": image.scale,
            "translate": image.translate,
            "units": image.units,
            "channel_names": image.channel_names,
        }
    )


def finite(value: Any) -> Any:
    """Replace infinity and not-a-number, which JSON lacks, by null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    return [finite(v) for v in value] if isinstance(value, list | tuple) else value


def restore(array: np.ndarray[Any, Any], text: str) -> Image | None:
    """Rebuild an image from pixels in the order of `arrange`, whose axes may be merged or squeezed.

    Returns None when another program has changed the pixels' shape or the line, so that it no longer holds.
    """
    try:
        header = json.loads(text)
        axes, order = header["axes"], header["order"]
        sizes = dict(zip(axes, header["shape"], strict=True))
        present = [a for a in order if a in axes]
        if sorted(present) != sorted(axes) or math.prod(sizes.values()) != array.size:
            return None
        array = array.reshape([sizes[a] for a in present]).transpose([present.index(a) for a in axes])
        scale, translate, units, names = (header[k] for k in ("scale", "translate", "units", "channel_names"))
        made = header.get("made")
        metadata = {KEY: made} if isinstance(made, dict) else {}
        return Image(array, axes, scale, translate, units, channel_names=names, metadata=metadata)
    except (ValueError, KeyError, TypeError, AttributeError, ReconError):
        return None
