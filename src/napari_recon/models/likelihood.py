"""Noise models of the VAE family: how probable a noisy pixel is, given the clean one. Both in normalised units."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from napari_recon.models.vae import VAEConfig

LEAST_VARIANCE = 1e-4  # of images whose variance is one: without a floor a single flat patch rules the training
COMPONENTS = 3
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class GaussianNoise(nn.Module):
    """Normal noise whose variance is a straight line of the clean value: ``slope * clean + intercept``.

    Parameters
    ----------
    channels, dims : int
        Channels and spatial dimensions of the images.
    learned : bool
        Whether the strength is learned, starting from what was set.
    """

    slope: Tensor
    intercept: Tensor

    def __init__(self, channels: int, dims: int, learned: bool) -> None:
        super().__init__()
        shape = (1, channels, *(1,) * dims)
        self.register_buffer("slope", torch.zeros(shape))
        self.register_buffer("intercept", torch.ones(shape))
        self.log_factor = nn.Parameter(torch.zeros(shape)) if learned else None

    @torch.no_grad()
    def set(self, slope: Tensor, intercept: Tensor) -> None:
        """Take the measured noise, one number for each channel."""
        self.slope.copy_(slope.view(self.slope.shape))
        self.intercept.copy_(intercept.view(self.slope.shape))

    def variance(self, clean: Tensor) -> Tensor:
        """Variance of the noise at each pixel."""
        variance = self.slope * clean + self.intercept
        if self.log_factor is not None:
            variance = variance * self.log_factor.exp()
        return variance.clamp_min(LEAST_VARIANCE)

    def nll(self, noisy: Tensor, clean: Tensor) -> Tensor:
        """Negative log-likelihood of each pixel, in nats."""
        variance = self.variance(clean)
        return 0.5 * ((noisy - clean).square() / variance + variance.log()) + HALF_LOG_2PI


class MixtureNoise(nn.Module):
    """A few normal distributions around the clean value, each with weight, shift and width linear in it.

    Fitted to noisy pixels and an estimate of their clean values, as in Prakash et al., "Fully unsupervised
    probabilistic Noise2Void" (ISBI 2020); for noise with tails, such as that of clipped or gamma-corrected images.
    """

    line: Tensor

    def __init__(self) -> None:
        super().__init__()
        line = torch.zeros(3, COMPONENTS, 2)  # weight, shift, log of the width; at the clean value 0, and the slope
        line[1, :, 0] = torch.linspace(-0.1, 0.1, COMPONENTS)
        self.register_buffer("line", line)

    def _components(self, clean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-weight, shift and log-width of the components, (3, *shape) each; the mean of all shifts is zero."""
        value = clean.clamp(-10, 10)[None]
        lines = self.line.reshape(3, COMPONENTS, 2, *(1,) * clean.dim())
        weight, shift, width = lines[:, :, 0] + lines[:, :, 1] * value
        log_weight = F.log_softmax(weight, dim=0)
        shift = shift - (log_weight.exp() * shift).sum(0)
        return log_weight, shift, width.clamp_min(0.5 * math.log(LEAST_VARIANCE))

    def variance(self, clean: Tensor) -> Tensor:
        """Variance of the noise at each pixel."""
        log_weight, shift, log_width = self._components(clean)
        return (log_weight.exp() * (shift.square() + (2 * log_width).exp())).sum(0)

    def nll(self, noisy: Tensor, clean: Tensor) -> Tensor:
        """Negative log-likelihood of each pixel, in nats."""
        log_weight, shift, log_width = self._components(clean)
        z = (noisy - clean - shift) / log_width.exp()
        return HALF_LOG_2PI - torch.logsumexp(log_weight - log_width - 0.5 * z.square(), dim=0)

    def fit(self, noisy: Tensor, clean: Tensor, steps: int = 300) -> None:
        """Fit to pixels of a noisy image and their estimated clean values, any shape."""
        noisy, clean = noisy.detach().float().flatten(), clean.detach().float().flatten()
        with torch.no_grad():
            self.line[2, :, 0] = (noisy - clean).std().log() + torch.linspace(-0.3, 0.3, COMPONENTS)
        with torch.enable_grad():
            self.line.requires_grad_(True)
            optimizer = torch.optim.Adam([self.line], lr=0.02)
            for _ in range(steps):
                optimizer.zero_grad()
                self.nll(noisy, clean).mean().backward()
                optimizer.step()
            self.line.requires_grad_(False)


def make_likelihood(config: VAEConfig) -> GaussianNoise | MixtureNoise:
    """Make the noise model that `config` names."""
    if config.likelihood == "mixture":
        return MixtureNoise()
    return GaussianNoise(config.channels, config.dimensions, config.likelihood == "learned")
