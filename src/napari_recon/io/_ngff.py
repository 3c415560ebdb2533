"""What OME-Zarr says of an image: axes, scale, position, units and channel names (NGFF 0.4 and 0.5)."""

import json
import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_recon.errors import ReconError
from napari_recon.image import Image
from napari_recon.io import _header

_logger = logging.getLogger(__name__)

VERSIONS = ("0.4", "0.5")
ORDER = "STCZYX"
_STORED = "TCZYX"  # the order that NGFF asks for; it knows no S: its samples are further times
_TYPES = {"T": "time", "C": "channel"}  # all others are space
_COLOURS = ("FFFFFF", "00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")

# Our unit to the name in NGFF.
_UNITS = {
    "pm": "picometer", "angstrom": "angstrom", "nm": "nanometer", "um": "micrometer", "mm": "millimeter",
    "cm": "centimeter", "m": "meter", "ns": "nanosecond", "us": "microsecond", "ms": "millisecond", "s": "second",
    "min": "minute", "h": "hour",
}  # fmt: skip


def stored_axes(axes: str) -> str:
    """Return the axes that the file has for an image of these."""
    return "".join(a for a in _STORED if a in axes or (a == "T" and "S" in axes))


def arrange(image: Image) -> Any:
    """Return the pixels with the axes of `stored_axes`; dask stays lazy."""
    array = image.array.transpose([image.axes.index(a) for a in ORDER if a in image.axes])
    if {"S", "T"} <= set(image.axes):
        shape = (-1, *array.shape[2:])
        # Merged chunks would hold all samples of a time at once.
        array = array.reshape(shape, merge_chunks=False) if hasattr(array, "dask") else array.reshape(shape)
    return array


def describe(image: Image, version: str, factors: Sequence[dict[str, int]], window: tuple[float, float]) -> Any:
    """Make the attributes of the group.

    Parameters
    ----------
    image : Image
        The first level; its pixels are not looked at.
    version : str
        One of `VERSIONS`.
    factors : sequence of dict of str to int
        For each level, how many pixels of the first one make one of its pixels, along the axes where that is not 1.
    window : (float, float)
        Lowest and highest value, for showing it.
    """
    multiscale: dict[str, Any] = {
        "name": image.name,
        "axes": _axes(image),
        "datasets": [
            {"path": str(level), "coordinateTransformations": _transformations(image, factor)}
            for level, factor in enumerate(factors)
        ],
    }
    content: dict[str, Any] = {"multiscales": [multiscale]}
    if image.channel_names:
        content["omero"] = {"channels": _channels(image, window)}
    own = {"image": json.loads(_header.dump(image, ORDER)), "made": image.metadata.get(_header.KEY)}
    if version == "0.4":
        multiscale["version"] = version
    else:
        content = {"ome": {"version": version, **content}}
    return {**content, _header.KEY: _header.finite(own)}


def restore(array: Any, attributes: Any, level: int = 0) -> Image:
    """Make an image of one level from its pixels and the attributes of the group.

    Raises
    ------
    ReconError
        When the attributes are those of another version, or do not fit the pixels.
    """
    content = attributes.get("ome", attributes)
    multiscale = content["multiscales"][0]
    _check_version(content.get("version") or multiscale.get("version"))
    own = attributes.get(_header.KEY)
    header, record = (own.get("image"), own.get("made")) if isinstance(own, dict) else (None, own)
    if record and not isinstance(record, dict):
        if level == 0:
            _logger.warning("What the file says of how it was made was altered: it is left out.")
        record = None
    made = {_header.KEY: record} if record else {}
    exact = _header.restore(array, json.dumps(header)) if level == 0 else None
    # Another program may have given it another scale, or names: then what it wrote counts.
    if exact is not None and _says(exact) == _said(content, multiscale):
        return exact.with_array(exact.array, metadata=made)
    axes = "".join(_letter(a) for a in multiscale["axes"])
    scale, translate = _place(multiscale, level, len(axes))
    units = tuple(a.get("unit") for a in multiscale["axes"])
    names = tuple(_labels(content))
    channels = array.shape[axes.index("C")] if "C" in axes and len(axes) == array.ndim else 1
    return Image(
        array, axes, scale, translate, units, channel_names=names if len(names) == channels else (), metadata=made
    )


