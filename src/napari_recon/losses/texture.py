"""Distances between the statistics of textures, whose pixels have no partners."""

import torch
from torch import Tensor
from torch.nn import functional as F

FILTER = 9  # side of a neighbourhood
DRAWN, CUT = 12, 12  # filters at each step: drawn at random, and cut out of the images
PLACES = 2048  # looked at, of all
SORTED = 512  # places of a feature map that are compared
SMALLEST = 12  # side of an image that is still worth looking at


def patch_distance(real: Tensor, fake: Tensor, scales: int, rng: torch.Generator) -> Tensor:
    """Sliced Wasserstein distance between the neighbourhoods of two batches, at several scales.

    After Heitz et al., "A sliced Wasserstein loss for neural texture synthesis" (CVPR 2021), with filters on the
    pixels themselves in place of a trained network: random ones, and neighbourhoods of both batches, which answer to
    what one has and the other lacks. At each scale one filter is a single pixel (the histogram).

    Parameters
    ----------
    real, fake : Tensor
        (N, C, Y, X), of one shape.
    scales : int
        Number of scales, each half the resolution of the one before; the coarsest cells have ``2**scales`` pixels.
    rng : torch.Generator
        CPU generator, for the filters.
    """
    total = real.new_zeros(())
    for scale in range(scales):
        if scale:
            real, fake = F.avg_pool2d(real, 2), F.avg_pool2d(fake, 2)
        if min(real.shape[2:]) < SMALLEST:
            break
        strides = _strides(real.shape, 2 ** (scales - scale), rng)
        cut = [_neighbourhoods(x.detach(), CUT // 2, rng) for x in (real, fake)]
        kernels = torch.cat([_filters(real.shape[1], rng).to(real), *cut])
        kernels = kernels / kernels.flatten(1).norm(dim=1).clamp_min(1e-6)[:, None, None, None]
        total = total + sorted_distance(*(_responses(x, kernels, strides, rng) for x in (real, fake)))
    return total


def sorted_distance(real: Tensor, fake: Tensor) -> Tensor:
    """Squared distance of the distributions of each row (filters, places), next to that row's own variance.

    Next to the variance of all rows, the few strongest edges would be all that counts.
    """
    a, b = (x.sort(dim=1).values for x in (real, fake))
    return ((a - b).square().mean(dim=1) / a.var(dim=1).detach().clamp_min(1e-6)).mean()


def feature_distance(real: list[Tensor], fake: list[Tensor], rng: torch.Generator) -> Tensor:
    """Mean distance of the distributions of each feature map of a discriminator, from its second layer on."""
    distances = []
    for pair in zip(real[1:], fake[1:], strict=True):
        rows = [x.transpose(0, 1).flatten(1) for x in pair]
        # Sorting all of the finer layers would take a third of the step.
        seen = torch.randperm(rows[0].shape[1], generator=rng)[:SORTED].to(rows[0].device)
        a, b = (x.index_select(1, seen).float() for x in rows)
        distances.append(sorted_distance(a.detach(), b))
    return torch.stack(distances).mean()


def _filters(channels: int, rng: torch.Generator) -> Tensor:
    """Random filters, smooth ones and rough ones; one looks at a pixel alone."""
    kernels = torch.randn(DRAWN, channels, FILTER, FILTER, generator=rng)
    kernels[::2] = F.avg_pool2d(kernels[::2], 3, stride=1, padding=1)
    kernels[0] = 0
    kernels[0, :, FILTER // 2, FILTER // 2] = torch.randn(channels, generator=rng)
    return kernels


def _neighbourhoods(x: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """Cut some out of a batch, and take their mean away: (count, C, FILTER, FILTER)."""
    room = torch.tensor([len(x), *(n - FILTER + 1 for n in x.shape[2:])])
    places = (torch.rand(count, 3, generator=rng) * room).long().tolist()
    cut = torch.stack([x[n, :, i : i + FILTER, j : j + FILTER] for n, i, j in places])
    return cut - cut.mean(dim=(1, 2, 3), keepdim=True)


def _strides(shape: torch.Size, cell: int, rng: torch.Generator) -> list[int]:
    """Steps between places along Y and X: a cell along one of them, along the other as many places as are looked at."""
    rows, columns = (n - FILTER + 1 for n in shape[2:])
    cell = min(cell, rows, columns)
    strides = [cell, min(max(shape[0] * rows * columns // (PLACES * cell), 1), rows, columns)]
    return strides[:: 1 if torch.rand(1, generator=rng) < 0.5 else -1]


def _responses(x: Tensor, kernels: Tensor, strides: list[int], rng: torch.Generator) -> Tensor:
    """Responses of each filter on a grid of places that begins anywhere, (filters, places)."""
    cut = x
    for axis, stride in zip((2, 3), strides, strict=True):
        first = int(torch.randint(0, stride, (1,), generator=rng))
        count = (x.shape[axis] - FILTER + 1) // stride
        cut = cut.narrow(axis, first, (count - 1) * stride + FILTER)
    return F.conv2d(cut, kernels, stride=strides).transpose(0, 1).flatten(1)


def log_spectrum(x: Tensor) -> Tensor:
    """Logarithm of the mean power spectrum of a batch (N, C, Y, X): (C, Y, X // 2 + 1), without the constant."""
    windows = [torch.hann_window(n, periodic=False, device=x.device) for n in x.shape[2:]]
    tapered = (x - x.mean(dim=(2, 3), keepdim=True)) * torch.outer(*windows)
    power = torch.fft.rfft2(tapered).abs().square().mean(dim=0)
    return torch.log(power + 1e-4 * power.mean(dim=(1, 2), keepdim=True).detach() + 1e-12)
