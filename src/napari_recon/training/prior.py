"""Fit what generated images start from, when the training of a VAE has ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from napari_recon.models._latent import likeliest

IMAGES = 8  # looked at, of many
SIDES = {2: 512, 3: 64}  # of the middle that is looked at, by the number of spatial axes


@torch.no_grad()
def fit_prior(network: nn.Module, inputs: Sequence[Tensor], guides: Sequence[Tensor] | None, multiple: int) -> None:
    """Fit the field of a VAE's coarsest latents to its posteriors of the training images.

    Parameters
    ----------
    network : nn.Module
        Of the VAE family; its `field` changes.
    inputs, guides : sequence of Tensor
        What it learned from, (N, C, [Z], Y, X) each, normalised.
    multiple : int
        Sides of images that the network takes are multiples of this.
    """
    vae: Any = network
    place = next(network.parameters()).device
    planes = [(i, n) for i, images in enumerate(inputs) for n in range(images.shape[0])]
    step = max(len(planes) // IMAGES, 1)
    means, variances = [], []
    for i, n in planes[::step][:IMAGES]:
        crop = _middle(inputs[i].shape[2:], multiple)
        image, guide = (x[i][n : n + 1][crop].to(place) if x is not None else None for x in (inputs, guides))
        mean, logvar = vae.decode(vae.encode(image, guide), likeliest).latents[-1].posterior
        means.append(mean[0].cpu())
        variances.append(logvar[0].exp().cpu())
    vae.field.cpu().fit(means, variances)
    vae.field.to(place)


def _middle(shape: Sequence[int], multiple: int) -> tuple[slice, ...]:
    sides = [min(n, SIDES[len(shape)]) // multiple * multiple for n in shape]
    starts = [(n - s) // 2 for n, s in zip(shape, sides, strict=True)]
    return (slice(None), slice(None), *(slice(a, a + s) for a, s in zip(starts, sides, strict=True)))
