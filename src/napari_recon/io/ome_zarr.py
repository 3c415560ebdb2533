"""OME-Zarr, versions 0.4 and 0.5: a folder of chunks, read lazily and written with a pyramid."""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np

from napari_recon.axes import default_axes
from napari_recon.errors import ReconError
from napari_recon.image import Image
from napari_recon.io import _header, _ngff
from napari_recon.io._files import check_memory

VERSION = "0.5"
CHUNK = 1024  # pixels along Y and X
SMALLEST = 512  # side at which the pyramid ends
MOST_CHUNKS = 5_000_000  # dask keeps a note of each
_ZARR_FORMATS = {"0.4": 2, "0.5": 3}

# What may decode a chunk. Others are refused: some, such as pickle, run what they read.
_CODECS = {
    "adler32", "blosc", "bytes", "bz2", "crc32", "crc32c", "delta", "fixedscaleoffset", "fletcher32", "gzip", "lz4",
    "lzma", "packbits", "quantize", "sharding_indexed", "shuffle", "transpose", "zlib", "zstd",
}  # fmt: skip

_logger = logging.getLogger(__name__)


def read(path: Path) -> Image:
    """Read the first level of the first image; its pixels stay on disk until they are needed (dask).

    A Zarr array without OME metadata is read as a bare array.
    """
    return read_levels(path)[0]


def read_levels(path: Path) -> list[Image]:
    """Read all levels of the pyramid, the largest first, each at its place in the world.

    Raises
    ------
    ReconError
        When the metadata are missing or malformed, or the pixels are of a kind that is not read.
    """
    import zarr  # takes long to import, as dask does

    node: Any = zarr.open(path, mode="r")
    if isinstance(node, zarr.Array):
        return [Image(_lazy(node), default_axes(node.shape))]
    attributes = dict(node.attrs)
    content = attributes.get("ome", attributes)
    if "bioformats2raw.layout" in content and "multiscales" not in content:
        _logger.warning("%s is a collection of images: only the first is read.", path)
        return read_levels(path / "0")
    if "multiscales" not in content:
        kind = "a plate" if "plate" in content else "a Zarr folder without an image"
        raise ReconError(f"{path} is {kind}.", f"Give the folder of one image in it, such as {path / '0'}.")
    datasets = content["multiscales"][0]["datasets"]
    return [_ngff.restore(_lazy(_array(path, d["path"])), attributes, level) for level, d in enumerate(datasets)]


def stores_of(pixels: Any) -> list[Path]:
    """Folders on this machine from which an array is read when it is computed: none for one in memory."""
    if isinstance(pixels, np.ndarray):
        return []
    # dask keeps each array that it reads in a layer of its own.
    sources = [value for layer in pixels.dask.layers.values() if len(layer) == 1 for value in layer.values()]
    roots = [getattr(getattr(getattr(s, "array", s), "store", None), "root", None) for s in sources]
    return [Path(root).resolve() for root in roots if root is not None]


def write(path: Path, image: Image, version: str = VERSION) -> None:
    """Write an image chunk by chunk, with a pyramid of halves along Y and X.

    Parameters
    ----------
    path : Path
        Folder, made when it is not there.
    image : Image
        What to write; dask arrays are computed as they are written.
    version : str
        ``"0.4"`` or ``"0.5"``.
    """
    import dask.array

    pixels = _ngff.arrange(image)
    sides = [
        min(n, CHUNK) if a in "YX" else 1 for a, n in zip(_ngff.stored_axes(image.axes), pixels.shape, strict=True)
    ]
    level = create(path, image, sides, version)
    if isinstance(pixels, np.ndarray):
        pixels = dask.array.from_array(pixels, name=False)  # type: ignore[no-untyped-call]
    dask.array.store(pixels.rechunk(tuple(sides)), level, lock=False)
    finish(path, image, version)


def create(path: Path, image: Image, chunks: list[int], version: str = VERSION) -> Any:
    """Make a store with an empty first level, which can be read from now on; `finish` it once that is filled.

    Parameters
    ----------
    image : Image
        Of what shape, type and physics; its pixels are not looked at.
    chunks : list of int
        Sides of a chunk along `_ngff.stored_axes`.

    Returns
    -------
    zarr.Array
    """
    import zarr

    form: Any = _ZARR_FORMATS[version]
    group = zarr.open_group(path, mode="w", zarr_format=form)
    group.attrs.update(_ngff.describe(image, version, [{}], (0.0, 1.0)))
    shape = tuple(_ngff.arrange(image).shape)
    return _add(group, 0, shape, chunks, image.dtype, _ngff.stored_axes(image.axes))


def open_level(path: Path, level: int = 0) -> Any:
    """Open a level of a store for reading and writing."""
    import zarr

    return zarr.open_array(path / str(level), mode="r+")


def finish(path: Path, image: Image, version: str = VERSION) -> None:
    """Add the further levels of the pyramid to a store whose first level is filled, and the metadata."""
    import zarr

    group = zarr.open_group(path, mode="r+")
    axes, array = _ngff.stored_axes(image.axes), open_level(path)
    factors: list[dict[str, int]] = [{}]
    while max(array.shape[-2:]) > SMALLEST:
        halved = {a: 2 for a, n in zip(axes[-2:], array.shape[-2:], strict=True) if n > 1}
        factors.append(
            {a: factors[-1].get(a, 1) * 2 for a in halved} | {a: f for a, f in factors[-1].items() if a not in halved}
        )
        array = _halve(group, len(factors) - 1, array, axes, halved)
    group.attrs.update(_ngff.describe(image, version, factors, _window(array) if image.channel_names else (0.0, 1.0)))


