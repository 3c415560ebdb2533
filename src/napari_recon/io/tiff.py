"""TIFF, OME-TIFF and ImageJ TIFF."""

import logging
import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from napari_recon.axes import AXES
from napari_recon.errors import ReconError
from napari_recon.image import Image
from napari_recon.io import _header
from napari_recon.io._files import check_memory

_ORDER = "STZCYX"
_ORDER_RGB = "STZYXC"
_IMAGEJ_TYPES = (np.uint8, np.uint16, np.float32)
_OME_TYPES = (*_IMAGEJ_TYPES, np.int8, np.int16, np.int32, np.uint32, np.float64)
_ALPHA = ((int(tifffile.EXTRASAMPLE.ASSOCALPHA),), (int(tifffile.EXTRASAMPLE.UNASSALPHA),))
_CLASSIC_LIMIT = 2**32 - 2**25  # offsets have 32 bits; tifffile keeps as much for the headers

# Our unit to the symbol in OME-XML. None is a length in pixels.
_OME_LENGTH = {None: "pixel", "um": "µm", "angstrom": "Å"} | {u: u for u in ("pm", "nm", "mm", "cm", "m")}
_OME_TIME = {"us": "µs"} | {u: u for u in ("s", "ms", "ns", "min", "h")}
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0}

_Physics = dict[str, tuple[float, str | None]]
_logger = logging.getLogger(__name__)


def read(path: Path) -> Image:
    """Read the first image of a TIFF file, at its highest resolution.

    Axes that the file does not name are guessed as for bare arrays; the samples of a colour image are its
    channels, and its transparency is dropped. Scale and units come from OME-XML, from ImageJ's fields or from a
    resolution per centimetre (a resolution per inch is a printer's, not a microscope's).

    Raises
    ------
    ReconError
        When planes, pixels or tags are missing, or the image is larger than the free memory.
    """
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        if len(file.series) > 1:
            _logger.warning("%s holds %d images: only the first is read.", path, len(file.series))
        _check_complete(path, file, series)
        check_memory(int(np.prod(series.shape, dtype=float)) * series.dtype.itemsize, str(path))
        array = _without_alpha(series, path)
        array = array * np.uint8(255) if array.dtype == bool else array
        header, physics, names = _metadata(file)
    restored = _header.restore(array, header)
    if restored is not None:
        return restored
    axes = _known_axes(series.axes)
    scales, units = zip(*(physics.get(a, (1.0, None)) for a in axes), strict=True)
    channels = array.shape[axes.index("C")] if "C" in axes else 1
    return Image(array, axes, scales, (), units, channel_names=names if len(names) == channels else ())


def write(path: Path, image: Image) -> None:
    """Write ImageJ TIFF where it can hold the image, else OME-TIFF, else plain TIFF (float16, 64-bit int)."""
    if image.dtype in _IMAGEJ_TYPES and image.array.nbytes < _CLASSIC_LIMIT:
        order = _order(image)
        units = {image.units[image.axes.index(a)] for a in "ZYX" if a in image.axes}
        metadata: dict[str, Any] = {_header.KEY: _dump(image, order)}
        options: dict[str, Any] = {}
        if len(units) == 1:  # ImageJ has one unit for all lengths
            metadata["unit"] = _printable(units.pop() or "pixel").encode("ascii", "replace").decode()
            options["resolution"] = (1 / abs(_scale(image, "X")), 1 / abs(_scale(image, "Y")))
            if "Z" in image.axes:
                metadata["spacing"] = abs(_scale(image, "Z"))
        seconds = _SECONDS.get(_unit(image, "T") or "")
        if seconds:
            metadata["finterval"] = abs(_scale(image, "T")) * seconds
        if image.size("C") > 1 and order == _ORDER:
            metadata["mode"] = "composite" if image.size("C") <= 7 else "grayscale"
        _save(path, image, order, metadata, imagej=True, **options)
    elif image.dtype in _OME_TYPES:
        write_ome(path, image)
    else:
        _save(path, image, _ORDER, {_header.KEY: _dump(image, _ORDER)})


