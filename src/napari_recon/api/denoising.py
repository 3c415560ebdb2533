"""Denoise an image, and measure its noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_recon._version import __version__
from napari_recon.api.adapting import adapt as adapted_to
from napari_recon.api.adapting import adapt_beside, weights_beside
from napari_recon.api.models import Model, load_model
from napari_recon.api.streaming import Run, check_out, stream_restored
from napari_recon.axes import time_step, to_batch
from napari_recon.checkpoint import TrainedModel
from napari_recon.data.noise_estimate import NoiseEstimate, estimate_noise
from napari_recon.data.noise_report import NoiseReport, diagnose
from napari_recon.errors import ReconError
from napari_recon.image import Image, as_image
from napari_recon.inference.pixel_type import cast
from napari_recon.inference.predict import predict
from napari_recon.inference.streaming import Target, like
from napari_recon.progress import CancelToken, ProgressCallback

FEWEST_LABELS = 3
LOOKED_AT = 2048  # side of the part that is looked at
ALIKE = 0.85  # share of pixels that equal their neighbour: nearly all of labels, hardly more than half of images


def denoise(
    image: Any,
    model: Model = "universal",
    *,
    axes: str | None = None,
    strength: float = 1.0,
    noise: Sequence[NoiseEstimate] | None = None,
    tile_size: int | None = None,
    tile_overlap: int | None = None,
    keep_dtype: bool = False,
    adapt: bool = False,
    plane_by_plane: bool = False,
    out: str | Path | None = None,
    scheduler: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    on_progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Any:
    """Denoise an image.

    Parameters
    ----------
    image : Image, numpy, dask, zarr or xarray array
        Any axes and any real pixel type.
    model : TrainedModel, str or path
        The model itself, its name in `list_models`, or its file.
    axes : str, optional
        Axes of an array that does not know its own, such as ``"ZYX"``.
    strength : float
        0 to 1.5; 1 removes the noise that was measured.
    noise : sequence of NoiseEstimate, optional
        Noise of each channel for the universal model, as `measure_noise` found it in a larger image; measured on this
        image when left out.
    tile_size, tile_overlap : int, optional
        Chosen from the free memory and the network when left out.
    keep_dtype : bool
        Round to the pixel type of the image; values beyond its range are clipped and counted.
    adapt : bool
        First train the model on this image for 20 seconds; kept only when it scores clearly better on a held-out part.
        With `out`, on at most 16 planes of 1024 x 1024 spread over the image; a run that goes on does not train again.
    plane_by_plane : bool
        Look at each plane of a stack or movie alone. Otherwise the universal model, and those trained from it, average
        it with its neighbours before, where they show the same within the noise; see
        `napari_recon.inference.averaging`.
    out : str or path, optional
        Write the result into this OME-Zarr store, tile by tile: image and result may be larger than the memory. A run
        that was interrupted goes on where it stopped.
    scheduler : str, optional
        Address of a dask.distributed scheduler whose workers do the tiles; needs `out`.
    device, precision : str
        ``"auto"`` chooses the fastest.
    on_progress, cancel
        Receives events; stops the run.

    Returns
    -------
    Image or numpy.ndarray
        An `Image` for an `Image`, else an array; float32 unless `keep_dtype`. An `Image` carries in
        ``metadata["napari_recon"]`` how it was made. With `out`, always an `Image`, whose pixels stay on disk.

    Raises
    ------
    ReconError
        When model and image do not fit together, or the image holds labels.
    Cancelled
        When stopped.
    """
    source = as_image(image, axes)
    loaded = checked(source, model, strength)
    check_out(source, out, scheduler)
    options: dict[str, Any] = {
        "tile_size": tile_size,
        "device": device,
        "precision": precision,
        "on_progress": on_progress,
        "cancel": cancel,
    }
    if out is not None:
        run = {**options, "scheduler": scheduler}
        return _stream(source, loaded, Path(out), strength, adapt, plane_by_plane, keep_dtype, noise, tile_overlap, run)
    if adapt:
        loaded = adapted_to(loaded, source, options)
    options |= {"tile_overlap": tile_overlap, "neighbours": not plane_by_plane}
    done = predict(loaded, source, strength=strength, noise=noise, **options)
    pixels: Any = done.array
    notes = list(done.notes)
    if keep_dtype:
        pixels, note = cast(pixels, source.dtype)
        notes += [note] if note else []
    record = {
        "verb": "denoise",
        "model": loaded.name,
        "model_hash": loaded.hash,
        "strength": strength,
        "adapt": adapt,
        "plane_by_plane": plane_by_plane,
        "keep_dtype": keep_dtype,
        "tile_size": done.tile_size,
        "device": done.device,
        "precision": done.precision,
        "noise": [n.to_json() for n in done.normalization.noise],
        "notes": notes,
        "version": __version__,
    }
    if not isinstance(image, Image):
        return pixels
    return source.with_array(
        pixels, name=f"{source.name} [denoised]", metadata={**source.metadata, "napari_recon": record}
    )


def _stream(
    source: Image,
    model: TrainedModel,
    out: Path,
    strength: float,
    adapt: bool,
    plane_by_plane: bool,
    keep_dtype: bool,
    noise: Sequence[NoiseEstimate] | None,
    tile_overlap: int | None,
    run: Run,
) -> Image:
    origin = model.hash if adapt else None
    if adapt:
        model = adapt_beside(out, model, source, run)
    dtype = source.dtype if keep_dtype else np.dtype(np.float32)
    target = Target(out, like(source, dtype, name=f"{source.name} [denoised]"))
    settings = {
        "strength": strength,
        "adapt": adapt,
        "plane_by_plane": plane_by_plane,
        "keep_dtype": keep_dtype,
    }
    more: dict[str, Any] = {
        "strength": strength,
        "noise": noise,
        "tile_overlap": tile_overlap,
        "neighbours": not plane_by_plane,
    }
    made = stream_restored("denoise", source, model, target, settings, run, origin=origin, **more)
    weights_beside(out).unlink(missing_ok=True)
    return made


def checked(source: Image, model: Model, strength: float) -> TrainedModel:
    """Load the model; raise `ReconError` when it does not denoise, or what is asked for makes no sense."""
    _refuse_labels(source)
    if not 0 <= strength <= 1.5:
        raise ReconError(f"The strength cannot be {strength}.", "It goes from 0 to 1.5; 1 is as measured.")
    loaded = load_model(model)
    if loaded.spec.task != "denoise":
        raise ReconError(f"{loaded.name} is made to {loaded.spec.task}, not to denoise.", "Choose another model.")
    return loaded


def measure_noise(image: Any, *, axes: str | None = None) -> list[NoiseReport]:
    """Measure the noise of each channel of an image and say what follows from it.

    Parameters
    ----------
    image : Image or array
        Any axes; one estimate a channel for all planes and times. With a T axis of three times or more it is measured
        on what changes from frame to frame where the scene stands still.
    axes : str, optional
        Axes of an array that does not know its own.

    Returns
    -------
    list of NoiseReport
        One for each channel: gain, offset, read noise, correlation, and advice in words.
    """
    source = as_image(image, axes)
    batch = to_batch(source.array, source.axes)
    steps = [time_step(source.axes, source.shape)]
    return [diagnose(estimate_noise([batch[:, c]], steps), c) for c in range(batch.shape[1])]


def _refuse_labels(image: Image) -> None:
    """Raise for whole numbers that stay the same from pixel to pixel at many levels, as only labels do."""
    if not np.issubdtype(image.dtype, np.integer):
        return
    batch = to_batch(image.array, image.axes)
    middle = tuple(slice(max(n - LOOKED_AT, 0) // 2, max(n - LOOKED_AT, 0) // 2 + LOOKED_AT) for n in batch.shape[2:])
    plane = np.asarray(batch[(batch.shape[0] // 2, 0, *middle)])
    if not plane.size or plane.shape[1] < 2:
        return
    left, right = plane[:, :-1], plane[:, 1:]
    # Black and saturated regions are alike in images too.
    inside = (left != plane.min()) & (left != plane.max())
    if len(np.unique(left[inside])) >= FEWEST_LABELS and (left == right)[inside].mean() > ALIKE:
        raise ReconError(
            f"{image.name or 'The image'} holds labels, not intensities: neighbouring pixels are equal.",
            "Choose the image that was segmented. If these are intensities, convert them to float32 first.",
        )
