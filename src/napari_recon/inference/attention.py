"""Which regions drove a network's answer: the mean of its attention gates, tile by tile."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_recon.checkpoint import TrainedModel
from napari_recon.image import Image
from napari_recon.inference.runner import TileRunner
from napari_recon.inference.seen import EVERY, Seen
from napari_recon.inference.tiling import Tile
from napari_recon.models._gates import mean_gate, watched_gates


class AttentionRunner(TileRunner):
    """One run over one image whose output is the mean gate of each pixel, 0 to 1.

    Parameters
    ----------
    model, image, tile_size, tile_overlap, device, precision
        See `napari_recon.inference.predict.predict`. The model has gates.
    """

    def __init__(
        self,
        model: TrainedModel,
        image: Image,
        *,
        tile_size: int | None,
        tile_overlap: int | None,
        device: str,
        precision: str,
    ) -> None:
        super().__init__(model, image, 1.0, None, [], tile_size, tile_overlap, device, precision)

    def _read(self, unit: tuple[slice, slice], tile: Tile) -> Seen:
        """As for a prediction, but a pixel that is missing has a gate all the same."""
        seen = super()._read(unit, tile)
        return seen._replace(missing=np.zeros_like(seen.missing))

    def _forward(self, seen: Seen, dtype: torch.dtype) -> Tensor:
        """Run the network; instead of its answer, its gates in the shape of the answer."""
        with watched_gates(self.model.network(self.device)) as gates:
            answer = super()._forward(seen, dtype)
        # Channels that are taken together share their gates.
        return mean_gate(gates, answer.shape[2:]).cpu().expand_as(answer)

    def _in_units(self, answer: NDArray[np.float32], seen: Seen) -> NDArray[np.float32]:
        """Crop to what was read; gates have no intensities."""
        return answer[(slice(None), *EVERY, *(slice(self.spec.scale * n) for n in seen.raw.shape[2:]))]