def check_ome(image: Image) -> None:
    """Raise `ReconError` for what OME-TIFF cannot hold; the pixels are not looked at."""
    if image.dtype not in _OME_TYPES:
        raise ReconError(
            f"OME-TIFF cannot hold pixels of type {image.dtype}.",
            "Convert it to float32 or uint16 first, or use a name that ends in .tif.",
        )


def write_ome(path: Path, image: Image) -> None:
    """Write OME-TIFF, as BigTIFF beyond 4 GB."""
    order = _order(image)
    header = {_header.KEY: _dump(image, order)}
    metadata: dict[str, Any] = {"MapAnnotation": {"Namespace": "napari-recon", "Value": header}}
    if image.name:
        metadata["Name"] = _printable(image.name)
    if image.channel_names:
        metadata["Channel"] = {"Name": [_printable(name) for name in image.channel_names]}
    for axis in "ZYX":
        unit = _OME_LENGTH.get(_unit(image, axis))
        if axis in image.axes and unit:
            metadata[f"PhysicalSize{axis}"] = abs(_scale(image, axis))
            metadata[f"PhysicalSize{axis}Unit"] = unit
    if _unit(image, "T") in _OME_TIME:
        metadata["TimeIncrement"] = abs(_scale(image, "T"))
        metadata["TimeIncrementUnit"] = _OME_TIME[_unit(image, "T") or ""]
    _save(path, image, order, metadata, ome=True)


def _dump(image: Image, order: str) -> str:
    """Write the header, with how the image was made where that is known."""
    made = image.metadata.get(_header.KEY)
    return _header.dump(image, order, **({"made": _header.finite(made)} if made else {}))


def _save(path: Path, image: Image, order: str, metadata: dict[str, Any], **options: Any) -> None:
    array = _header.arrange(image, order)
    # No format knows the S axis: its samples are further time points, and the header tells them apart.
    array = array.reshape(-1, *array.shape[2:])
    if order == _ORDER_RGB:
        array = array[:, :, np.newaxis]
        options |= {"photometric": "rgb", "metadata": metadata | {"axes": "TZCYXS"}}
    else:
        options |= {"photometric": "minisblack", "metadata": metadata | {"axes": "TZCYX"}}
    tifffile.imwrite(path, array, bigtiff=array.nbytes >= _CLASSIC_LIMIT, **options)


def _order(image: Image) -> str:
    rgb = image.axes.endswith("C") and image.size("C") == 3 and image.dtype == np.uint8
    return _ORDER_RGB if rgb else _ORDER


def _printable(text: str) -> str:
    """Drop line breaks and control characters, which would end ImageJ's line or damage the XML."""
    return "".join(c for c in text if c.isprintable())


def _scale(image: Image, axis: str) -> float:
    return image.scale[image.axes.index(axis)] if axis in image.axes else 1.0


def _unit(image: Image, axis: str) -> str | None:
    return image.units[image.axes.index(axis)] if axis in image.axes else None


