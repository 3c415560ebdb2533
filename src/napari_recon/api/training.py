"""Train a model of any family."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_recon.api.models import Model, load_model
from napari_recon.api.previews import previewer
from napari_recon.checkpoint import TrainedModel
from napari_recon.data.noise_estimate import NoiseEstimate
from napari_recon.data.patches import PatchSampler
from napari_recon.device import choose_device
from napari_recon.errors import ReconError
from napari_recon.image import Image, as_image
from napari_recon.inference.calibration import calibrate
from napari_recon.inference.guide import make_guide
from napari_recon.models import get_family
from napari_recon.progress import CancelToken, ProgressCallback, ProgressEvent
from napari_recon.training.data import Guide, prepare
from napari_recon.training.estimate import estimate
from napari_recon.training.loop import fit
from napari_recon.training.prior import fit_prior
from napari_recon.training.processes import launch
from napari_recon.training.setup import best_start, configs, enough_memory, first_step, provenance
from napari_recon.training.state import load_state


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
        ``"autoencoder"`` to denoise, ``"vae"`` to sample, ``"gan"`` to upscale, ``"texture"`` to generate,
        ``"completion"`` to fill holes.
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
        Small image to restore now and then, for an upscaler binned and for a completion holed first; the result comes
        with the progress events.
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
    config, training = configs(members, origin, preset, options)
    step = first_step(family, config, origin, training.seed, targets is not None)
    spec = members.spec(config)
    path, state = _checkpoint(checkpoint, resume)
    fabric = launch(training, choose_device(device), len(spec.axes), state["precision"] if state else None)
    with enough_memory(training, fabric.device):
        sampler, normalization, held_out = prepare(
            images,
            targets,
            spec,
            training,
            fabric.device,
            stabilised=spec.noise_aware or step.stabilised,
            guide=_guide(spec.axes, str(fabric.device), on_progress, cancel) if spec.guided else None,
        )
        step.use(normalization, sampler)
        sampler.rotations = sampler.rotations and step.rotations
        missing = _count_missing(sampler, on_progress if fabric.is_global_zero else None)
        region = as_image(preview, axes) if preview is not None else None
        picture = previewer(family, config, normalization, region, str(fabric.device)) if region else None
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
    scale = 1 if targets else spec.scale
    origins = provenance(images, targets, scale, training, result, origin, str(fabric.device))
    model = TrainedModel(
        family=family,
        config=config,
        weights=result.weights,
        normalization=normalization,
        provenance=origins | step.record | {"missing_pixels": missing},
        name=f"{images[0].name or 'image'} {family}",
        stopped=result.stopped,
    )
    if spec.task == "sample":
        _finish_sampler(model, sampler, held_out, on_progress)
    return model


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
    config, training = configs(members, origin, preset, options)
    images = _as_images(image, axes)
    features = getattr(config, "features", 32)
    return estimate(members.build(config), features, members.spec(config), training, images)


def _finish_sampler(
    model: TrainedModel, sampler: PatchSampler, held_out: list[Any], on_progress: ProgressCallback | None
) -> None:
    """Fit what generated images start from to what the model learned from; then hold its spread against the error."""
    network = model.network(sampler.device)
    fit_prior(network, sampler.inputs, sampler.guides, model.spec.size_multiple)
    model.weights = {k: v.cpu().clone() for k, v in network.state_dict().items()}
    model.provenance["calibration"] = calibrate(model, held_out, str(sampler.device), on_progress)


def _origin(start_from: Model | None, family: str, has_target: bool, options: dict[str, Any]) -> TrainedModel | None:
    """The model that a training goes on from."""
    if start_from == "auto":
        start_from = best_start(family, has_target, options)
    return load_model(start_from) if start_from is not None else None


def _checkpoint(checkpoint: str | Path | None, resume: bool) -> tuple[Path | None, dict[str, Any] | None]:
    """Where to save the state of the run, and the state to go on from."""
    path = Path(checkpoint).expanduser() if checkpoint is not None else None
    if not resume:
        return path, None
    if path is None:
        raise ReconError("There is no checkpoint to resume from.", "Give checkpoint= as in the run that was stopped.")
    return path, load_state(path)


def _as_images(image: Any, axes: str | None) -> list[Image]:
    many = isinstance(image, Sequence) and not isinstance(image, Image)
    images = [as_image(i, axes) for i in (image if many else [image])]
    if not images:
        raise ReconError("There is no image to train on.", "Give at least one.")
    return images


def _count_missing(sampler: PatchSampler, on_progress: ProgressCallback | None) -> int:
    """Count the pixels that are left out, and tell the user."""
    missing = sum(int((w == 0).sum()) for w in sampler.weights or [])
    if missing and on_progress is not None:
        on_progress(ProgressEvent("train", 0, message=f"{missing:,} pixels that are not finite are left out"))
    return missing


def _guide(axes: str, device: str, on_progress: ProgressCallback | None, cancel: CancelToken | None) -> Guide:
    """A function from batches (N, C, [Z], Y, X) to what the universal denoiser makes of them."""

    def guide(batch: Any, noise: Sequence[NoiseEstimate]) -> Any:
        image = Image(batch, "SC" + axes)
        return make_guide(image, noise=noise, device=device, on_progress=on_progress, cancel=cancel)

    return guide
