"""The ladder VAE: latents at several resolutions, each level's prior set by those above.

After Sønderby et al., "Ladder variational autoencoders" (NeurIPS 2016), as used for denoising by Prakash et al.,
"Interpretable unsupervised diversity denoising and artefact removal" (HDN, ICLR 2022). Without normalisation
layers, so that a tile sees nothing of the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_recon.models._blocks import CONV, CONV_TRANSPOSE
from napari_recon.models._latent import Choose, DirectHead, Drawn, Gaussian, Latent
from napari_recon.models.latent_field import LatentField
from napari_recon.models.likelihood import make_likelihood

if TYPE_CHECKING:
    from napari_recon.models.vae import VAEConfig


class GatedBlock(nn.Module):
    """Two convolutions whose gated answer is added to their input, as in HDN."""

    def __init__(self, dims: int, features: int) -> None:
        super().__init__()
        self.first = CONV[dims](features, features, 3, padding=1)
        self.second = CONV[dims](features, 2 * features, 3, padding=1)
        nn.init.normal_(self.second.weight, std=1e-2)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of `x`."""
        answer, gate = self.second(nn.functional.silu(self.first(nn.functional.silu(x)))).chunk(2, dim=1)
        out: Tensor = x + answer * torch.sigmoid(gate)
        return out


class LadderVAE(nn.Module):
    """See the module. Level 0 has half of the image's resolution, level i has 1 / 2**(i + 1)."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        dims, f, count = config.dimensions, config.features, config.levels
        conv, up = CONV[dims], CONV_TRANSPOSE[dims]
        inputs = config.channels * (1 + config.guided)
        self.guided, self.levels, self.latents = config.guided, count, config.latents
        self.halvings = count  # of the coarsest level
        self.unconditional = config.unconditional
        seeing = range(config.unconditional, count)  # levels that see the image
        self.downsample = nn.ModuleList(conv(f if i else inputs, f, 2, stride=2) for i in range(count))
        self.encoder = nn.ModuleList(_blocks(dims, f, config.blocks) for _ in range(count))
        self.top = nn.Parameter(torch.zeros(1, 2 * config.latents, *(1,) * dims))
        self.prior = nn.ModuleList(conv(f, 2 * config.latents, 3, padding=1) for _ in range(count - 1))
        self.merge = nn.ModuleList(conv(2 * f if i < count - 1 else f, f, 1) for i in seeing)
        self.posterior = nn.ModuleList(conv(f, 2 * config.latents, 3, padding=1) for _ in seeing)
        self.embed = nn.ModuleList(conv(config.latents, f, 1) for _ in range(count))
        self.decoder = nn.ModuleList(_blocks(dims, f, config.blocks) for _ in range(count))
        self.upsample = nn.ModuleList(up(f, f, 2, stride=2) for _ in range(count))
        self.tail = nn.Sequential(
            nn.SiLU(), conv(f, f // 2, 3, padding=1), nn.SiLU(), conv(f // 2, config.channels, 3, padding=1)
        )
        self.direct = DirectHead(dims, config.channels, f, config.guided)
        self.likelihood = make_likelihood(config)
        self.field = LatentField(config.latents, dims)

    def forward(self, x: Tensor, guide: Tensor | None = None, choose: Choose | None = None) -> Any:
        """Mean of the samples in one pass; with `choose` also a sample: (mean, `Drawn`).

        Parameters
        ----------
        x : Tensor
            (N, C, [Z], Y, X), sides multiples of ``2**levels``.
        guide : Tensor, optional
            The universal denoiser's answer to `x`; `x` itself when left out.
        choose : callable, optional
            Gives the latents of a level.
        """
        guide = (x if guide is None else guide) if self.guided else None
        mean: Tensor = self.direct(x, guide)
        return mean if choose is None else (mean, self.decode(self.encode(x, guide), choose))

    def encode(self, x: Tensor, guide: Tensor | None = None) -> list[Tensor]:
        """Features of each level, the finest first."""
        if self.guided:
            x = torch.cat([x, x if guide is None else guide], dim=1)
        features = []
        for downsample, blocks in zip(self.downsample, self.encoder, strict=True):
            x = blocks(downsample(x))
            features.append(x)
        return features

    def decode(self, features: list[Tensor] | None, choose: Choose, shape: torch.Size | None = None) -> Drawn:
        """Choose the latents from the coarsest level to the finest, and make the image of them.

        Parameters
        ----------
        features : list of Tensor or None
            From `encode`: there is a posterior. None: there is only the prior.
        choose : callable
            Gives the latents of a level.
        shape : torch.Size, optional
            (N, ...) samples and sides of the coarsest level, where there are no features.
        """
        if features is not None:
            shape = torch.Size([features[-1].shape[0], *features[-1].shape[2:]])
        assert shape is not None
        state = self.top.new_zeros(1)  # of the levels above: at the coarsest there are none
        latents: list[Latent] = []
        for level in reversed(range(self.levels)):
            top = level == self.levels - 1
            prior = Gaussian.of(self.top.expand(shape[0], -1, *shape[1:]) if top else self.prior[level](state))
            posterior = None
            if features is not None and level >= self.unconditional:
                seen = features[level] if top else torch.cat([features[level], state], dim=1)
                own = level - self.unconditional
                posterior = Gaussian.of(self.posterior[own](nn.functional.silu(self.merge[own](seen))))
            z = choose(level, posterior, prior)
            latents.insert(0, Latent(z, posterior, prior))
            state = self.upsample[level](self.decoder[level](state + self.embed[level](z)))
        image: Tensor = self.tail(state)
        return Drawn(image, latents)


def _blocks(dims: int, features: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(GatedBlock(dims, features) for _ in range(count)))
