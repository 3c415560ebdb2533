"""Fill the holes of an image, tile by tile."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_recon.axes import to_batch
from napari_recon.checkpoint import TrainedModel
from napari_recon.data.float32 import as_float32
from napari_recon.image import Image
from napari_recon.inference.runner import Job, TileRunner
from napari_recon.inference.seen import EVERY, Seen


def with_holes(image: Image, holes: NDArray[np.bool_]) -> Image:
    """Make an image of float32 pixels that are no numbers in the holes."""
    pixels = as_float32(image.array).copy()
    pixels[holes] = np.nan
    return image.with_array(pixels)


class CompletionRunner(TileRunner):
    """One run over one image; only what is in a hole means anything in the result.

    Parameters
    ----------
    model : TrainedModel
        Of the completion family.
    image : Image
        As `with_holes` makes it: pixels that are no numbers are not known.
    holes : numpy.ndarray
        bool, of the shape of the image: what to fill.
    tile_size, device, precision
        See `napari_recon.inference.predict.predict`.
    """

    missing_note = ""  # they are what is filled

    def __init__(
        self,
        model: TrainedModel,
        image: Image,
        holes: NDArray[np.bool_],
        *,
        tile_size: int | None,
        device: str,
        precision: str,
    ) -> None:
        super().__init__(model, image, 1.0, None, (), tile_size, None, device, precision)
        self.holes = to_batch(holes, image.axes, self.spec.axes)

    def compute(self, job: Job) -> NDArray[np.float32]:
        """Do one job; where there is no hole there is nothing to do."""
        place = self.place(job)
        if not self.holes[place].any():
            return np.zeros((1, *self.holes[place].shape), np.float32)
        seen = self._read(job.unit, job.tile)
        own = (slice(p.start - s, p.stop - s) for p, s in zip(place[2:], seen.start, strict=True))
        return self._in_units(self._network(seen)[None], seen)[(slice(None), *EVERY, *own)]

    @torch.inference_mode()
    def _forward(self, seen: Seen, dtype: torch.dtype) -> Tensor:
        network = self.model.network(self.device)
        padding = [(0, a - b) for a, b in zip(seen.normal.shape, seen.missing.shape, strict=True)]
        known = np.pad(~seen.missing, padding, mode="symmetric").astype(np.float32)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            answer: Tensor = network(self._tensor(seen.normal), self._tensor(known))
        return answer.float().cpu()