def change_record(path: Path, made: Any) -> None:
    """Replace what a store says of how it was made."""
    import zarr

    group = zarr.open_group(path, mode="r+")
    own: Any = group.attrs[_header.KEY]
    group.attrs[_header.KEY] = {**own, "made": _header.finite(made)}


def _halve(group: Any, level: int, array: Any, axes: str, halved: dict[str, int]) -> Any:
    import dask.array

    steps = {axes.index(a): 2 for a in halved}
    pixels = dask.array.from_array(array, name=False)  # type: ignore[no-untyped-call]
    coarse = dask.array.coarsen(_mean, pixels, steps, trim_excess=True)
    chunks = [min(n, c) for n, c in zip(coarse.shape, array.chunks, strict=True)]
    made = _add(group, level, coarse.shape, chunks, array.dtype, axes)
    dask.array.store(coarse.rechunk(tuple(chunks)), made, lock=False)
    return made


def _mean(block: np.ndarray[Any, Any], axis: Any = None, **_: Any) -> np.ndarray[Any, Any]:
    dtype = block.dtype
    mean = block.mean(axis=axis, dtype=np.float64 if dtype.itemsize == 8 else np.float32)
    if dtype.kind == "f":
        return np.asarray(mean, dtype)
    # The largest 64-bit integers are beyond what floats can hold.
    return np.asarray(np.rint(mean), dtype) if dtype.itemsize < 8 else np.asarray(block.min(axis=axis), dtype)


def _add(group: Any, level: int, shape: tuple[int, ...], chunks: list[int], dtype: Any, axes: str) -> Any:
    options: dict[str, Any] = {"dimension_names": list(axes.lower())}
    if group.metadata.zarr_format == 2:
        options = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    # Of an interrupted run.
    overwrite = str(level) in group
    # C has several integer types of the same size, of which zarr knows one: its name holds the size alone.
    dtype = np.dtype(dtype.str)
    return group.create_array(
        str(level), shape=shape, chunks=tuple(chunks), dtype=dtype, overwrite=overwrite, **options
    )


def _window(array: Any) -> tuple[float, float]:
    """Lowest and highest value of some planes of a small level."""
    planes = array[(*(slice(None, None, max(n // 4, 1)) for n in array.shape[:-2]), ...)]
    known = planes[np.isfinite(planes)]
    return (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)


def _array(path: Path, name: Any) -> Any:
    import zarr

    parts = Path(str(name)).parts
    if not parts or ".." in parts or Path(str(name)).is_absolute():
        raise ReconError(f"{path} says that its pixels are in {name!r}, outside of it.", "Get it again.")
    return zarr.open_array(path.joinpath(*parts), mode="r")


class _Chunks:
    """A Zarr array that tells of a damaged chunk by a `ReconError`; codecs raise whatever comes."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, index: Any) -> Any:
        try:
            return self.array[index]
        except MemoryError:
            raise
        except Exception as error:
            raise ReconError(
                f"A chunk of {self.array.store_path} cannot be read ({type(error).__name__}: {error}).",
                "It may be damaged or cut short: copy it or make it again.",
            ) from error


def _lazy(array: Any) -> Any:
    """Wrap a Zarr array in dask, once it is known that reading it is safe."""
    import dask.array

    if array.dtype.kind not in "uifb" or array.dtype.itemsize > 8:
        raise ReconError(f"Its pixels are of type {array.dtype}.", "Convert it to an integer or floating-point type.")
    unknown = _codecs(array.metadata.to_dict()) - _CODECS
    if unknown:
        raise ReconError(
            f"It is packed by {', '.join(sorted(unknown))}, which this program does not unpack.",
            "Write it again with blosc, zstd or gzip.",
        )
    sides = [max(c, 1) for c in array.chunks]
    # Many tiny chunks would take long to plan.
    for axis in range(max(array.ndim - 2, 0), array.ndim):
        sides[axis] *= max(min(CHUNK, array.shape[axis]) // sides[axis], 1)
    if 0 in array.shape or math.prod(-(-n // c) for n, c in zip(array.shape, sides, strict=True)) > MOST_CHUNKS:
        raise ReconError(f"An array of {array.shape} in chunks of {array.chunks} cannot be read.", "Write it again.")
    check_memory(int(np.prod([float(c) for c in sides])) * array.dtype.itemsize, "One chunk of it")
    lazy = dask.array.from_array(_Chunks(array), chunks=tuple(sides), name=False)  # type: ignore[no-untyped-call]
    return lazy * np.uint8(255) if array.dtype == bool else lazy


def _codecs(metadata: Any) -> set[str]:
    """Names of all codecs in the metadata of an array, of either version of Zarr."""
    found = set()
    for entry in [*(metadata.get("codecs") or ()), *(metadata.get("filters") or ()), metadata.get("compressor")]:
        if entry is not None:
            entry = entry if isinstance(entry, dict) else {"name": str(entry)}
            found.add(str(entry.get("name", entry.get("id"))).removeprefix("numcodecs."))
            inner = entry.get("configuration") or {}
            found |= _codecs({"codecs": [*inner.get("codecs", ()), *inner.get("index_codecs", ())]})
    return found
