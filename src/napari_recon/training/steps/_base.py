"""What the training loop asks of a family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from napari_recon.data.normalization import Normalization
from napari_recon.data.patches import Batch, PatchSampler


class Step(Protocol):
    """One family's part of training.

    A family with several players (a generator and its discriminator) yields one loss for each, in turn; the loop
    updates that player before it asks for the next.
    """

    players: dict[str, nn.Module]  # the one named "network" is averaged and kept
    keeps_best: bool  # whether a lower validation loss means a better model
    stabilised: bool  # whether to learn on images whose noise was made equally strong everywhere
    values: dict[str, float]  # numbers of the last step to show beside the loss, such as the divergence of each level
    record: dict[str, Any]  # what the model is to keep of it beside its config, as JSON types
    warning: str  # what the user should know of the training as it goes, empty when all is well

    def __init__(self, config: Any, network: nn.Module, has_target: bool) -> None:
        """Take the family's config, its network, and whether there are targets."""
        ...

    @property
    def rotations(self) -> bool:
        """Whether patches may be transposed; known after `use`."""
        ...

    def least_gain(self, start: float) -> float:
        """Drop of the validation loss below that of the start for which the start is given up."""
        ...

    def use(self, normalization: Normalization, sampler: PatchSampler) -> None:
        """Take what was measured on the data, such as their noise, before the first batch."""
        ...

    def losses(self, batch: Batch, rng: torch.Generator, used: float) -> Iterator[tuple[str, Tensor]]:
        """Yield (player, loss) for one batch.

        All randomness comes from `rng`, a CPU generator; `used` is the share of the budget that is used, 0 to 1.
        """
        ...

    def validation_loss(self, network: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        """Loss of `network` on a held-out batch."""
        ...
