"""One training step of the autoencoder family: blind spots, pairs, or reconstruction."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from napari_recon.data.masking import hide_pixels
from napari_recon.data.patches import Batch
from napari_recon.errors import ReconError
from napari_recon.losses import LOSSES
from napari_recon.models.autoencoder import AutoencoderConfig


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
    """See `Step`. Blind-spot validation is too noisy to stop early by, so the last average is kept then."""

    def __init__(self, config: AutoencoderConfig, network: nn.Module, has_target: bool) -> None:
        self.config = config
        self.objective = objective(config, has_target)
        blind = self.objective == "blind_spot"
        self.keeps_best = not blind
        self.stabilised = blind if config.normalization == "auto" else config.normalization == "stabilised"
        self.rotations = config.mask_axis == "none" or not blind
        self.players: dict[str, nn.Module] = {"network": network}
        self._loss = LOSSES[config.loss]

    def losses(self, batch: Batch, rng: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        """Yield the loss of the network."""
        yield "network", self._compute(self.players["network"], batch, rng)

    def validation_loss(self, network: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        """Loss on a held-out batch, by the same objective."""
        return self._compute(network, batch, rng)

    def _compute(self, network: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        if self.objective == "blind_spot":
            hidden, mask = hide_pixels(
                batch.input,
                rng,
                fraction=self.config.mask_fraction,
                axis=self.config.mask_axis,
                reach=self.config.mask_length,
            )
            weight = mask if batch.weight is None else mask * batch.weight
            return self._loss(network(hidden), batch.input, weight)
        target = batch.input if self.objective == "reconstruction" else batch.target
        assert target is not None
        return self._loss(network(batch.input), target, batch.weight)
