"""Reading and writing image files; a new format is one module with `read` and `write`, and a line here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from napari_recon.errors import ReconError
from napari_recon.image import Image, as_image
from napari_recon.io import ome_zarr, raster, tiff
from napari_recon.io._files import check_memory, is_store, reading, replacing, replacing_folder
from napari_recon.io._ngff import VERSIONS


class Format(NamedTuple):
    """How files of one suffix are read and written; `write` gets the path of a temporary file, or folder.

    Formats of several versions take one as the third argument of `write`. Those that cannot hold every image have a
    `check`, which raises `ReconError` for the others.
    """

    read: Callable[[Path], Image]
    write: Callable[..., None]
    folder: bool = False
    versions: tuple[str, ...] = ()
    check: Callable[[Image], None] = lambda image: None


_ZARR = Format(ome_zarr.read, ome_zarr.write, folder=True, versions=VERSIONS)


FORMATS: dict[str, Format] = {
    ".ome.tif": Format(tiff.read, tiff.write_ome, check=tiff.check_ome),
    ".ome.tiff": Format(tiff.read, tiff.write_ome, check=tiff.check_ome),
    ".tif": Format(tiff.read, tiff.write),
    ".tiff": Format(tiff.read, tiff.write),
    ".png": Format(raster.read, raster.write_png, check=raster.check_png),
    ".jpg": Format(raster.read, raster.write_jpeg, check=raster.check_jpeg),
    ".jpeg": Format(raster.read, raster.write_jpeg, check=raster.check_jpeg),
    ".ome.zarr": _ZARR,
    ".zarr": _ZARR,
}
"""Suffix (lower case, the longest that fits counts) to format."""


def read_image(path: str | Path, axes: str | None = None) -> Image:
    """Read an image file.

    Parameters
    ----------
    path : str or Path
        A file in one of `FORMATS`. Of a file with several images, or several resolutions, the first is read.
        The folder of one image inside a larger Zarr folder may have any name.
    axes : str or None
        Axes of the image, one letter of ``"TZCYXS"`` for each; None takes them from the file, or guesses.

    Returns
    -------
    Image
        In memory (OME-Zarr: on disk until its pixels are needed), with the axes, scale, units and channel names
        that the file states; named after the file.

    Raises
    ------
    ReconError
        When the file is missing, damaged, cut short, larger than the free memory or of an unknown format, or
        the axes do not fit.
    """
    path = Path(path).expanduser()
    unnamed = not path.name.lower().endswith(tuple(FORMATS))
    inside = unnamed and is_store(path)
    if unnamed and not inside and path.is_dir():
        raise ReconError(f"{path} is a folder.", "Give one image file in it; `napari-recon batch` restores all.")
    suffix = ".zarr" if inside else _suffix(path)
    with reading(path, FORMATS[suffix].folder):
        image = FORMATS[suffix].read(path)
    image = image.with_array(image.array, name=path.name if inside else path.name[: -len(suffix)])
    return image if axes is None else image.relabel(axes)


def write_image(path: str | Path, image: Any, axes: str | None = None, *, version: str | None = None) -> None:
    """Write an image file, whole or not at all.

    Parameters
    ----------
    path : str or Path
        Where to; its suffix chooses the format. A file of that name is replaced once the new one is complete.
    image : Image or array
        What to write. TIFF keeps its axes, type, scale, position and units, and so do PNG and JPEG, which
        hold grey or colour images of 8 bits (PNG also grey ones of 16 bits). OME-Zarr takes images larger than
        the memory (dask) and adds a pyramid.
    axes : str or None
        Axes of an array, as for `as_image`.
    version : str, optional
        Of OME-Zarr: ``"0.5"``, or ``"0.4"`` for older programs.

    Raises
    ------
    ReconError
        When the format cannot hold the image, or the file cannot be written; an old file is then untouched.
    """
    path = Path(path).expanduser()
    form = FORMATS[_suffix(path)]
    if version is not None and version not in form.versions:
        known = f"Versions are {' and '.join(form.versions)}." if form.versions else "Leave the version out."
        raise ReconError(f"{path.name} cannot be of version {version}.", known)
    image = as_image(image, axes)
    form.check(image)
    if not form.folder and not isinstance(image.array, np.ndarray):
        check_memory(image.array.nbytes, "The image to be written")
        # Computed before the file is opened: what goes wrong there is no fault of the file.
        image = image.with_array(np.asarray(image.array))
    with (replacing_folder if form.folder else replacing)(path) as temporary:
        form.write(temporary, image, *([version] if version else []))


def check_format(path: Path, image: Image, dtype: Any) -> None:
    """Raise `ReconError`, before the work, when a file cannot hold an image of these axes and that pixel type."""
    empty = np.broadcast_to(np.zeros((), dtype), image.shape)
    FORMATS[_suffix(path)].check(image.with_array(empty))


def _suffix(path: Path) -> str:
    name = path.name.lower()
    fitting = [suffix for suffix in FORMATS if name.endswith(suffix)]
    if not fitting:
        raise ReconError(
            f"{path.name!r} has no known image format.", f"Use a file name that ends in {', '.join(FORMATS)}."
        )
    return max(fitting, key=len)
