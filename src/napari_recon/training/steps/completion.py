"""One training step of the completion family: hide known pixels, and fill them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from napari_recon.data.holes import MovedHoles, draw_holes
from napari_recon.data.normalization import Normalization
from napari_recon.data.patches import Batch, PatchSampler
from napari_recon.errors import ReconError
from napari_recon.losses import LOSSES
from napari_recon.losses.adversarial import ADVERSARIAL
from napari_recon.models import ModelSpec
from napari_recon.models.completion import CompletionConfig, spec
from napari_recon.models.discriminators import UNetDiscriminator

DISCRIMINATOR_FEATURES = 16


class CompletionStep:
    """See `Step`. Pixels that are no numbers are holes of the image itself, never known and never learned from."""

    stabilised = False
    rotations = True
    warning = ""

    def __init__(self, config: CompletionConfig, network: nn.Module, has_target: bool) -> None:
        if has_target:
            raise ReconError("A completion learns from the rest of the image alone.", "Leave the target out.")
        self.config = config
        self.plays = config.adversarial_weight > 0
        self.keeps_best = not self.plays  # the distance alone says nothing of the texture
        self.players: dict[str, nn.Module] = {"network": network}
        if self.plays:
            self.players["discriminator"] = UNetDiscriminator(config.channels, DISCRIMINATOR_FEATURES)
        self.values: dict[str, float] = {}
        self.record: dict[str, Any] = {}
        self._own: MovedHoles | None = None
        self._loss = LOSSES[config.loss]
        self._game = ADVERSARIAL[config.adversarial]

    def least_gain(self, start: float) -> float:
        """Any gain counts."""
        return 0.0

    def use(self, normalization: Normalization, sampler: PatchSampler) -> None:
        """Take over the holes that the images have, to train on holes like them."""
        check_width(min(min(x.shape[2:]) for x in sampler.inputs), spec(self.config))
        if self.config.holes == "auto" and sampler.weights is not None:
            maps = [plane[0] == 0 for weight in sampler.weights for plane in weight]
            maps = [m for m in maps if m.any() and not m.all()]
            self._own = MovedHoles(maps) if maps else None
        self.record = {"holes": "own" if self._own else "mixed" if self.config.holes == "auto" else self.config.holes}

    def losses(self, batch: Batch, rng: torch.Generator, used: float) -> Iterator[tuple[str, Tensor]]:
        """Yield the loss of the discriminator where there is one, and that of the network."""
        known, visible = self._hide(batch, rng)
        hidden = known - visible
        answer = self.players["network"](batch.input * visible, visible)
        distance = self._loss(answer, batch.input, hidden)
        if not self.plays:
            yield "network", distance
            return
        # Both images are alike but in what was hidden; what was never known is filled in both.
        filled = torch.where(visible > 0, batch.input, answer)
        real = torch.where(known > 0, batch.input, answer.detach())
        at = hidden.amax(dim=1, keepdim=True) > 0
        judge = self.players["discriminator"]
        if at.any():
            yield "discriminator", self._game.discriminator(judge(real)[0][at], judge(filled.detach())[0][at])
            adversarial = self._game.generator(judge(real)[0].detach()[at], judge(filled)[0][at])
            self.values = {"distance": float(distance.detach()), "adversarial": float(adversarial.detach())}
            distance = distance + self.config.adversarial_weight * adversarial
        yield "network", distance

    def validation_loss(self, network: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        """Distance in the holes of a held-out batch."""
        known, visible = self._hide(batch, rng)
        return self._loss(network(batch.input * visible, visible), batch.input, known - visible)

    def _hide(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """What is known of a batch, and what is left of it to see: 1 or 0, of its shape."""
        x, config = batch.input, self.config
        known = torch.ones_like(x) if batch.weight is None else batch.weight.expand_as(x)
        sides, kind = x.shape[2:], "mixed" if config.holes == "auto" else config.holes
        holes = [
            self._own.draw(sides, config.hole_share / 2, rng)
            if self._own is not None
            else draw_holes(sides, kind, config.hole_share, config.hole_size, rng)
            for _ in range(len(x))
        ]
        return known, known * (~torch.stack(holes)[:, None]).to(x)


def check_width(side: int, spec: ModelSpec) -> None:
    """Raise for an image whose shortest side is less than what a network looks at."""
    if side < spec.receptive_field:
        raise ReconError(
            f"The image is {side} pixels wide on its shortest side; this network looks {spec.receptive_field} far.",
            "Use a larger image, or train with a smaller depth.",
        )
