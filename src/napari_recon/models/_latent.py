"""What the VAE networks share: diagonal Gaussians, samples, and the head that learns their mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from napari_recon.models._blocks import CONV, CONV_TRANSPOSE
from napari_recon.models.unet import UNet

LOWEST, HIGHEST = -10.0, 6.0
"""Bounds of a log-variance: below, a latent would be a constant whose divergence has no bound."""


class Gaussian(NamedTuple):
    """Independent normal distributions: `mean` and `logvar` of one shape."""

    mean: Tensor
    logvar: Tensor

    @classmethod
    def of(cls, parameters: Tensor) -> Gaussian:
        """Halves of a tensor along its channels, in float32 or better: the divergence needs the digits."""
        mean, logvar = parameters.to(torch.promote_types(parameters.dtype, torch.float32)).chunk(2, dim=1)
        # Softer than a clamp, which would stop the gradient.
        middle, half = (HIGHEST + LOWEST) / 2, (HIGHEST - LOWEST) / 2
        return cls(mean, middle + half * torch.tanh((logvar - middle) / half))

    @classmethod
    def standard(cls, like: Tensor) -> Gaussian:
        """Mean 0 and variance 1 in the shape of a tensor."""
        return cls(torch.zeros_like(like), torch.zeros_like(like))

    def reparameterize(self, normal: Tensor) -> Tensor:
        """Turn standard normal numbers into a sample, with gradients to `mean` and `logvar`."""
        return self.mean + (0.5 * self.logvar).exp() * normal


class Latent(NamedTuple):
    """What happened at one level: the sample, its posterior (None when from the prior) and its prior."""

    z: Tensor
    posterior: Gaussian | None
    prior: Gaussian


Choose = Callable[[int, Gaussian | None, Gaussian], Tensor]
"""Latents of a level, from its posterior (None where the image is not seen) and its prior."""

Draw = Callable[[int, torch.Size], Tensor]
"""Standard normal numbers for a level, of a shape (N, latents, ...)."""


def drawing(draw: Draw) -> Choose:
    """Choose latents at random: from the posterior where there is one, else from the prior."""

    def choose(level: int, posterior: Gaussian | None, prior: Gaussian) -> Tensor:
        source = posterior or prior
        return source.reparameterize(draw(level, source.mean.shape))

    return choose


def likeliest(level: int, posterior: Gaussian | None, prior: Gaussian) -> Tensor:
    """Choose the mean: the same latents each time."""
    return (posterior or prior).mean


class Drawn(NamedTuple):
    """One pass down: the clean image, and the latents from the finest level to the coarsest."""

    image: Tensor
    latents: list[Latent]


class DirectHead(nn.Module):
    """Network of its own that learns the mean of the samples in one pass.

    After Salmon and Krull, "Direct unsupervised denoising" (ICCV workshops 2023). It works at half of the resolution,
    for it is to cost less than the samples; where there is a guide it learns the difference from it.
    """

    def __init__(self, dims: int, channels: int, features: int, guided: bool) -> None:
        super().__init__()
        self.fold = CONV[dims](channels * (1 + guided), features, 2, stride=2)
        self.body = UNet(dims, features, 1, features, top_skip=True)
        self.unfold = CONV_TRANSPOSE[dims](features, channels, 2, stride=2)
        nn.init.kaiming_normal_(self.body.tail.weight, a=1.0)
        nn.init.normal_(self.unfold.weight, std=1e-3)

    def forward(self, x: Tensor, guide: Tensor | None) -> Tensor:
        """Images (N, C, ...) and their guides to the means of their samples."""
        seen = x if guide is None else torch.cat([x, guide], dim=1)
        learned: Tensor = self.unfold(self.body(self.fold(seen)))
        return learned if guide is None else guide + learned
