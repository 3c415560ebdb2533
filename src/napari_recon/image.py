"""`Image`: an array that knows its axes and its physics."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from napari_recon.axes import check_axes, default_axes
from napari_recon.errors import ReconError

# The two code points of the micro and angstrom signs look the same; ImageJ writes a backslash escape.
_UNITS = {
    "pm": ("picometer", "picometre"),
    "angstrom": ("\u00c5", "\u212b", "\u00e5ngstr\u00f6m"),
    "nm": ("nanometer", "nanometre"),
    "um": ("\u00b5m", "\u03bcm", r"\u00b5m", "micron", "micrometer", "micrometre"),
    "mm": ("millimeter", "millimetre"),
    "cm": ("centimeter", "centimetre"),
    "m": ("meter", "metre"),
    "ns": ("nanosecond",),
    "us": ("\u00b5s", "\u03bcs", "microsecond"),
    "ms": ("msec", "millisecond"),
    "s": ("sec", "second"),
    "min": ("minute",),
    "h": ("hour",),
}
_UNIT_OF_NAME = {name: unit for unit, names in _UNITS.items() for name in names}
_NO_UNIT = {"", "pixel", "pixels", "px", "dimensionless", "none"}


@dataclass(frozen=True, eq=False)
class Image:
    """An image of any axes with its scale, position and units.

    Parameters
    ----------
    array : numpy.ndarray, dask.array.Array or zarr.Array
        Pixels; at least one, of an integer or floating-point type of up to 64 bits. Arrays on disk (zarr and
        the like) are wrapped in dask and stay there; a foreign byte order becomes the machine's own.
    axes : str
        One letter of ``"TZCYXS"`` for each axis.
    scale : tuple of float
        Size of a pixel along each axis, in `units`; empty for 1 everywhere. Never 0.
    translate : tuple of float
        World position of the first pixel along each axis, in `units`; empty for 0 everywhere.
    units : tuple of (str or None)
        Unit of each axis (``"um"``, ``"nm"``, ``"s"``), None for a pixel count; empty for None everywhere.
        Other spellings (micron, µm, micrometer) become these.
    name : str
        Name to show.
    channel_names : tuple of str
        One name for each channel, or empty.
    metadata : dict
        Anything else; carried along, never read.

    Raises
    ------
    ReconError
        When the parts do not fit together, or the array is empty or not made of real numbers.
    """

    array: Any = field(repr=False)
    axes: str
    scale: tuple[float, ...] = ()
    translate: tuple[float, ...] = ()
    units: tuple[str | None, ...] = ()
    name: str = ""
    channel_names: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        array = _checked_array(self.array)
        axes = check_axes(self.axes, array.shape)
        ndim = len(axes)
        values = {
            "array": array,
            "axes": axes,
            "scale": _numbers("scale", self.scale, 1.0, ndim),
            "translate": _numbers("translate", self.translate, 0.0, ndim),
            "units": _units(self.units, ndim),
            "channel_names": tuple(map(str, self.channel_names)),
            "metadata": dict(self.metadata),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        if self.channel_names and len(self.channel_names) != self.size("C"):
            raise ReconError(
                f"There are {len(self.channel_names)} channel names for {self.size('C')} channels.",
                "Give one name for each channel, or none at all.",
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of pixels along each axis."""
        return tuple(int(n) for n in self.array.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.axes)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel."""
        dtype: np.dtype[Any] = self.array.dtype
        return dtype

    def size(self, axis: str) -> int:
        """Return the number of pixels along an axis, 1 for an axis that the image lacks."""
        return self.shape[self.axes.index(axis)] if axis in self.axes else 1

    def with_array(self, array: Any, name: str | None = None, **changes: Any) -> Self:
        """Return an image of other pixels with the same physics.

        Parameters
        ----------
        array : array
            The new pixels, of as many axes (unless `changes` gives other axes).
        name : str or None
            New name, None to keep it.
        **changes
            Other fields to replace, such as ``scale``. Channel names are dropped when they no longer fit.
        """
        if name is not None:
            changes["name"] = name
        axes = changes.get("axes", self.axes)
        channels = array.shape[axes.index("C")] if "C" in axes and len(array.shape) == len(axes) else 1
        if len(self.channel_names) != channels:
            changes.setdefault("channel_names", ())
        return dataclasses.replace(self, array=array, **changes)

    def relabel(self, axes: str) -> Self:
        """Return the same pixels with other axes.

        An axis that gets another letter loses its scale, position and unit, which described something else.
        """
        axes = check_axes(axes, self.shape)
        same = [new == old for new, old in zip(axes, self.axes, strict=True)]
        return dataclasses.replace(
            self,
            axes=axes,
            scale=tuple(s if keep else 1.0 for s, keep in zip(self.scale, same, strict=True)),
            translate=tuple(t if keep else 0.0 for t, keep in zip(self.translate, same, strict=True)),
            units=tuple(u if keep else None for u, keep in zip(self.units, same, strict=True)),
            channel_names=self.channel_names if axes.find("C") == self.axes.find("C") else (),
        )

    def crop(self, slices: Mapping[str, slice | int]) -> Self:
        """Cut out a part, which stays at its place in the world.

        Parameters
        ----------
        slices : mapping of str to slice or int
            What to keep along the named axes; an int takes one position and drops the axis.

        Raises
        ------
        ReconError
            When an axis is not there, a position is outside, or nothing is left.
        """
        missing = [a for a in slices if a not in self.axes]
        if missing:
            raise ReconError(f"The image has no {missing[0]} axis.", f"Its axes are {self.axes}.")
        index: list[slice | int] = []
        kept, scale, translate = [], [], []
        names = self.channel_names
        for i, (axis, size) in enumerate(zip(self.axes, self.shape, strict=True)):
            cut = slices.get(axis, slice(None))
            index.append(cut)
            if isinstance(cut, slice):
                places = range(*cut.indices(size))
                kept.append(i)
                scale.append(self.scale[i] * places.step)
                translate.append(self.translate[i] + self.scale[i] * places.start)
                names = tuple(names[p] for p in places) if axis == "C" and names else names
            elif not -size <= cut < size:
                raise ReconError(f"There is no position {cut} along {axis}.", f"Positions go from 0 to {size - 1}.")
            elif axis == "C":
                names = ()
        return dataclasses.replace(
            self,
            array=self.array[tuple(index)],
            axes="".join(self.axes[i] for i in kept),
            scale=tuple(scale),
            translate=tuple(translate),
            units=tuple(self.units[i] for i in kept),
            channel_names=names,
        )


def as_image(image: Any, axes: str | None = None) -> Image:
    """Make an `Image` of whatever holds pixels, without reading lazy ones.

    Parameters
    ----------
    image : Image, array or list of arrays
        An `Image`; a numpy, dask, zarr or xarray array (the dims of xarray become axes, its attributes are
        dropped); or the levels of a multiscale image, of which the largest is taken.
    axes : str or None
        Axes of the array; None guesses them from its shape.

    Raises
    ------
    ReconError
        When it cannot be an image, or the axes do not fit.
    """
    if isinstance(image, Image):
        return image if axes is None else image.relabel(axes)
    if _is_list_of_arrays(image):
        image = _largest_level(image)
    name = ""
    dims = getattr(image, "dims", None)
    if dims is not None and hasattr(image, "data"):
        name = str(getattr(image, "name", None) or "")
        if not all(str(d).startswith("dim_") for d in dims):  # else nobody named them
            axes = axes or "".join(str(d)[:1] for d in dims)
        image = image.data
    if not hasattr(image, "shape"):
        image = _asarray(image)
    return Image(image, axes or default_axes(image.shape, _looks_rgb(image.shape)), name=name)


def _looks_rgb(shape: Sequence[int]) -> bool:
    # Small sides could as well be a 3x3 or 4x4 neighbourhood or a thin stack.
    return len(shape) >= 3 and shape[-1] in (3, 4) and min(shape[-3:-1]) > 30


def _is_list_of_arrays(image: Any) -> bool:
    levels = isinstance(image, Sequence) and not isinstance(image, str | bytes)
    return levels and len(image) > 0 and all(len(getattr(level, "shape", ())) > 1 for level in image)


def _largest_level(levels: Sequence[Any]) -> Any:
    sizes = [tuple(level.shape) for level in levels]
    if len({len(s) for s in sizes}) > 1 or len(set(sizes)) < len(sizes):
        raise ReconError(
            f"A list of arrays with the shapes {', '.join(map(str, sizes))} is not one multiscale image.",
            "Stack images of the same shape into one array (numpy.stack), or give one array.",
        )
    return max(levels, key=lambda level: np.prod(level.shape, dtype=float))


def _asarray(values: Any) -> np.ndarray[Any, Any]:
    if isinstance(values, str | os.PathLike):
        raise ReconError(f"{values} is a name, not an image.", "Read it first, with read_image.")
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:  # the last of tensors that take part in a training
        raise ReconError(f"This is not an image: {error}.", "Give a numpy, dask or zarr array.") from error


def _checked_array(array: Any) -> Any:
    lazy = type(array).__module__.partition(".")[0] == "dask"
    if not isinstance(array, np.ndarray) and not lazy:
        array = _wrapped(array)
    dtype = array.dtype
    if dtype.kind not in "uif" or dtype.itemsize > 8:
        hints = {
            "b": "Convert it first, for example with image.astype('uint8').",
            "c": "Take its magnitude (abs) or its real part first.",
        }
        hint = hints.get(dtype.kind, "Convert it to an integer or floating-point type first.")
        raise ReconError(f"Pixels of type {dtype} cannot be worked on.", hint)
    if np.ma.isMaskedArray(array):
        if np.ma.is_masked(array):
            raise ReconError(
                "A masked array would lose its mask.",
                "Give image.astype('float32').filled(numpy.nan): such pixels are kept.",
            )
        array = array.data
    if isinstance(array, np.ndarray):
        array = np.asarray(array)  # numpy.matrix keeps its two axes whatever becomes of it
    if any(n != n for n in array.shape):
        raise ReconError("The size of this dask array is unknown.", "Call its compute_chunk_sizes() first.")
    if 0 in array.shape:
        raise ReconError(
            f"The image is empty ({' x '.join(map(str, array.shape))}).", "Give one with at least one pixel."
        )
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))


def _wrapped(array: Any) -> Any:
    array = getattr(array, "complete", array)  # of a live layer: what it will be
    if isinstance(getattr(array, "dtype", None), np.dtype) and getattr(array, "shape", None):
        import dask.array  # takes long to import, and most images do not need it

        return dask.array.from_array(array, name=False)  # type: ignore[no-untyped-call]
    return _asarray(array)


def _numbers(what: str, values: Any, default: float, ndim: int) -> tuple[float, ...]:
    numbers = tuple(float(v) for v in values) if values is not None else ()
    numbers = numbers or (default,) * ndim
    if len(numbers) != ndim:
        raise ReconError(f"The {what} has {len(numbers)} values for {ndim} axes.", "Give one value for each axis.")
    if not all(np.isfinite(numbers)) or (what == "scale" and 0 in numbers):
        raise ReconError(f"The {what} {numbers} cannot be used.", "Give finite numbers, and no scale of 0.")
    return numbers


def _units(values: Any, ndim: int) -> tuple[str | None, ...]:
    units = tuple(_unit(v) for v in values) if values is not None else ()
    units = units or (None,) * ndim
    if len(units) != ndim:
        raise ReconError(f"There are {len(units)} units for {ndim} axes.", "Give one unit for each axis.")
    return units


def _unit(value: Any) -> str | None:
    text = "" if value is None else str(value).strip()
    if text.lower() in _NO_UNIT:
        return None
    return _UNIT_OF_NAME.get(text) or _UNIT_OF_NAME.get(text.lower().removesuffix("s"), text)