def _check_complete(path: Path, file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> None:
    """Refuse a file cut short, of which tifffile would read what is left, or zeros.

    The chain of planes must end with a 0, every tag of the first plane must be there, no plane may be
    missing, and all tiles must lie inside the file (about strips tifffile itself complains).
    """
    handle, kind = file.filehandle, file.tiff
    handle.seek(file.pages.next_page_offset or 0)
    end = handle.read(kind.offsetsize)
    first = file.pages.first
    handle.seek(first.offset)
    (count,) = struct.unpack(kind.tagnoformat, handle.read(kind.tagnosize))
    listed = len(end) == kind.offsetsize and not any(end) and len(first.tags) >= count
    if not listed or not all(map(_has_all_tiles, series.pages)):
        raise ReconError(
            f"{path} is damaged or cut short: a part of its planes is missing.",
            "Export or copy it again, with all files that belong to it.",
        )


def _without_alpha(series: tifffile.TiffPageSeries, path: Path) -> np.ndarray[Any, Any]:
    """Read the pixels; of a colour image without its transparency, which is no signal."""
    array: np.ndarray[Any, Any] = series.asarray()
    page, axis = series.keyframe, series.axes.find("S")
    transparent = page.photometric == tifffile.PHOTOMETRIC.RGB and page.extrasamples in _ALPHA
    if axis < 0 or not transparent:
        return array
    colours, opacity = np.split(array, [3], axis)
    if opacity.min() != opacity.max():
        _logger.warning("%s is partly transparent: its transparency is dropped.", path)
    return colours


def _has_all_tiles(page: tifffile.TiffPage | tifffile.TiffFrame | None) -> bool:
    if page is None:
        return False
    if page.keyframe is None or not page.keyframe.is_tiled:
        return True
    ends = (o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True))
    return max(ends, default=0) <= page.parent.filehandle.size


def _known_axes(axes: str) -> str:
    """Rename the axes that tifffile has and we have not (Q: unknown, I: pages, S: samples of a colour)."""
    if "S" in axes and "C" not in axes:
        axes = axes.replace("S", "C")
    unknown = [a for a in axes if a not in AXES]
    free = [a for a in "ZTCS" if a not in axes][: len(unknown)]
    if len(free) < len(unknown):
        raise ReconError(f"The file has too many axes ({len(axes)}).", f"Save it with at most {len(AXES)}.")
    names = iter(sorted(free, key="STCZ".index))
    return "".join(a if a in AXES else next(names) for a in axes)


def _metadata(file: tifffile.TiffFile) -> tuple[str, _Physics, tuple[str, ...]]:
    """Return our header, scale and unit by axis, and the names of the channels."""
    if file.ome_metadata:
        return _ome_metadata(file.ome_metadata)
    if file.imagej_metadata:
        return _imagej_metadata(file)
    shaped = file.shaped_metadata[0] if file.shaped_metadata else {}
    physics: _Physics = {}
    if file.pages.first.resolutionunit == tifffile.RESUNIT.CENTIMETER:
        x, y = file.pages.first.resolution
        physics = {a: (1e4 / r, "um") for a, r in (("X", x), ("Y", y)) if r > 0}
    return str(shaped.get(_header.KEY, "")), physics, ()


def _ome_metadata(xml: str) -> tuple[str, _Physics, tuple[str, ...]]:
    root = ElementTree.fromstring(xml)
    header = next((m.text or "" for m in root.iterfind(".//{*}M") if m.get("K") == _header.KEY), "")
    pixels = root.find(".//{*}Pixels")
    if pixels is None:
        return header, {}, ()
    physics: _Physics = {}
    fields = {a: (f"PhysicalSize{a}", "µm") for a in "ZYX"} | {"T": ("TimeIncrement", "s")}
    for axis, (name, default) in fields.items():
        value = float(pixels.get(name) or 0)
        if value > 0 and np.isfinite(value):
            physics[axis] = value, pixels.get(f"{name}Unit", default)
    names = [c.get("Name", "") for c in pixels.iterfind("{*}Channel")]
    return header, physics, tuple(names) if all(names) else ()


def _imagej_metadata(file: tifffile.TiffFile) -> tuple[str, _Physics, tuple[str, ...]]:
    fields = file.imagej_metadata or {}
    unit = str(fields.get("unit", ""))
    x, y = file.pages.first.resolution
    lengths = {"X": 1 / x if x > 0 else 0.0, "Y": 1 / y if y > 0 else 0.0, "Z": fields.get("spacing", 0)}
    physics: _Physics = {a: (float(v), unit) for a, v in lengths.items() if v and unit}
    if fields.get("finterval"):
        physics["T"] = float(fields["finterval"]), str(fields.get("tunit", "sec"))
    return str(fields.get(_header.KEY, "")), physics, ()
