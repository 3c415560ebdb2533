"""Distances between the statistics of textures, whose pixels have no partners."""

import torch
from torch import Tensor
from torch.nn import functional as F

FILTER = 7  # side of a neighbourhood
FILTERS = 32  # drawn anew at each step
PLACES = 4096  # looked at, of all
SMALLEST = 12  # side of an image that is still worth looking at


def patch_distance(real: Tensor, fake: Tensor, scales: int, rng: torch.Generator) -> Tensor:
    """Sliced Wasserstein distance between the neighbourhoods of two batches, at several scales.

    After Heitz et al., "A sliced Wasserstein loss for neural texture synthesis" (CVPR 2021), with random filters on
    the pixels themselves, at each scale some of the size of a pixel (the histogram), in place of a trained network.

    Parameters
    ----------
    real, fake : Tensor
        (N, C, Y, X), of one shape.
    scales : int
        Number of scales, each half the resolution of the one before.
    rng : torch.Generator
        CPU generator, for the filters.
    """
    total = real.new_zeros(())
    for scale in range(scales):
        if scale:
            real, fake = F.avg_pool2d(real, 2), F.avg_pool2d(fake, 2)
        if min(real.shape[2:]) < SMALLEST:
            break
        kernels = _filters(real.shape[1], rng).to(real)
        a, b = (_responses(x, kernels) for x in (real, fake))
        total = total + (a - b).square().mean() / a.var().detach().clamp_min(1e-6)
    return total


def _filters(channels: int, rng: torch.Generator) -> Tensor:
    """Random filters of unit length, smooth ones and rough ones; one looks at a pixel alone."""
    kernels = torch.randn(FILTERS, channels, FILTER, FILTER, generator=rng)
    kernels[::3] = F.avg_pool2d(kernels[::3], 3, stride=1, padding=1)
    kernels[0] = 0
    kernels[0, :, FILTER // 2, FILTER // 2] = torch.randn(channels, generator=rng)
    unit: Tensor = kernels / kernels.flatten(1).norm(dim=1)[:, None, None, None]
    return unit


def _responses(x: Tensor, kernels: Tensor) -> Tensor:
    """Sorted responses of each filter, (filters, places)."""
    answers = F.conv2d(x, kernels).transpose(0, 1).flatten(1)
    step = max(answers.shape[1] // PLACES, 1)
    return answers[:, ::step].sort(dim=1).values


def log_spectrum(x: Tensor) -> Tensor:
    """Logarithm of the mean power spectrum of a batch (N, C, Y, X): (C, Y, X // 2 + 1), without the constant."""
    windows = [torch.hann_window(n, periodic=False, device=x.device) for n in x.shape[2:]]
    tapered = (x - x.mean(dim=(2, 3), keepdim=True)) * torch.outer(*windows)
    power = torch.fft.rfft2(tapered).abs().square().mean(dim=0)
    return torch.log(power + 1e-4 * power.mean(dim=(1, 2), keepdim=True).detach() + 1e-12)
