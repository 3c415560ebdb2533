"""One training step of the GAN family: first faithful to the truth, then sharp against a discriminator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_recon.data.degradation import shot_and_read_noise
from napari_recon.data.normalization import Normalization
from napari_recon.data.patches import Batch, PatchSampler
from napari_recon.errors import ReconError
from napari_recon.losses import LOSSES
from napari_recon.losses.adversarial import ADVERSARIAL, feature_matching
from napari_recon.losses.structural import ms_ssim
from napari_recon.models.discriminators import Critic
from napari_recon.models.gan import GANConfig
from napari_recon.models.generators import Upscaler
from napari_recon.training.optics import optics_of

MEMORY = 0.98  # of the running means
SURE = 0.95  # D(real) above this with D(fake) below 1 - SURE: the discriminator has won and pauses
WORSE = 1.1  # times the consistency of the faithful weights: the perceptual ones go halfway back to them
DISCRIMINATOR_FEATURES = 24


class GANStep:
    """See `Step`. Learns from high-resolution images alone, their low-resolution side simulated; or from pairs.

    The perceptual weights are differences from the faithful ones, so halving them is a way back that needs no copy:
    it ends at weights known to be sound.
    """

    keeps_best: bool
    stabilised = False
    rotations = True

    def __init__(self, config: GANConfig, network: nn.Module, has_target: bool) -> None:
        assert isinstance(network, Upscaler)
        self.config, self.optics = config, optics_of(config)
        # The loss of the faithful weights says nothing of the perceptual ones, which must be the last.
        self.keeps_best = not config.perceptual
        self.players: dict[str, nn.Module] = {"network": network}
        self._upscaler = network
        if config.perceptual:
            self._critic = Critic(config.discriminator, config.channels, DISCRIMINATOR_FEATURES)
            self.players["discriminator"] = self._critic
        self.values: dict[str, float] = {}
        self.record: dict[str, Any] = {"psf": [list(line) for line in self.optics.kernel]} if config.psf_file else {}
        self.warning = ""
        self._loss = ms_ssim if config.loss == "ms_ssim" else LOSSES[config.loss]
        self._game = ADVERSARIAL[config.adversarial]
        self._contrast = 1.0

    def least_gain(self, start: float) -> float:
        """Any gain counts."""
        return 0.0

    def use(self, normalization: Normalization, sampler: PatchSampler) -> None:
        """Take over how bright the images are, which their shot noise depends on."""
        means, stds = np.mean(normalization.mean), np.mean(normalization.std)
        if self.config.photons is not None and means <= 0:
            raise ReconError(
                "Images whose mean is not above zero have no photons to count.", "Leave photons out, or add an offset."
            )
        self._contrast = float(stds / means) if means > 0 else 1.0

    def losses(self, batch: Batch, rng: torch.Generator, used: float) -> Iterator[tuple[str, Tensor]]:
        """Yield the loss of the generator, in the perceptual stage after that of the discriminator."""
        high, clean = self._pair(batch)
        low, weight = self._noisy(clean, rng, batch), batch.weight
        if not self.config.perceptual or used < self.config.fidelity_share:
            result = self.players["network"](low)
            if self.config.perceptual:
                self._note("faithful", self._inconsistency(result.detach(), clean))
            yield "network", self._loss(result, high, weight)
            return
        result = self.players["network"](low, 0.0)
        real, fake = self.players["discriminator"](high)[0], self.players["discriminator"](result.detach())[0]
        self._note("real", torch.sigmoid(real.detach()).mean())
        self._note("fake", torch.sigmoid(fake.detach()).mean())
        if not (self._critic.real > SURE and self._critic.fake < 1 - SURE):
            loss = self._game.discriminator(real, fake)
            self.values["discriminator"] = float(loss.detach())
            yield "discriminator", loss
        yield "network", self._perceptual_loss(high, clean, result, weight)
        self._fall_back()

    def validation_loss(self, network: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        """Loss of the faithful weights on a held-out batch."""
        high, clean = self._pair(batch)
        return self._loss(network(self._noisy(clean, rng, batch)), high, batch.weight)

    def _perceptual_loss(self, high: Tensor, clean: Tensor, result: Tensor, weight: Tensor | None) -> Tensor:
        config = self.config
        real, real_features = self.players["discriminator"](high)
        fake, fake_features = self.players["discriminator"](result)
        inconsistency = self._inconsistency(result, clean)
        self._note("perceptual", inconsistency.detach())
        adversarial = self._game.generator(real.detach(), fake)
        self.values["generator"] = float(adversarial.detach())
        return (
            self._loss(result, high, weight)
            + config.adversarial_weight * adversarial
            + config.feature_weight * feature_matching(real_features, fake_features)
            + config.consistency_weight * inconsistency
        )

    def _fall_back(self) -> None:
        """Go halfway back to the faithful weights when the perceptual ones no longer agree with the input."""
        critic = self._critic
        self.values |= {"D(real)": float(critic.real), "D(fake)": float(critic.fake)}
        self.values["consistency"] = float(critic.perceptual)
        if critic.perceptual <= WORSE * critic.faithful:
            return
        assert self._upscaler.difference is not None
        with torch.no_grad():
            for p in self._upscaler.difference.parameters():
                p.mul_(0.5)
        critic.perceptual.copy_(critic.faithful)
        self.warning = "the sharp weights disagreed with the input and were taken halfway back to the faithful ones"

    def _inconsistency(self, result: Tensor, clean: Tensor) -> Tensor:
        return (self.optics.expected(result) - clean).abs().mean()

    def _note(self, name: str, value: Tensor) -> None:
        """Update a running mean, which begins with the first value."""
        mean: Tensor = getattr(self._critic, name)
        begun = name in ("real", "fake") or mean > 0
        mean.lerp_(value.to(mean), 1 - MEMORY if begun else 1.0)

    def _pair(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """High resolution, and low resolution before the simulated noise."""
        if batch.target is None:
            return batch.input, self.optics.expected(batch.input)
        scale = self.config.scale
        return batch.target, batch.input[..., ::scale, ::scale]  # recorded pixels, each repeated

    def _noisy(self, clean: Tensor, rng: torch.Generator, batch: Batch) -> Tensor:
        """What the camera makes of it: photons are counted in units of the mean intensity."""
        if self.config.photons is None or batch.target is not None:
            return clean
        # On the CPU, where the generator is: the same noise on every device.
        counted = clean.cpu() * self._contrast + 1
        noisy = shot_and_read_noise(counted, self.config.photons, self.config.read_noise, rng)
        return ((noisy - 1) / self._contrast).to(clean)
