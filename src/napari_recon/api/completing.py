"""Fill marked parts of an image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from napari_recon._version import __version__
from napari_recon.api.models import Model, load_model
from napari_recon.api.training import train
from napari_recon.axes import to_batch
from napari_recon.checkpoint import TrainedModel
from napari_recon.errors import Cancelled, ReconError
from napari_recon.image import Image, as_image
from napari_recon.inference.completion import CompletionRunner, with_holes
from napari_recon.inference.pixel_type import cast
from napari_recon.models.completion import CompletionConfig, deepest, spec
from napari_recon.progress import CancelToken, ProgressCallback, Reporter
from napari_recon.training.steps.completion import check_width

MINUTES = 1.0
REACH = 12  # times the radius of the widest hole, that a network should see
MOST_MARKED = 0.9  # of a plane
LOOKED_AT = 16  # planes of many, in which the widest hole is looked for


def complete(
    image: Any,
    mask: Any,
    model: Model | None = None,
    *,
    axes: str | None = None,
    minutes: float = MINUTES,
    seed: int = 0,
    tile_size: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    on_progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Any:
    """Fill the marked parts of an image: dead pixels, dust, bubbles.

    What is filled in is a guess from the surroundings: good to look at and to segment, not to be measured.

    Parameters
    ----------
    image : Image, numpy, dask, zarr or xarray array
        Any axes and any real pixel type; planes of a stack are done one by one, with one normalisation.
    mask : Image or array
        Not zero where to fill. Of the shape of the image, or without its first axes or its channels: a mask of one
        plane then counts for all.
    model : TrainedModel, str or path, optional
        Of the completion family. When left out, one is trained on the rest of this image first, on holes like those of
        the mask.
    axes : str, optional
        Axes of an array that does not know its own, such as ``"ZYX"``.
    minutes, seed
        Of the training, where no model is given.
    tile_size : int, optional
        Chosen from the free memory and the network when left out.
    device, precision : str
        ``"auto"`` chooses the fastest.
    on_progress, cancel
        Receives events; stops the run.

    Returns
    -------
    Image or numpy.ndarray
        An `Image` for an `Image`, else an array, of the pixel type of the input; equal to it, bit for bit, outside the
        mask. An `Image` carries in ``metadata["napari_recon"]`` how it was made.

    Raises
    ------
    ReconError
        When the mask marks nothing or more than nine tenths of a plane, or is of another shape; when the image is
        smaller than what the network looks at; when model and image do not fit together.
    Cancelled
        When stopped.
    """
    source = as_image(image, axes)
    holes = _holes(source, mask)
    holed = with_holes(source, holes)
    narrowest = min(source.size("Y"), source.size("X"))
    loaded = (
        _checked(load_model(model), narrowest)
        if model is not None
        else _train(holed, _depth(holes, source.axes, narrowest), minutes, seed, device, on_progress, cancel)
    )
    runner = CompletionRunner(loaded, holed, holes, tile_size=tile_size, device=device, precision=precision)
    (answer,) = runner.run(Reporter(on_progress, "complete"), cancel or CancelToken())
    done = runner.prediction(answer)
    filled, note = cast(answer[holes], source.dtype)
    pixels = np.array(source.array)
    pixels[holes] = filled
    record = {
        "verb": "complete",
        "model": loaded.name,
        "model_hash": loaded.hash,
        "trained_here": model is None,
        "depth": loaded.config.to_json()["depth"],
        "filled": int(holes.sum()),
        "tile_size": done.tile_size,
        "device": done.device,
        "precision": done.precision,
        "notes": done.notes + ([note] if note else []),
        "version": __version__,
    }
    if not isinstance(image, Image):
        return pixels
    return source.with_array(
        pixels, name=f"{source.name} [completed]", metadata={**source.metadata, "napari_recon": record}
    )


def _holes(source: Image, mask: Any) -> NDArray[np.bool_]:
    """The mask as bool of the shape of the image; raises `ReconError` for one that cannot be filled."""
    named = isinstance(mask, Image)
    marked = np.asarray(mask.array if named else mask) != 0
    rest = source.axes.replace("C", "")
    axes = mask.axes if named else source.axes if marked.ndim == source.ndim else rest[len(rest) - marked.ndim :]
    if len(axes) != marked.ndim or any(
        a not in source.axes or source.size(a) != n for a, n in zip(axes, marked.shape, strict=True)
    ):
        raise ReconError(
            f"The mask is of the shape {marked.shape}, the image {source.axes} {source.shape}.",
            "Give a mask of the shape of the image, or of one plane of it.",
        )
    marked = marked.transpose([axes.index(a) for a in source.axes if a in axes])
    sides = [n if a in axes else 1 for a, n in zip(source.axes, source.shape, strict=True)]
    holes = np.broadcast_to(marked.reshape(sides), source.shape)
    if not marked.any():
        raise ReconError("The mask is empty: there is nothing to fill.", "Mark what to fill first.")
    share = float(to_batch(holes, source.axes).mean(axis=(2, 3)).max())
    if share > MOST_MARKED:
        raise ReconError(
            f"The mask covers {share:.1%} of a plane: too little is left to fill it from.",
            "Mark less, or leave that plane out; a mask is zero where the image shall stay.",
        )
    return holes


def _checked(model: TrainedModel, narrowest: int) -> TrainedModel:
    if model.spec.task != "complete":
        raise ReconError(
            f"{model.name} is made to {model.spec.task}, not to complete.", "Choose another, or leave the model out."
        )
    check_width(narrowest, model.spec)
    return model


def _depth(holes: NDArray[np.bool_], axes: str, narrowest: int) -> int:
    """As deep as the widest hole needs and the image allows: a smaller network learns more in its time."""
    most = deepest(narrowest)
    if not most:
        raise ReconError(
            f"The image is {narrowest} pixels wide on its shortest side, too little to learn from.",
            "Give a model that was trained on a larger image.",
        )
    planes = to_batch(holes, axes).reshape(-1, *(holes.shape[axes.index(a)] for a in "YX"))
    radius = max(float(distance_transform_edt(p).max()) for p in planes[:: max(len(planes) // LOOKED_AT, 1)])
    return next((d for d in range(1, most) if spec(CompletionConfig(depth=d)).receptive_field >= REACH * radius), most)


def _train(
    holed: Image,
    depth: int,
    minutes: float,
    seed: int,
    device: str,
    on_progress: ProgressCallback | None,
    cancel: CancelToken | None,
) -> TrainedModel:
    """Train on the rest of the image."""
    more: dict[str, Any] = {"minutes": minutes, "seed": seed, "depth": depth, "device": device}
    model = train("completion", holed, on_progress=on_progress, cancel=cancel, **more)
    if model.stopped:
        raise Cancelled
    return model
