"""One training step of the autoencoder family: blind spots, pairs, or reconstruction."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_recon.data.masking import hide_pixels
from napari_recon.data.noise_estimate import CORRELATED
from napari_recon.data.noise_simulation import correlated_noise
from napari_recon.data.normalization import Normalization
from napari_recon.data.patches import Batch, PatchSampler
from napari_recon.errors import ReconError
from napari_recon.losses import LOSSES
from napari_recon.models.autoencoder import AutoencoderConfig

RECORRUPTION = 0.5  # share of extra noise in the score of noise-aware networks
CLEAR_GAIN = 0.05  # of the noise variance; smaller gains of that score went with losses against the truth


def objective(config: AutoencoderConfig, has_target: bool) -> str:
    """Decide how to learn: the config's choice, or what the data allow when it says ``"auto"``."""
    if config.objective == "pairs" and not has_target:
        raise ReconError("Learning from pairs needs a target.", "Give one, or learn by blind_spot.")
    if config.objective != "auto":
        return config.objective
    if has_target:
        return "pairs"
    return "reconstruction" if config.network == "bottleneck" else "blind_spot"


class AutoencoderStep:
    """See `Step`.

    The blind-spot loss is too noisy to tell a better network from a worse one, so the last average is kept. A
    noise-aware network can be scored without truth: add noise a*n, predict y - n/a, whose own noise is then
    independent (Pang et al., "Recorrupted-to-Recorrupted", CVPR 2021). It is also scored before its first step, so
    that adapting a good network never makes it worse by that score.
    """

    def __init__(self, config: AutoencoderConfig, network: nn.Module, has_target: bool) -> None:
        self.config = config
        self.objective = objective(config, has_target)
        blind = self.objective == "blind_spot"
        self.recorrupted = blind and config.network == "universal"
        self.keeps_best = not blind or self.recorrupted
        self.stabilised = blind if config.normalization == "auto" else config.normalization == "stabilised"
        self.mask_axis = "none" if config.mask_axis == "auto" else config.mask_axis
        self.noise = (1.0, 0.0, 0.0)
        self.players: dict[str, nn.Module] = {"network": network}
        self.values: dict[str, float] = {}
        self.record: dict[str, Any] = {}
        self.warning = ""
        self._loss = LOSSES[config.loss]

    @property
    def rotations(self) -> bool:
        """Transposing patches would turn a mask, or a correlation, that has a direction."""
        return self.mask_axis in ("none", "both") and abs(self.noise[1] - self.noise[2]) < CORRELATED * self.noise[0]

    def least_gain(self, start: float) -> float:
        """A clear gain for the score without truth; none is enough where that score cannot be trusted.

        It presumes noise of unit variance, of which a good network leaves a score near 1. A score well below 1 tells
        that the held-out noise is weaker than measured, as where blacks are clipped; then it favours whoever leaves
        noise in.
        """
        if not self.recorrupted:
            return 0.0
        return CLEAR_GAIN if start > 0.95 * self.noise[0] ** 2 else math.inf

    def use(self, normalization: Normalization, sampler: PatchSampler) -> None:
        """Take the noise of the data: what a noise-aware network is told, and along which axes to hide neighbours."""
        if not normalization.noise:
            return
        levels = np.mean([normalization.noise_level(c) for c in range(normalization.channels)], axis=0)
        self.noise = (float(levels[0]), float(levels[1]), float(levels[2]))
        if self.config.mask_axis == "auto":
            # The mask of the channel whose neighbours share most.
            self.mask_axis = max(normalization.noise, key=lambda n: max(n.correlation)).mask_axis

    def losses(self, batch: Batch, rng: torch.Generator, used: float) -> Iterator[tuple[str, Tensor]]:
        """Yield the loss of the network."""
        yield "network", self._compute(self.players["network"], batch, rng)

    def validation_loss(self, network: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        """Loss on a held-out batch."""
        if not self.recorrupted:
            return self._compute(network, batch, rng)
        extra = self._noise_like(batch.input, rng)
        told = self._told(batch.input, math.sqrt(1 + RECORRUPTION**2))
        prediction = network(batch.input + RECORRUPTION * extra, told)
        # The target's own noise is known, so its share is left out: what remains is near 1, like the training loss.
        score = (prediction - batch.input + extra / RECORRUPTION).square() - (extra / RECORRUPTION).square()
        weight = torch.ones_like(score) if batch.weight is None else batch.weight.expand_as(score)
        mean: Tensor = (score * weight).sum() / weight.sum().clamp_min(1.0)
        return mean

    def _compute(self, network: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        if self.objective != "blind_spot":
            target = batch.input if self.objective == "reconstruction" else batch.target
            assert target is not None
            return self._loss(self._apply(network, batch.input), target, batch.weight)
        hidden, mask = hide_pixels(
            batch.input,
            rng,
            fraction=self.config.mask_fraction,
            axis=self.mask_axis,
            reach=self.config.mask_length,
        )
        if self.config.network != "unet":
            counts = mask if batch.weight is None else mask * batch.weight
            return self._loss(self._apply(network, hidden), batch.input, counts)
        # Only the hidden pixels count, so only they are computed.
        where = mask.nonzero()
        at = torch.cat([where[:, :1], where[:, 2:]], dim=1)
        answer = network(hidden, at).gather(1, where[:, 1:2])[:, 0]
        places = where.unbind(1)
        weight = None if batch.weight is None else batch.weight.expand_as(mask)[places]
        return self._loss(answer, batch.input[places], weight)

    def _apply(self, network: nn.Module, x: Tensor) -> Tensor:
        answer: Tensor = network(x, self._told(x)) if self.config.network == "universal" else network(x)
        return answer

    def _told(self, x: Tensor, factor: float = 1.0) -> Tensor:
        return factor * x.new_tensor([self.noise]).expand(len(x), 3)

    def _noise_like(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Noise of the strength and correlation of the data's."""
        sigma = self.noise[0]
        # Gaussian-blurred noise of lag-1 correlation r was blurred by sqrt(-1 / (4 ln r)) pixels.
        blur = [math.sqrt(-0.25 / math.log(r)) if (r := level / sigma) > 0.02 else 0.0 for level in self.noise[1:]]
        shape = (x.shape[0] * x.shape[1], 1, *x.shape[2:])
        blurs = torch.tensor([blur]).expand(shape[0], 2)
        noise = correlated_noise(shape, blurs, torch.zeros(shape[0], 2), rng)
        return sigma * noise.reshape(x.shape).to(x.device)
