"""The verbs. Each is a plain function of an image; it runs on any thread and knows no GUI."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from napari_recon.axes import to_batch
from napari_recon.checkpoint import TrainedModel
from napari_recon.config import Config, split_options
from napari_recon.data.noise_estimate import NoiseEstimate, estimate_noise
from napari_recon.data.noise_report import NoiseReport, diagnose
from napari_recon.data.normalization import Normalization
from napari_recon.device import choose_device, is_out_of_memory
from napari_recon.errors import Cancelled, ReconError
from napari_recon.image import Image, as_image
from napari_recon.inference.predict import predict
from napari_recon.io import read_image, write_image
from napari_recon.library import find_model, list_models, models_folder
from napari_recon.models import get_family
from napari_recon.progress import CancelToken, ProgressCallback, ProgressEvent
from napari_recon.quality.metrics import evaluate
from napari_recon.training.config import TrainConfig, train_config
from napari_recon.training.data import prepare
from napari_recon.training.estimate import estimate
from napari_recon.training.loop import FitResult, fit
from napari_recon.training.processes import launch
from napari_recon.training.state import load_state
from napari_recon.training.steps import STEPS, Step

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

FINE_TUNING_RATE = 1e-4  # learning rate, where none is given, of a network that starts from another
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
    if start_from == "auto":
        start_from = _best_start(family, targets, options)
    origin = load_model(start_from) if start_from is not None else None
    config, training = _configs(members.config, origin, preset, options)
    step = _step(family, config, origin, training.seed, targets is not None)
    spec = members.spec(config)
    path = Path(checkpoint) if checkpoint is not None else None
    state = _interrupted(path) if resume else None
    fabric = launch(training, choose_device(device), state["precision"] if state else None)
    with _enough_memory(training, fabric.device):
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
            preview=picture,
            on_progress=on_progress,
            cancel=cancel,
        )
    provenance = _provenance(images, targets, training, result, origin, str(fabric.device))
    return TrainedModel(
        family=family,
        config=config,
        weights=result.weights,
        normalization=normalization,
        provenance=provenance | {"missing_pixels": missing},
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
        First train the model on this image for 20 seconds; kept only when it scores better on a held-out part.
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
        pixels, note = _cast(pixels, source.dtype)
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
    family: str, image: Any, *, axes: str | None = None, preset: str = "fast", **options: Any
) -> dict[str, float]:
    """Estimate what a training will take before it starts; takes the arguments of `train`.

    Returns
    -------
    dict
        ``seconds`` and ``memory_bytes``, see `napari_recon.training.estimate`.
    """
    members = get_family(family)
    config, training = _configs(members.config, None, preset, options)
    images = _as_images(image, axes)
    features = getattr(config, "features", 32)
    return estimate(members.build(config), features, members.spec(config), training, images)


@contextmanager
def _enough_memory(training: TrainConfig, device: torch.device) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        size = f"{training.batch_size} patches of {training.patch_size} pixels"
        raise ReconError(
            f"There is not enough memory on {device} to train on {size} at once.",
            "Use a smaller batch_size, patch_size or features, or a crop of the image.",
        ) from error


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


def _best_start(family: str, targets: list[Image] | None, options: dict[str, Any]) -> str | None:
    """The universal denoiser, where its network is what would be trained."""
    chosen = {name for name, value in options.items() if value is not None}
    own = {o.name for o in get_family(family).config.options()} - {"loss", "mask_fraction", "mask_axis", "mask_length"}
    if family != "autoencoder" or targets is not None or chosen & own:
        return None
    return "universal" if any(m.name == "universal" for m in list_models()) else None


def _configs(
    kind: type[Config], origin: TrainedModel | None, preset: str, options: dict[str, Any]
) -> tuple[Any, TrainConfig]:
    """Family config and training config: the origin's or the defaults, changed by the options."""
    given = {k: v for k, v in options.items() if v is not None}
    training_names = {o.name for o in TrainConfig.options()}
    if origin is not None:
        given.setdefault("learning_rate", FINE_TUNING_RATE)
    training = train_config(preset, **{k: v for k, v in given.items() if k in training_names})
    base = origin.config if origin is not None and isinstance(origin.config, kind) else kind()
    changed, changed_training = split_options(given, base, training)
    return changed, cast(TrainConfig, changed_training)


