"""From a layer to an `Image`, and from a result back to a layer that lies exactly on its source."""

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Labels
from napari.utils.transforms import Affine

from napari_recon.axes import check_axes, default_axes, split_axes
from napari_recon.errors import ReconError
from napari_recon.image import Image, as_image

KEY = "napari_recon"
PART = "napari_recon_part"  # in the metadata of a layer that is one channel of its file
SAMPLE = "sample"  # label of the axis that counts images made from one

# How a layer is shown, as far as it makes sense for a result too.
_LOOK = (
    "colormap", "contrast_limits", "gamma", "blending", "opacity", "interpolation2d", "interpolation3d", "rendering",
)  # fmt: skip
_PLACE = ("rotate", "shear", "affine")
_LETTERS = {"time": "T", "frame": "T", "channel": "C", "depth": "Z", "sample": "S", "scene": "S", "position": "S"}


def _gone() -> None:
    pass


@dataclass(frozen=True)
class Snapshot:
    """What a job needs of a layer, so that the layer may change or vanish meanwhile.

    Parameters
    ----------
    image : Image
        Pixels and physics of the part to work on.
    name : str
        Name of the layer.
    look : dict
        Display attributes for `napari.Viewer.add_image`.
    place : dict
        Where a result of the size of `image` lies.
    rgb : bool
        Whether the last axis holds colours.
    multiscale : bool
        Whether the layer holds coarser copies of the image too.
    path : Path or None
        File that `napari_recon.read_image` reads as this layer.
    slices : dict
        Which part of the layer `image` is, by axis; empty for all.
    layer : callable
        Returns the layer while it lives.
    """

    image: Image
    name: str
    look: dict[str, Any]
    place: dict[str, Any]
    rgb: bool = False
    multiscale: bool = False
    path: Path | None = None
    slices: dict[str, slice] = field(default_factory=dict)
    layer: Callable[[], ImageLayer | None] = field(default=_gone, compare=False, repr=False)

    def layer_in(self, viewer: Any) -> ImageLayer | None:
        """Return the layer if it is still in a viewer, under whatever name."""
        layer = self.layer()
        return layer if layer is not None and layer in viewer.layers else None


def layer_axes(layer: ImageLayer) -> str:
    """Axes of a layer: from its axis labels when they say something, else a guess by its number of axes."""
    shape = _level(layer).shape
    letters = "".join(_letter(label) for label in layer.axis_labels) + "C" * layer.rgb
    try:
        return check_axes(letters, shape)
    except ReconError:
        return default_axes(shape, layer.rgb)


def snapshot(layer: ImageLayer, axes: str | None = None, slices: Mapping[str, slice] | None = None) -> Snapshot:
    """Take a layer, or a part of it, as it is now. Call it on the main thread.

    Raises
    ------
    ReconError
        When the axes do not fit, or the pixels cannot be worked on.
    """
    refuse_labels(layer)
    array = _level(layer)
    axes = check_axes(axes or layer_axes(layer), array.shape)
    colours = (1.0,) if layer.rgb else ()
    image = as_image(
        Image(
            array,
            axes,
            scale=(*map(float, layer.scale), *colours),
            translate=(*map(float, layer.translate), *(0.0 for _ in colours)),
            units=(*map(str, layer.units), *(None for _ in colours)),
            name=layer.name,
        )
    )
    slices = dict(slices or {})
    part = image.crop(slices) if slices else image
    starts = [slices[a].indices(n)[0] if a in slices else 0 for a, n in zip(axes, array.shape, strict=True)]
    return Snapshot(
        image=part,
        name=layer.name,
        look={key: getattr(layer, key) for key in _LOOK},
        place=_place(layer, starts[: layer.ndim]),
        rgb=layer.rgb,
        multiscale=layer.multiscale,
        path=_file(layer),
        slices=slices,
        layer=weakref.ref(layer),
    )


def finer(source: Snapshot, scale: int) -> Snapshot:
    """The same place in the world for pixels that are `scale` times smaller along Y and X.

    Positions are those of pixel centres: the first small pixel lies (1 - 1 / scale) / 2 large ones further out.
    """
    if scale == 1:
        return source
    place, axes = source.place, source.image.axes[: len(source.place["scale"])]
    turned = Affine(scale=place["scale"], rotate=place["rotate"], shear=place["shear"])
    shift = np.array([(1 / scale - 1) / 2 if axis in "YX" else 0.0 for axis in axes])
    smaller = {
        "scale": place["scale"] / [scale if axis in "YX" else 1 for axis in axes],
        "translate": place["translate"] + turned.linear_matrix @ shift,
    }
    return replace(source, place={**place, **smaller})