def _axes(image: Image) -> list[dict[str, str]]:
    found = []
    for axis in stored_axes(image.axes):
        unit = image.units[_index(image, axis)]
        entry = {"name": axis.lower(), "type": _TYPES.get(axis, "space")}
        found.append(entry | ({"unit": _UNITS.get(unit, unit)} if unit is not None and axis != "C" else {}))
    return found


def _transformations(image: Image, factor: dict[str, int]) -> list[dict[str, Any]]:
    axes = stored_axes(image.axes)
    scale = [image.scale[_index(image, a)] for a in axes]
    # Positions are those of pixel centres: the first pixel of a level covers the first `factor` pixels.
    shift = [(factor.get(a, 1) - 1) / 2 * s for a, s in zip(axes, scale, strict=True)]
    translate = [image.translate[_index(image, a)] + d for a, d in zip(axes, shift, strict=True)]
    return [
        {"type": "scale", "scale": [factor.get(a, 1) * s for a, s in zip(axes, scale, strict=True)]},
        {"type": "translation", "translation": translate},
    ]


def _index(image: Image, axis: str) -> int:
    return image.axes.index(axis if axis in image.axes else "S")


def _channels(image: Image, window: tuple[float, float]) -> list[dict[str, Any]]:
    low, high = window
    whole = None if image.dtype.kind == "f" else np.iinfo(image.dtype)
    lowest, highest = (low, high) if whole is None else (int(whole.min), int(whole.max))
    return [
        {
            "label": name,
            "active": True,
            "color": _COLOURS[i % len(_COLOURS)],
            "window": {"min": lowest, "max": highest, "start": low, "end": high},
        }
        for i, name in enumerate(image.channel_names)
    ]


def _says(image: Image) -> tuple[Any, ...]:
    return _axes(image), _transformations(image, {}), list(image.channel_names)


def _said(content: Any, multiscale: Any) -> tuple[Any, ...]:
    return multiscale["axes"], multiscale["datasets"][0]["coordinateTransformations"], _labels(content)


def _labels(content: Any) -> list[str]:
    channels = (content.get("omero") or {}).get("channels") or []
    return [str(c.get("label", i)) for i, c in enumerate(channels)]


def _letter(axis: Any) -> str:
    return str(axis["name"])[:1].upper()


def _place(multiscale: Any, level: int, ndim: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scale and position of a level: those of its own, then those of all levels."""
    scale, translate = [1.0] * ndim, [0.0] * ndim
    own = multiscale["datasets"][level].get("coordinateTransformations") or []
    for step in [*own, *(multiscale.get("coordinateTransformations") or [])]:
        values = [float(v) for v in step.get(step["type"], [])] if step["type"] != "identity" else [1.0] * ndim
        if step["type"] not in ("identity", "scale", "translation") or len(values) != ndim:
            raise ReconError(
                f"Its coordinate transformation {step!r} is not one of OME-Zarr.",
                "Write it again with another program.",
            )
        if step["type"] == "translation":
            translate = [t + v for t, v in zip(translate, values, strict=True)]
        else:
            scale = [s * v for s, v in zip(scale, values, strict=True)]
            translate = [t * v for t, v in zip(translate, values, strict=True)]
    return tuple(s if s != 0 and math.isfinite(s) else 1.0 for s in scale), tuple(translate)


def _check_version(version: Any) -> None:
    if version is not None and not str(version).startswith(VERSIONS):
        raise ReconError(
            f"It is OME-Zarr of version {version}, of which this program knows nothing.",
            f"Convert it to version {' or '.join(VERSIONS)}.",
        )
