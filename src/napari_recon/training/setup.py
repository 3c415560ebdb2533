"""What stands before and after a training: which network it starts from, and what is told of it."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from napari_recon._version import __version__
from napari_recon.axes import to_batch
from napari_recon.checkpoint import TrainedModel
from napari_recon.config import split_options
from napari_recon.device import is_out_of_memory
from napari_recon.errors import ReconError
from napari_recon.image import Image
from napari_recon.library import list_models
from napari_recon.models import Family, get_family
from napari_recon.quality.trust import typical_roughness
from napari_recon.training.config import TrainConfig, train_config
from napari_recon.training.loop import FitResult
from napari_recon.training.steps import STEPS, Step

FINE_TUNING_RATE = 1e-4  # learning rate, where none is given, of a network that starts from another


def best_start(family: str, has_target: bool, options: dict[str, Any]) -> str | None:
    """Name of the shipped model that a training starts from when the user leaves it open, None for fresh weights."""
    members = get_family(family)
    chosen = {name: value for name, value in options.items() if value is not None}
    if not members.start or has_target or members.settled & chosen.keys():
        return None
    name = members.start.format(**{o.name: o.default for o in members.config.options()} | chosen)
    return name if any(m.name == name and m.shipped for m in list_models()) else None


def configs(
    family: Family, origin: TrainedModel | None, preset: str, options: dict[str, Any]
) -> tuple[Any, TrainConfig]:
    """Family config and training config: the origin's or the defaults, changed by the options."""
    kind = family.config
    suitable = {"learning_rate": FINE_TUNING_RATE, "validate_every": 25} if origin is not None else family.training
    given = {**suitable, **{k: v for k, v in options.items() if v is not None}}
    training_names = {o.name for o in TrainConfig.options()}
    training = train_config(preset, **{k: v for k, v in given.items() if k in training_names})
    base = origin.config if origin is not None and isinstance(origin.config, kind) else kind()
    changed, changed_training = split_options(given, base, training)
    return changed, cast(TrainConfig, changed_training)


def first_step(family: str, config: Any, origin: TrainedModel | None, seed: int, has_target: bool) -> Step:
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # a discriminator has first weights too
        return STEPS[family](config, network, has_target)


@contextmanager
def enough_memory(training: TrainConfig, device: torch.device) -> Iterator[None]:
    """Turn running out of memory into an error that says what to reduce."""
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


def provenance(
    images: list[Image],
    targets: list[Image] | None,
    scale: int,
    training: TrainConfig,
    result: FitResult,
    origin: TrainedModel | None,
    device: str,
) -> dict[str, Any]:
    """Where a model came from, as JSON types."""
    history = result.history
    digest = hashlib.sha256()
    for i in images:
        digest.update(repr((i.axes, i.shape, str(i.dtype))).encode())
        # Of an array that is read as it is needed, the first plane stands for all.
        pixels = i.array if isinstance(i.array, np.ndarray) else i.array[(0,) * (i.ndim - 2)]
        digest.update(np.ascontiguousarray(pixels).data)
    return {
        "created": datetime.datetime.now().isoformat(timespec="seconds"),
        "data": [{"name": i.name, "axes": i.axes, "shape": list(i.shape), "dtype": str(i.dtype)} for i in images],
        "data_hash": digest.hexdigest()[:16],
        "targets": targets is not None,
        "roughness": typical_roughness(_planes(images, scale)),
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
        "versions": {"napari-recon": __version__, "torch": str(torch.__version__)},
    }


def _planes(images: list[Image], scale: int, limit: int = 16) -> Iterator[NDArray[np.float32]]:
    """A plane of up to `limit` images, binned to the pixels that the network sees; finite ones only."""
    for i in images[:: max(len(images) // limit, 1)]:
        batch = to_batch(i.array, i.axes)
        plane = np.asarray(batch[batch.shape[0] // 2, 0], np.float32)
        height, width = (n // scale for n in plane.shape)
        if height and width and np.isfinite(plane).all():
            cut = plane[: height * scale, : width * scale]
            yield cut.reshape(height, scale, width, scale).mean(axis=(1, 3))
