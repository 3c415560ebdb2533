"""Distances between a prediction and its target, as weighted means over all pixels.

All take tensors of one shape and a weight that broadcasts to it (None: all pixels count alike); pixels of weight 0
have no influence.
"""

import torch
from torch import Tensor


def mse(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Squared error; its minimiser is the posterior mean, which keeps intensities unbiased."""
    return _mean((prediction - target).square(), weight)


def l1(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Absolute error; its minimiser is the median."""
    return _mean((prediction - target).abs(), weight)


def charbonnier(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Absolute error rounded off near zero (Charbonnier et al., ICIP 1994)."""
    return _mean(torch.sqrt((prediction - target).square() + 1e-6), weight)


def _mean(error: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return error.mean()
    weight = weight.expand_as(error)
    return (error * weight).sum() / weight.sum().clamp_min(1.0)
