"""The article's VAE: one field of latent vectors between a convolutional encoder and its mirror.

After Kingma and Welling, "Auto-encoding variational Bayes" (ICLR 2014). Unlike the article's code it is trained with
both terms of the loss, reconstruction and divergence; and it is convolutional, so images of any size go through.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_recon.models._blocks import CONV, CONV_TRANSPOSE
from napari_recon.models._latent import Choose, DirectHead, Drawn, Gaussian, Latent
from napari_recon.models.latent_field import LatentField
from napari_recon.models.likelihood import make_likelihood
from napari_recon.models.vae import FLAT_HALVINGS

if TYPE_CHECKING:
    from napari_recon.models.vae import VAEConfig


class FlatVAE(nn.Module):
    """See the module. Its methods are those of `LadderVAE`, with one level."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        dims = config.dimensions
        conv, up = CONV[dims], CONV_TRANSPOSE[dims]
        widths = [config.features * 2**i for i in range(FLAT_HALVINGS + 1)]
        self.guided, self.levels, self.latents, self.unconditional = config.guided, 1, config.latents, 0
        self.halvings = FLAT_HALVINGS
        inward: list[nn.Module] = [conv(config.channels * (1 + config.guided), widths[0], 3, padding=1), nn.SiLU()]
        for a, b in pairwise(widths):
            inward += [conv(a, b, 2, stride=2), nn.SiLU(), conv(b, b, 3, padding=1), nn.SiLU()]
        self.encoder = nn.Sequential(*inward, conv(widths[-1], 2 * config.latents, 1))
        outward: list[nn.Module] = [conv(config.latents, widths[-1], 1), nn.SiLU()]
        for a, b in pairwise(reversed(widths)):
            outward += [up(a, b, 2, stride=2), nn.SiLU(), conv(b, b, 3, padding=1), nn.SiLU()]
        self.decoder = nn.Sequential(*outward, conv(widths[0], config.channels, 3, padding=1))
        self.direct = DirectHead(dims, config.channels, config.features, config.guided)
        self.likelihood = make_likelihood(config)
        self.field = LatentField(config.latents, dims)

    def forward(self, x: Tensor, guide: Tensor | None = None, choose: Choose | None = None) -> Any:
        """Mean of the samples in one pass; with `choose` also a sample: (mean, `Drawn`). See `LadderVAE.forward`."""
        guide = (x if guide is None else guide) if self.guided else None
        mean: Tensor = self.direct(x, guide)
        return mean if choose is None else (mean, self.decode(self.encode(x, guide), choose))

    def encode(self, x: Tensor, guide: Tensor | None = None) -> list[Tensor]:
        """Parameters of the posterior; sides of `x` are multiples of 8."""
        return [self.encoder(torch.cat([x, x if guide is None else guide], dim=1) if self.guided else x)]

    def decode(self, features: list[Tensor] | None, choose: Choose, shape: torch.Size | None = None) -> Drawn:
        """Choose the latents, and make the image of them. See `LadderVAE.decode`."""
        if features is not None:
            shape = torch.Size([features[0].shape[0], *features[0].shape[2:]])
        assert shape is not None
        prior = Gaussian.standard(next(self.parameters()).new_empty((shape[0], self.latents, *shape[1:])))
        posterior = Gaussian.of(features[0]) if features is not None else None
        z = choose(0, posterior, prior)
        return Drawn(self.decoder(z), [Latent(z, posterior, prior)])
