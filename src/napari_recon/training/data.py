"""From images to a patch sampler: normalised, on the device, pixels that are not numbers masked out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_recon.axes import repeat_pixels, time_step, to_batch
from napari_recon.data.noise_estimate import NoiseEstimate
from napari_recon.data.normalization import Normalization, measure
from napari_recon.data.patches import PatchSampler
from napari_recon.device import free_memory
from napari_recon.errors import ReconError
from napari_recon.image import Image
from napari_recon.models import ModelSpec
from napari_recon.training.config import TrainConfig

logger = logging.getLogger(__name__)

MEMORY_SHARE = 0.4  # of the free memory that the training data may fill
GUIDED_PIXELS = 2**23  # the universal denoiser is to take seconds, not the time of the training

Guide = Callable[[Any, Sequence[NoiseEstimate]], Any]
"""From a batch (N, C, [Z], Y, X) and the noise of its channels to what the universal denoiser makes of it."""


class Prepared(NamedTuple):
    """What a training needs of its images; `held_out` are recorded pixels (N, C, [Z], Y, X) kept from it."""

    sampler: PatchSampler
    normalization: Normalization
    held_out: list[Any]


def prepare(
    images: list[Image],
    targets: list[Image] | None,
    spec: ModelSpec,
    config: TrainConfig,
    device: torch.device,
    *,
    stabilised: bool,
    guide: Guide | None = None,
) -> Prepared:
    """Normalise images and put them on the device.

    Parameters
    ----------
    images, targets : list of Image
        Inputs and, when there are pairs, what they should become; of equal axes and shapes, but for the network's scale
        along Y and X.
    spec : ModelSpec
        Spatial axes, joint channels and scale of the network.
    stabilised : bool
        Whether to make the noise equally strong everywhere; noise-aware networks keep it at one.
    guide : callable, optional
        Makes the second input of a guided network.

    Raises
    ------
    ReconError
        When images and targets do not match, channels differ, or there is too little image.
    """
    batches = [to_batch(i.array, i.axes, spec.axes) for i in images]
    if len({b.shape[1] for b in batches}) > 1:
        raise ReconError("The images have different numbers of channels.", "Train on images of one kind.")
    if spec.channels not in (1, batches[0].shape[1]):
        raise ReconError(
            f"The network takes {spec.channels} channels together; the images have {batches[0].shape[1]}.",
            f"Use channels=1, or channels={batches[0].shape[1]}.",
        )
    pairs = None
    if targets is not None:
        pairs = _match(images, targets, spec)
        # On the grid of the targets, so that one patch cuts both.
        batches = [repeat_pixels(b, spec.scale) for b in batches]
    needed = sum(4 * int(np.prod(b.shape)) for b in [*batches, *(pairs or [])])
    share = MEMORY_SHARE * free_memory(device) / needed
    if share < 1:
        logger.warning("The data do not fit into memory: training learns from %.1f %% of them.", 100 * share)
    if guide is not None:
        share = min(share, 4 * GUIDED_PIXELS / needed)
    if share < 1:
        batches = [_part(b, share) for b in batches]
        pairs = [_part(b, share) for b in pairs] if pairs is not None else None
    normalization = measure(
        batches,
        stabilised=stabilised,
        unit_noise=spec.noise_aware,
        with_noise=spec.task == "sample",
        time_steps=[time_step(i.axes, i.shape, spec.axes) for i in images] if share >= 1 else (),
    )
    inputs, weights = _normalise(batches, normalization, spec, device)
    goals = None
    if pairs is not None:
        goals, target_weights = _normalise(pairs, normalization, spec, device)
        weights = _combine(weights, target_weights, inputs)
    guides = None
    if guide is not None:
        guides, _ = _normalise([guide(b, normalization.noise) for b in batches], normalization, spec, device)
    sampler = PatchSampler(
        inputs,
        targets=goals,
        weights=weights,
        guides=guides,
        patch_size=config.patch_size,
        size_multiple=spec.size_multiple * spec.scale,
        align=spec.scale,
        validation_fraction=config.validation_fraction,
    )
    return Prepared(sampler, normalization, _held_out(batches, sampler))


def _held_out(batches: list[Any], sampler: PatchSampler) -> list[Any]:
    """Cut out of each batch what the sampler keeps from the training."""
    parts = []
    for batch, tensor, part in zip(batches, sampler.inputs, sampler.held_out, strict=True):
        if part is not None:
            # Channels that are images of their own are samples of the sampler.
            together = int(tensor.shape[0]) // int(batch.shape[0])
            samples = slice(-(-part.samples.start // together), part.samples.stop // together)
            parts.append(batch[(samples, slice(None), *(slice(a, b) for a, b in part.region))])
    return parts


def _match(images: list[Image], targets: list[Image], spec: ModelSpec) -> list[Any]:
    if len(images) != len(targets):
        raise ReconError(
            f"There are {len(images)} noisy images and {len(targets)} targets.", "Give one target for each image."
        )
    for image, target in zip(images, targets, strict=True):
        sizes = {a: image.size(a) * (spec.scale if a in "YX" else 1) for a in image.axes}
        if sorted(image.axes) != sorted(target.axes) or any(n != target.size(a) for a, n in sizes.items()):
            size = "the same size" if spec.scale == 1 else f"{spec.scale} times the size along Y and X"
            raise ReconError(
                f"The target is {target.axes} {target.shape}, its image {image.axes} {image.shape}.",
                f"Choose a target of {size}, taken of the same field.",
            )
    return [to_batch(t.array, t.axes, spec.axes) for t in targets]


def _part(batch: Any, share: float) -> Any:
    """Samples spread evenly over a batch (N, C, [Z], Y, X), or the middle of each where one would be too many.

    Nothing else of a lazy array is read. A few hundred megapixels teach as much as all.
    """
    count = int(batch.shape[0] * share)
    if count:
        step = batch.shape[0] / count
        return batch[[int((i + 0.5) * step) for i in range(count)]]
    sides = [max(int(n * (batch.shape[0] * share) ** 0.5), 1) for n in batch.shape[-2:]]
    middle = tuple(slice((n - s) // 2, (n - s) // 2 + s) for n, s in zip(batch.shape[-2:], sides, strict=True))
    return batch[(slice(0, 1), ..., *middle)]


def _normalise(
    batches: list[Any], normalization: Normalization, spec: ModelSpec, device: torch.device
) -> tuple[list[Tensor], list[Tensor] | None]:
    """Normalised tensors, channels as samples where they are independent; weights only when some pixel is missing."""
    tensors: list[Tensor] = []
    masks: list[NDArray[np.bool_]] = []
    for batch in batches:
        done, missing = np.empty(batch.shape, np.float32), np.empty(batch.shape, bool)
        for n in range(batch.shape[0]):
            for c in range(batch.shape[1]):
                raw = np.asarray(batch[n, c])
                done[n, c] = normalization.forward(raw, c)
                # Asked of the raw pixels too: the stabilisation clips minus infinity to a number.
                missing[n, c] = ~(np.isfinite(raw) & np.isfinite(done[n, c]))
        done[missing] = 0  # the mean; its loss is masked out
        if spec.channels == 1:
            done, missing = (a.reshape(-1, 1, *a.shape[2:]) for a in (done, missing))
        tensors.append(torch.from_numpy(done).to(device))
        masks.append(missing)
    if not any(m.any() for m in masks):
        return tensors, None
    if all(m.all() for m in masks):
        raise ReconError("No pixel is a number that float32 can hold.", "Scale the image down, or choose another.")
    return tensors, [torch.from_numpy((~m).astype(np.float32)).to(device) for m in masks]


def _combine(a: list[Tensor] | None, b: list[Tensor] | None, like: list[Tensor]) -> list[Tensor] | None:
    if a is None and b is None:
        return None
    first = a or [torch.ones_like(x) for x in like]
    second = b or [torch.ones_like(x) for x in like]
    return [x * y for x, y in zip(first, second, strict=True)]
