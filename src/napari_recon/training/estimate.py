"""What a training will take, before it starts."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from torch import nn

from napari_recon.image import Image
from napari_recon.models import ModelSpec
from napari_recon.training.config import TrainConfig

VALUES_PER_FEATURE = 40  # activations forwards and backwards, for each pixel of a batch


def estimate(
    network: nn.Module, features: int, spec: ModelSpec, config: TrainConfig, images: Sequence[Image]
) -> dict[str, float]:
    """Estimate seconds and bytes of a training.

    Parameters
    ----------
    network : nn.Module
        What will be trained.
    features : int
        Feature maps of its first layer.
    spec, config, images
        Its description, the options of the training, and what it will be trained on.

    Returns
    -------
    dict
        ``seconds`` (exact for a budget in minutes; for one in steps, a step on one patch is timed on the CPU) and
        ``memory_bytes``.
    """
    multiple = spec.size_multiple
    sides = [min(config.patch_size, *(i.size(a) for i in images)) for a in spec.axes]
    sides = [max(n // spec.scale // multiple, 1) * multiple for n in sides]  # an upscaler works on small ones
    pixels = config.batch_size * spec.channels * math.prod(sides)
    weights = sum(p.numel() for p in network.parameters())
    data = sum(math.prod(i.shape) for i in images)
    memory = float(4 * data + 20 * weights + 4 * VALUES_PER_FEATURE * features * pixels)
    if config.minutes is not None:
        return {"seconds": 60 * config.minutes, "memory_bytes": memory}
    patch_seconds = _time_step(network, (1, spec.channels, *sides))
    return {"seconds": patch_seconds * config.batch_size * (config.steps or 0), "memory_bytes": memory}


def _time_step(network: nn.Module, shape: tuple[int, ...]) -> float:
    x = torch.zeros(shape)
    for _ in range(2):  # the first prepares what the second finds ready
        start = time.perf_counter()
        network(x).square().mean().backward()
    return time.perf_counter() - start
