"""The verbs. Each is a plain function of an image; it runs on any thread and knows no GUI."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from napari_recon.axes import to_batch
from napari_recon.checkpoint import TrainedModel
from napari_recon.data.noise_estimate import NoiseEstimate, estimate_noise
from napari_recon.data.noise_report import NoiseReport, diagnose
from napari_recon.data.normalization import Normalization
from napari_recon.device import choose_device
from napari_recon.errors import Cancelled, ReconError
from napari_recon.image import Image, as_image
from napari_recon.inference.pixel_type import cast
from napari_recon.inference.predict import predict
from napari_recon.io import read_image, write_image
from napari_recon.library import find_model, list_models, models_folder
from napari_recon.models import get_family
from napari_recon.progress import CancelToken, ProgressCallback, ProgressEvent
from napari_recon.quality.metrics import evaluate
from napari_recon.training.data import prepare
from napari_recon.training.estimate import estimate
from napari_recon.training.loop import fit
from napari_recon.training.processes import launch
from napari_recon.training.setup import best_start, configs, enough_memory, first_step, provenance
from napari_recon.training.state import load_state

__all__ = [
    "denoise",
    "evaluate",
    "list_models",
    "load_model",
    "measure_noise",
    "read_image",
    "save_model",
    "train",
    "training_estimate",
    "write_image",
]

Model = TrainedModel | str | Path

ADAPTATION_MINUTES = 1 / 3


def load_model(model: Model) -> TrainedModel:
    """Load a model by its name in `list_models`, or from a file; a loaded model is returned as it is.

    Raises
    ------
    ReconError
        When there is no such model, or its file cannot be read.
    """
    return model if isinstance(model, TrainedModel) else TrainedModel.load(find_model(model))


def save_model(model: TrainedModel, name: str) -> Path:
    """Save a model under a name in the user's folder, where every panel finds it; returns its path."""
    if not name.strip() or any(c in name for c in '/\\:*?"<>|') or name.startswith("."):
        raise ReconError(f"{name!r} cannot be the name of a model.", "Use letters, digits, spaces and dashes.")
    model.name = name.strip()
    return model.save(models_folder() / f"{model.name}.safetensors")


