"""One training step of the VAE family: reconstruction and divergence, and the direct head beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from napari_recon.data.normalization import Normalization
from napari_recon.data.patches import Batch, PatchSampler
from napari_recon.errors import ReconError
from napari_recon.losses.divergence import kl_divergence, with_free_nats
from napari_recon.losses.reconstruction import mse
from napari_recon.models._latent import Drawn, drawing
from napari_recon.models.likelihood import GaussianNoise, MixtureNoise
from napari_recon.models.vae import VAEConfig

COLLAPSED = 1e-3  # nats an image pixel: less, and the latents tell next to nothing of the image
JUDGED_FROM = 0.3  # share of the training before which a low divergence is only a slow start
FITTED_PIXELS = 200_000


class VAEStep:
    """See `Step`. The loss is the negative evidence lower bound in nats a pixel, plus the error of the direct head.

    A guided network explains two observations by its clean image: the noisy one, with the noise, and the universal
    denoiser's answer, with that denoiser's error.
    """

    keeps_best = False  # samples of the last average are better than those of the best bound, which is noisy
    rotations = True

    def __init__(self, config: VAEConfig, network: nn.Module, has_target: bool) -> None:
        if has_target:
            raise ReconError("A VAE learns from images alone, noisy or clean.", "Leave the target out.")
        self.config = config
        self.stabilised = config.likelihood != "poisson_gaussian"
        self.players: dict[str, nn.Module] = {"network": network}
        self.values: dict[str, float] = {}
        self.record: dict[str, Any] = {}
        self.warning = ""

    def least_gain(self, start: float) -> float:
        """Any gain counts."""
        return 0.0

    def use(self, normalization: Normalization, sampler: PatchSampler) -> None:
        """Set the likelihood by the measured noise, or fit it to what the guide took away."""
        likelihood = self.players["network"].likelihood
        if isinstance(likelihood, MixtureNoise):
            assert sampler.guides is not None
            noisy, clean = (torch.cat([t.flatten() for t in x]) for x in (sampler.inputs, sampler.guides))
            step = max(len(noisy) // FITTED_PIXELS, 1)
            likelihood.fit(noisy[::step].cpu(), clean[::step].cpu())
        elif normalization.noise:
            assert isinstance(likelihood, GaussianNoise)
            slope, intercept = normalization.noise_line()
            if likelihood.slope.numel() == 1:  # channels that are images of their own share one network
                slope, intercept = [sum(slope) / len(slope)], [sum(intercept) / len(intercept)]
            likelihood.set(torch.tensor(slope), torch.tensor(intercept))

    def losses(self, batch: Batch, rng: torch.Generator, used: float) -> Iterator[tuple[str, Tensor]]:
        """Yield the loss of the network."""
        warm = min(used / self.config.kl_warmup, 1.0) if self.config.kl_warmup else 1.0
        mean, drawn = self._draw(self.players["network"], batch, rng)
        reconstruction, divergences = self._reconstruction(batch, drawn), _divergences(drawn)
        loss = self._bound(batch, reconstruction, divergences, self.config.beta * warm)
        yield "network", loss + mse(mean.float(), drawn.image.detach().float(), batch.weight)
        self._watch(batch, reconstruction, divergences, used)

    def validation_loss(self, network: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        """Negative evidence lower bound of `network` on a held-out batch, in nats a pixel."""
        drawn = self._draw(network, batch, rng)[1]
        return self._bound(batch, self._reconstruction(batch, drawn), _divergences(drawn), self.config.beta)

    def _draw(self, network: nn.Module, batch: Batch, rng: torch.Generator) -> tuple[Tensor, Drawn]:
        def draw(level: int, shape: torch.Size) -> Tensor:
            return torch.randn(shape, generator=rng).to(batch.input.device)

        answer: tuple[Tensor, Drawn] = network(batch.input, batch.guide, drawing(draw))
        return answer

    def _reconstruction(self, batch: Batch, drawn: Drawn) -> Tensor:
        """Negative log-likelihood of what was observed, in nats a pixel."""
        likelihood: Any = self.players["network"].likelihood
        clean = drawn.image.float()
        nll: Tensor = likelihood.nll(batch.input, clean)
        if batch.guide is not None:
            error = self.config.guide_error**2 * likelihood.variance(clean).detach()
            nll = nll + 0.5 * (clean - batch.guide).square() / error
        weight = torch.ones_like(nll) if batch.weight is None else batch.weight.expand_as(nll)
        return (nll * weight).sum() / weight.sum().clamp_min(1.0)

    def _bound(self, batch: Batch, reconstruction: Tensor, divergences: list[Tensor], beta: float) -> Tensor:
        carried = [with_free_nats(d, self.config.free_bits) / batch.input[0].numel() for d in divergences]
        return reconstruction + beta * torch.stack(carried).sum()

    @torch.no_grad()
    def _watch(self, batch: Batch, reconstruction: Tensor, divergences: list[Tensor], used: float) -> None:
        """Note what the loss is made of, and whether the latents still tell of the image."""
        pixels = batch.input[0].numel()
        carried = [float(d.mean()) / pixels for d in divergences]
        self.values = {"reconstruction": float(reconstruction)}
        self.values |= {f"KL {i + self.config.unconditional}": c for i, c in enumerate(carried)}
        collapsed = used > JUDGED_FROM and sum(carried) < COLLAPSED
        self.warning = (
            "The latents tell next to nothing of the image (posterior collapse): the samples will all be alike. "
            "Lower beta, or raise free_bits or kl_warmup."
            if collapsed
            else ""
        )


def _divergences(drawn: Drawn) -> list[Tensor]:
    """Divergence of each patch, (N,) nats, at each level that sees the image; the finest first."""
    return [
        kl_divergence(*latent.posterior, *latent.prior).flatten(1).sum(1)
        for latent in drawn.latents
        if latent.posterior is not None
    ]
