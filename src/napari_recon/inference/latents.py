"""Change the latents of images, tile by tile, and see what becomes of the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_recon.checkpoint import TrainedModel
from napari_recon.image import Image
from napari_recon.inference.runner import TileRunner
from napari_recon.inference.seen import Seen
from napari_recon.models._latent import Choose, Gaussian, Latent, likeliest

Change = Callable[[list[list[Latent]]], list[list[Tensor]]]
"""From the latents of each image to those of each output; of every image one for each level, the finest first."""


class LatentRunner(TileRunner):
    """One run over one or two images, each coded by the means of its latents.

    Parameters
    ----------
    images : sequence of Image
        Of one shape; the axes and pixels that are not finite are those of the first.
    guides : sequence of array
        The universal denoiser's answer to each, for a guided model.
    change : Change
        Gives the latents of `outputs` new images.
    """

    def __init__(
        self,
        model: TrainedModel,
        images: Sequence[Image],
        guides: Sequence[Any],
        change: Change,
        outputs: int,
        device: str,
    ) -> None:
        companions = [*(i.array for i in images[1:]), *guides]
        super().__init__(model, images[0], 1.0, None, companions, None, None, device, "float32")
        self.count, self.change, self.outputs = len(images), change, outputs

    @torch.inference_mode()
    def _restore(self, seen: Seen) -> NDArray[np.float32]:
        network: Any = self.model.network(self.device)
        images = [self._tensor(x) for x in (seen.normal, *seen.companions)]
        guides: list[Any] = images[self.count :] or [None] * self.count
        coded = []
        for image, guide in zip(images[: self.count], guides, strict=True):
            coded.append(network.decode(network.encode(image, guide), likeliest).latents)
        made = []
        for latents in self.change(coded):
            shape = torch.Size([latents[-1].shape[0], *latents[-1].shape[2:]])
            made.append(network.decode(None, fixed(latents), shape).image.float().cpu().numpy())
        return self._in_units(np.stack(made), seen)


def fixed(latents: Sequence[Tensor]) -> Choose:
    """Choose given latents, the finest level first."""

    def choose(level: int, posterior: Gaussian | None, prior: Gaussian) -> Tensor:
        return latents[level]

    return choose