def add_result(
    viewer: Any, source: Snapshot, pixels: Any, suffix: str, record: Mapping[str, Any], **changes: Any
) -> ImageLayer:
    """Add a result as a layer right above its source, which it overlays exactly.

    Parameters
    ----------
    source : Snapshot
        What it was made from.
    pixels : array
        Of the shape of ``source.image``, or several such images along a first axis, which becomes the axis `SAMPLE`.
    suffix : str
        What is written behind the name, in brackets.
    record : dict
        How it was made; becomes ``layer.metadata["napari_recon"]``.
    **changes
        Display attributes that differ from the source's.
    """
    if np.issubdtype(pixels.dtype, np.float16):
        pixels = pixels.astype(np.float32)  # which napari cannot show
    rgb = changes.pop("rgb", source.rgb)
    kwargs = {**source.look, **result_place(source, pixels.ndim - rgb), **changes}
    if rgb:
        kwargs = {k: v for k, v in kwargs.items() if k not in ("colormap", "contrast_limits", "gamma")}
    layer = viewer.add_image(pixels, name=f"{source.name} [{suffix}]", rgb=rgb, metadata={KEY: dict(record)}, **kwargs)
    below = source.layer_in(viewer)
    if below is not None:
        place = viewer.layers.index(below) + 1
        if place < viewer.layers.index(layer):
            viewer.layers.move(viewer.layers.index(layer), place)
    return layer


def result_place(source: Snapshot, ndim: int) -> dict[str, Any]:
    """Where a result of `ndim` axes lies: on its source; one more axis counts images, one unit apart."""
    place = source.place
    if ndim == len(place["axis_labels"]):
        return place
    shear = np.eye(ndim - 1)
    shear[np.triu_indices(ndim - 1, 1)] = place["shear"]
    return {
        "scale": (1.0, *place["scale"]),
        "translate": (0.0, *place["translate"]),
        "rotate": _one_axis_more(place["rotate"]),
        "shear": _one_axis_more(shear),
        "affine": _one_axis_more(place["affine"].affine_matrix),
        "units": ("pixel", *place["units"]),
        "axis_labels": (SAMPLE, *place["axis_labels"]),
    }


def move_onto(layer: ImageLayer, source: Snapshot) -> None:
    """Move a result with as many axes as its source to where that lies now."""
    for name, value in source.place.items():
        setattr(layer, name, value)


def _one_axis_more(matrix: np.ndarray) -> np.ndarray:
    """Let a matrix leave a new first axis as it is."""
    larger = np.eye(len(matrix) + 1)
    larger[1:, 1:] = matrix
    return larger


def refuse_labels(layer: Any) -> None:
    """Raise `ReconError` when a layer holds labels or a mask."""
    if isinstance(layer, Labels) or np.dtype(getattr(layer, "dtype", float)) == np.bool_:
        raise ReconError(f"{layer.name} holds labels, not intensities.", "Choose an image layer.")


def is_passing(layer: Any) -> bool:
    """Whether a layer goes with a panel: its preview, or its live layer."""
    record = layer.metadata.get(KEY, {})
    return bool(record.get("preview") or record.get("live"))


def is_preview(layer: Any) -> bool:
    """Whether a layer is the passing preview of a panel."""
    return bool(layer.metadata.get(KEY, {}).get("preview"))


def describe(image: Image, spatial: str = "YX") -> str:
    """One line on what an image is and how it is worked on.

    Such as ``(T 120, Y 512, X 512) uint16 · 0.108 um · runs as 120 planes in 2D``.
    """
    sizes = ", ".join(f"{a} {n}" for a, n in zip(image.axes, image.shape, strict=True))
    parts = [f"({sizes}) {image.dtype}"]
    unit = image.units[image.axes.index("X")]
    if unit is not None:
        parts.append(f"{image.scale[image.axes.index('X')]:.4g} {unit}")
    split = split_axes(image.axes, spatial)
    count = prod(image.size(a) for a in split.samples + split.channel)
    kind = "plane" if spatial == "YX" else "volume"
    parts.append(f"runs as {count} {kind}{'s' * (count != 1)} in {len(spatial)}D")
    return " · ".join(parts)


def count_planes(image: Image) -> str:
    """Write ``1 plane`` or ``12 planes``."""
    planes = prod(image.shape) // (image.size("Y") * image.size("X"))
    return "1 plane" if planes == 1 else f"{planes} planes"


def _level(layer: ImageLayer) -> Any:
    """Pixels at full resolution, without the transparency of a colour image."""
    array = layer.data[0] if layer.multiscale else layer.data
    array = getattr(array, "complete", array)  # of a live layer: what it will be
    return array[..., :3] if layer.rgb else array


def _file(layer: ImageLayer) -> Path | None:
    """File that holds a layer and nothing else, in a format that `napari_recon.read_image` knows."""
    origin = layer.source
    if origin.path is None or PART in layer.metadata:
        return None
    from napari_recon.io import FORMATS  # imports what reads them

    if not origin.path.lower().endswith(tuple(FORMATS)):
        return None
    # Several files that napari itself opened as one stack come as a lazy array, of the first file's path.
    whole = origin.reader_plugin == "napari-recon" or isinstance(_level(layer), np.ndarray)
    return Path(origin.path) if whole else None


def _letter(label: str) -> str:
    word = label.strip().lower()
    return _LETTERS.get(word, word.upper() if len(word) == 1 else "?")


def _place(layer: ImageLayer, starts: list[int]) -> dict[str, Any]:
    to_world = Affine(scale=layer.scale, translate=layer.translate, rotate=layer.rotate, shear=layer.shear)
    return {
        "scale": np.array(layer.scale),
        "translate": np.asarray(to_world(np.array(starts, dtype=float))),
        "units": layer.units,
        "axis_labels": layer.axis_labels,
        **{key: getattr(layer, key) for key in _PLACE},
    }
