"""One training step of the texture family: statistics of neighbourhoods, and a game against a discriminator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_recon.data.normalization import Normalization
from napari_recon.data.patches import Batch, PatchSampler
from napari_recon.errors import ReconError
from napari_recon.losses.adversarial import ADVERSARIAL
from napari_recon.losses.texture import feature_distance, log_spectrum, patch_distance
from napari_recon.models.discriminators import TextureDiscriminator
from napari_recon.models.texture import TextureConfig, spec

DISCRIMINATOR_FEATURES = 24
LOOKED_AT = 8  # batches of 16 patches that tell the spectrum of the data


class TextureStep:
    """See `Step`. Learns from patches of images; what it makes has no partner among them."""

    keeps_best = False  # the statistics are noisy, and say little of the game
    stabilised = False
    rotations = False  # a texture can have a direction
    warning = ""

    def __init__(self, config: TextureConfig, network: nn.Module, has_target: bool) -> None:
        if has_target:
            raise ReconError("A texture is learned from images alone.", "Leave the target out.")
        self.config = config
        self.plays = config.adversarial_weight > 0
        self.players: dict[str, nn.Module] = {"network": network}
        if self.plays:
            self.players["discriminator"] = TextureDiscriminator(config.channels, DISCRIMINATOR_FEATURES, config.levels)
        self.values: dict[str, float] = {}
        self.record: dict[str, Any] = {}
        self._game = ADVERSARIAL[config.adversarial]
        self._spectrum: Tensor | None = None

    def least_gain(self, start: float) -> float:
        """Any gain counts."""
        return 0.0

    def use(self, normalization: Normalization, sampler: PatchSampler) -> None:
        """Have patches drawn from everywhere as they are, and measure their spectrum."""
        reach = spec(self.config).receptive_field
        narrowest = min(min(x.shape[2:]) for x in sampler.inputs)
        if narrowest < reach:
            raise ReconError(
                f"The image is {narrowest} pixels wide on its shortest side; this network makes structures of {reach}.",
                "Use a larger image, or fewer levels.",
            )
        sampler.draw_evenly()
        rng = torch.Generator().manual_seed(0)
        patches = torch.cat([sampler.draw(16, rng).input for _ in range(LOOKED_AT)])
        self._spectrum = log_spectrum(patches)

    def losses(self, batch: Batch, rng: torch.Generator, used: float) -> Iterator[tuple[str, Tensor]]:
        """Yield the loss of the discriminator where there is one, and that of the network."""
        real = batch.input
        fake = self.players["network"](self._noise(real, rng))
        with torch.autocast(fake.device.type, enabled=False):  # rough numbers have other statistics
            statistics = self._statistics(real, fake.float(), rng)
        if self.plays:
            judge = self.players["discriminator"]
            yield "discriminator", self._game.discriminator(judge(real)[0], judge(fake.detach())[0])
            (real_logits, real_features), (logits, features) = judge(real), judge(fake)
            adversarial = self._game.generator(real_logits.detach(), logits)
            alike = feature_distance(real_features, features, rng)
            self.values = {"statistics": float(statistics.detach()), "adversarial": float(adversarial.detach())}
            statistics = statistics + self.config.adversarial_weight * adversarial + self.config.feature_weight * alike
        yield "network", statistics

    def validation_loss(self, network: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        """Distance of the statistics from those of a held-out batch."""
        real = batch.input
        fake = network(self._noise(real, rng))
        with torch.autocast(fake.device.type, enabled=False):
            return patch_distance(real, fake.float(), self.config.levels, rng)

    def _noise(self, like: Tensor, rng: torch.Generator) -> Tensor:
        return torch.randn(like.shape, generator=rng).to(like)

    def _statistics(self, real: Tensor, fake: Tensor, rng: torch.Generator) -> Tensor:
        config = self.config
        loss = fake.new_zeros(())
        if config.patch_weight:
            loss = loss + config.patch_weight * patch_distance(real, fake, config.levels, rng)
        if config.spectrum_weight:
            assert self._spectrum is not None
            loss = loss + config.spectrum_weight * F.l1_loss(log_spectrum(fake), self._spectrum)
        return loss