def _step(family: str, config: Any, origin: TrainedModel | None, seed: int, has_target: bool) -> Step:
    """The family's training step around a network with its first weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = get_family(family).build(config)
    if origin is not None:
        if origin.family != family:
            raise ReconError(
                f"{origin.name} is of the family {origin.family}, not {family}.",
                "Start from a model of the same family.",
            )
        try:
            network.load_state_dict({k: v.float() for k, v in origin.weights.items()})
        except RuntimeError as error:
            raise ReconError(
                f"The network of {origin.name} differs from the one asked for.",
                "Leave out the options that change the network, or start from nothing.",
            ) from error
    return STEPS[family](config, network, has_target)


def _previewer(family: str, config: Any, normalization: Normalization, region: Image, device: str) -> Any:
    """A function that denoises the region with the network of the moment."""

    def show(network: nn.Module) -> np.ndarray[Any, np.dtype[np.float32]]:
        model = TrainedModel(family, config, {}, normalization, _network=network)
        return predict(model, region, device=device, precision="float32").array

    return show


def _provenance(
    images: list[Image],
    targets: list[Image] | None,
    training: TrainConfig,
    result: FitResult,
    origin: TrainedModel | None,
    device: str,
) -> dict[str, Any]:
    history = result.history
    digest = hashlib.sha256()
    for i in images:
        digest.update(repr((i.axes, i.shape, str(i.dtype))).encode())
        digest.update(np.ascontiguousarray(i.array).data)
    return {
        "created": datetime.datetime.now().isoformat(timespec="seconds"),
        "data": [{"name": i.name, "axes": i.axes, "shape": list(i.shape), "dtype": str(i.dtype)} for i in images],
        "data_hash": digest.hexdigest()[:16],
        "targets": targets is not None,
        "started_from": {"name": origin.name, "hash": origin.hash} if origin else None,
        "training": dataclasses.asdict(training),
        "device": device,
        "precision": result.precision,
        "steps": history.step,
        "seconds": round(history.seconds, 1),
        "skipped_steps": history.skipped,
        "stopped": result.stopped,
        "best_step": history.best_step,
        "train_loss": history.train,
        "validation_loss": history.validation,
        "versions": {"napari-recon": version("napari-recon"), "torch": str(torch.__version__)},
    }


def _cast(pixels: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> tuple[np.ndarray[Any, Any], str]:
    """Round to an integer type within its range, or convert to a floating one; tell what was clipped."""
    if dtype.kind == "f":
        largest = np.finfo(dtype).max
        outside = (np.abs(pixels) > float(largest)) & np.isfinite(pixels)
        clipped = np.where(outside, np.copysign(largest, pixels), pixels).astype(dtype)
        return clipped, _clipping_note(float(outside.mean()), dtype)
    info = np.iinfo(dtype)
    share = float(((pixels < info.min - 0.5) | (pixels > info.max + 0.5)).mean())
    # float32 cannot hold the largest 32-bit integer: one step below it is the largest that converts safely.
    top = info.max if float(np.float32(info.max)) <= info.max else np.nextafter(np.float32(info.max), np.float32(0))
    rounded = np.clip(np.nan_to_num(np.rint(pixels)), info.min, top).astype(dtype)
    return rounded, _clipping_note(share, dtype)


def _clipping_note(share: float, dtype: np.dtype[Any]) -> str:
    return f"{share:.2%} of the pixels were clipped to the range of {dtype}" if share else ""