def train(
    family: str,
    image: Any,
    target: Any = None,
    *,
    axes: str | None = None,
    preset: str = "fast",
    start_from: Model | None = "auto",
    checkpoint: str | Path | None = None,
    resume: bool = False,
    preview: Any = None,
    device: str = "auto",
    on_progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
    **options: Any,
) -> TrainedModel:
    """Train a model on images.

    Parameters
    ----------
    family : str
        ``"autoencoder"``.
    image : Image, array, or list of them
        What to learn from; noisy images suffice.
    target : Image, array, or list of them, optional
        What `image` should become, such as a second noisy take or a long exposure of the same field.
    axes : str, optional
        Axes of arrays that do not know theirs.
    preset : str
        ``"fast"`` (2 minutes), ``"balanced"`` (15) or ``"best"`` (120).
    start_from : TrainedModel, str or path, optional
        Go on from the weights of this model instead of from nothing (None). ``"auto"`` starts an autoencoder that
        learns from noisy images alone, with a network that is not chosen, from the universal denoiser.
    checkpoint : path, optional
        File for the state of the run, saved every minute and when stopped; removed at the end.
    resume : bool
        Go on from `checkpoint`, exactly as if there had been no break.
    preview : Image or array, optional
        Small image to denoise now and then; the result comes with the progress events.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``.
    on_progress, cancel
        Receives events; stops the run.
    **options
        Any field of the family's config or of `TrainConfig`, such as ``steps=2000`` or ``depth=3``.

    Returns
    -------
    TrainedModel
        When stopped, the model so far with ``stopped=True``.

    Raises
    ------
    ReconError
        On data or options that cannot be trained with, and when training diverges.
    """
    members = get_family(family)
    images = _as_images(image, axes)
    targets = _as_images(target, axes) if target is not None else None
    origin = _origin(start_from, family, targets is not None, options)
    config, training = configs(members.config, origin, preset, options)
    step = first_step(family, config, origin, training.seed, targets is not None)
    spec = members.spec(config)
    path = Path(checkpoint) if checkpoint is not None else None
    state = _interrupted(path) if resume else None
    fabric = launch(training, choose_device(device), state["precision"] if state else None)
    with enough_memory(training, fabric.device):
        sampler, normalization = prepare(
            images,
            targets,
            spec,
            training,
            fabric.device,
            stabilised=spec.noise_aware or step.stabilised,
        )
        step.use(normalization)
        sampler.rotations = sampler.rotations and step.rotations
        missing = sum(int((w == 0).sum()) for w in sampler.weights or [])
        if missing and on_progress is not None and fabric.is_global_zero:
            on_progress(ProgressEvent("train", 0, message=f"{missing:,} pixels that are not finite are left out"))
        picture = None
        if preview is not None:
            picture = _previewer(family, config, normalization, as_image(preview, axes), str(fabric.device))
        result = fit(
            step,
            sampler,
            training,
            fabric,
            state_path=path,
            state=state,
            data=json.dumps(normalization.to_json()),
            preview=picture,
            on_progress=on_progress,
            cancel=cancel,
        )
    origins = provenance(images, targets, training, result, origin, str(fabric.device))
    return TrainedModel(
        family=family,
        config=config,
        weights=result.weights,
        normalization=normalization,
        provenance=origins | {"missing_pixels": missing},
        name=f"{images[0].name or 'image'} {family}",
        stopped=result.stopped,
    )


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
    device, precision : str
        ``"auto"`` chooses the fastest.
    on_progress, cancel
        Receives events; stops the run.

    Returns
    -------
    Image or numpy.ndarray
        An `Image` for an `Image`, else an array; float32 unless `keep_dtype`. An `Image` carries in
        ``metadata["napari_recon"]`` how it was made.

    Raises
    ------
    ReconError
        When model and image do not fit together.
    Cancelled
        When stopped.
    """
    source = as_image(image, axes)
    if not 0 <= strength <= 1.5:
        raise ReconError(f"The strength cannot be {strength}.", "It goes from 0 to 1.5; 1 is as measured.")
    loaded = load_model(model)
    if loaded.spec.task != "denoise":
        raise ReconError(f"{loaded.name} is made to {loaded.spec.task}, not to denoise.", "Choose another model.")
    if adapt:
        loaded = _adapt(loaded, source, device, on_progress, cancel)
    done = predict(
        loaded,
        source,
        strength=strength,
        noise=noise,
        tile_size=tile_size,
        tile_overlap=tile_overlap,
        device=device,
        precision=precision,
        on_progress=on_progress,
        cancel=cancel,
    )
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
        "keep_dtype": keep_dtype,
        "tile_size": done.tile_size,
        "device": done.device,
        "precision": done.precision,
        "noise": [n.to_json() for n in done.normalization.noise],
        "notes": notes,
        "version": version("napari-recon"),
    }
    if not isinstance(image, Image):
        return pixels
    return source.with_array(
        pixels, name=f"{source.name} [denoised]", metadata={**source.metadata, "napari_recon": record}
    )


def measure_noise(image: Any, *, axes: str | None = None) -> list[NoiseReport]:
    """Measure the noise of each channel of an image and say what follows from it.

    Parameters
    ----------
    image : Image or array
        Any axes; one estimate a channel for all planes and times.
    axes : str, optional
        Axes of an array that does not know its own.

    Returns
    -------
    list of NoiseReport
        One for each channel: gain, offset, read noise, correlation, and advice in words.
    """
    source = as_image(image, axes)
    batch = to_batch(source.array, source.axes)
    return [diagnose(estimate_noise([batch[:, c]]), c) for c in range(batch.shape[1])]


def _adapt(
    model: TrainedModel,
    image: Image,
    device: str,
    on_progress: ProgressCallback | None,
    cancel: CancelToken | None,
) -> TrainedModel:
    """Fine-tune a model on the image it will denoise."""
    if not model.spec.noise_aware:
        raise ReconError(f"{model.name} cannot be adapted.", "Adapt the universal model, or train longer instead.")
    adapted = train(
        model.family,
        image,
        minutes=ADAPTATION_MINUTES,
        start_from=model,
        validate_every=10,
        device=device,
        on_progress=on_progress,
        cancel=cancel,
    )
    if adapted.stopped:
        raise Cancelled
    adapted.name = f"{model.name}, adapted"
    return adapted


def training_estimate(
    family: str,
    image: Any,
    *,
    axes: str | None = None,
    preset: str = "fast",
    start_from: Model | None = "auto",
    **options: Any,
) -> dict[str, float]:
    """Estimate what a training will take before it starts; takes the arguments of `train`.

    Returns
    -------
    dict
        ``seconds`` and ``memory_bytes``, see `napari_recon.training.estimate`.
    """
    members = get_family(family)
    origin = _origin(start_from, family, False, options)
    config, training = configs(members.config, origin, preset, options)
    images = _as_images(image, axes)
    features = getattr(config, "features", 32)
    return estimate(members.build(config), features, members.spec(config), training, images)


def _origin(start_from: Model | None, family: str, has_target: bool, options: dict[str, Any]) -> TrainedModel | None:
    """The model that a training goes on from."""
    if start_from == "auto":
        start_from = best_start(family, has_target, options)
    return load_model(start_from) if start_from is not None else None


def _interrupted(path: Path | None) -> dict[str, Any]:
    if path is None:
        raise ReconError("There is no checkpoint to resume from.", "Give checkpoint= as in the run that was stopped.")
    return load_state(path)


def _as_images(image: Any, axes: str | None) -> list[Image]:
    many = isinstance(image, Sequence) and not isinstance(image, Image)
    images = [as_image(i, axes) for i in (image if many else [image])]
    if not images:
        raise ReconError("There is no image to train on.", "Give at least one.")
    return images


def _previewer(family: str, config: Any, normalization: Normalization, region: Image, device: str) -> Any:
    """A function that denoises the region with the network of the moment."""

    def show(network: nn.Module) -> np.ndarray[Any, np.dtype[np.float32]]:
        model = TrainedModel(family, config, {}, normalization, _network=network)
        return predict(model, region, device=device).array

    return show
