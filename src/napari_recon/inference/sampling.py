"""Draw samples from the posterior of a VAE, tile by tile, and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_recon.checkpoint import TrainedModel
from napari_recon.errors import ReconError
from napari_recon.image import Image
from napari_recon.inference.latent_noise import latent_noise
from napari_recon.inference.runner import TileRunner
from napari_recon.inference.seen import Seen
from napari_recon.models._latent import Draw, drawing

OUTPUTS = ("samples", "mean", "median", "std", "variation")
TOGETHER = 2**18  # image pixels that go down through the network at once


class SampleRunner(TileRunner):
    """One run over one image that draws `count` samples of every tile.

    The noise of the latents belongs to places of the image, so that the tiles of a sample fit together.

    Parameters
    ----------
    model, image, guide, tile_size, device, precision
        See `napari_recon.inference.predict.predict`.
    count, seed : int
        How many samples, and which.
    wanted : sequence of str
        Some of `OUTPUTS`, in the order in which they are to come; ``"samples"`` stands for `count` of them.
    mean_of_samples : bool
        Whether the mean is that of the samples, instead of the answer of the direct head.
    spread : float
        What the deviations of the samples from the direct mean are multiplied by.
    """

    def __init__(
        self,
        model: TrainedModel,
        image: Image,
        *,
        guide: NDArray[np.float32] | None,
        count: int,
        seed: int,
        wanted: Sequence[str],
        mean_of_samples: bool,
        spread: float,
        tile_size: int | None,
        device: str,
        precision: str,
    ) -> None:
        companions = [guide] if guide is not None else []
        super().__init__(model, image, 1.0, None, companions, tile_size, None, device, precision)
        self.count, self.seed, self.wanted = count, seed, list(wanted)
        self.mean_of_samples, self.spread = mean_of_samples, spread
        self.outputs = sum(count if name == "samples" else 1 for name in wanted)
        self.pieces = count

    def _restore(self, seen: Seen) -> NDArray[np.float32]:
        """Make the wanted outputs, (outputs, *seen.raw.shape), in the units of the image."""
        mean = self._in_units(self._network(seen)[None], seen)[0]
        bias = self._bias(mean, seen)
        mean += bias
        if self.wanted == ["mean"] and not self.mean_of_samples:
            return np.stack([mean])
        drawn = self._in_units(self._samples(seen), seen) + bias
        # Samples of a network agree too well with each other: as far from the mean as the truth is, on average. The
        # direct mean, because a sample shall not depend on how many others are drawn.
        samples = mean + np.float32(self.spread) * (drawn - mean)
        made: list[NDArray[np.float32]] = []
        for name in self.wanted:
            if name == "samples":
                made.extend(samples)
            elif name == "mean":
                made.append(drawn.mean(axis=0) if self.mean_of_samples else mean)
            else:
                made.append(self._statistic(name, samples, seen))
        return np.stack(made)

    def _statistic(self, name: str, samples: NDArray[np.float32], seen: Seen) -> NDArray[np.float32]:
        if name == "median":
            return np.asarray(np.median(samples, axis=0), np.float32)
        std: NDArray[np.float32] = samples.std(axis=0, ddof=1)
        return std if name == "std" else std / self._signal(samples.mean(axis=0), seen)

    def _signal(self, mean: NDArray[np.float32], seen: Seen) -> NDArray[np.float32]:
        """Mean above the camera's offset, no less than the noise of a black pixel."""
        signal = np.abs(mean)
        for c in range(mean.shape[1]):
            if self.normalization.noise:
                noise = self.normalization.noise[seen.channel + c]
                black = max(noise.read_noise, 1e-6)
                signal[:, c] = np.maximum(mean[:, c] - noise.offset, black)
        return signal

    def _samples(self, seen: Seen) -> NDArray[np.float32]:
        """Draw samples, normalised: (count, planes, channels, *sides)."""
        for dtype in (self.dtype, torch.float32):
            samples = self._decode(seen, dtype)
            if np.isfinite(samples).all():
                return samples
        raise ReconError(
            "The model's samples are not finite.",
            "Its training went wrong, or it does not suit this image: try another.",
        )

    @torch.inference_mode()
    def _decode(self, seen: Seen, dtype: torch.dtype) -> NDArray[np.float32]:
        network: Any = self.model.network(self.device)
        guide = self._tensor(seen.companions[0]) if seen.companions else None
        drawn = []
        with torch.autocast(self.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            features = network.encode(self._tensor(seen.normal), guide)
            together = max(TOGETHER // int(np.prod((len(seen.normal), *seen.normal.shape[2:]))), 1)
            for first in range(0, self.count, together):
                self._tick(first)
                samples = range(first, min(first + together, self.count))
                repeated = [f.repeat(len(samples), *(1,) * (f.dim() - 1)) for f in features]
                image = network.decode(repeated, drawing(self._draw(seen, samples))).image
                drawn.append(image.float().cpu().reshape(len(samples), *seen.normal.shape))
        return torch.cat(drawn).numpy()

    def _draw(self, seen: Seen, samples: range) -> Draw:
        seed, device = self.seed, self.device
        # Channels that are images of their own have latents of their own.
        planes = [p * self.batch.shape[1] + seen.channel for p in seen.planes]
        return place_draw(seed, samples, planes, seen.start, seen.normal.shape[2], device)


def place_draw(
    seed: int,
    samples: Sequence[int],
    planes: Sequence[int],
    start: Sequence[int],
    side: int,
    device: torch.device,
    temperature: float = 1.0,
) -> Draw:
    """Make a function that draws the latent noise of a tile, for each sample of each plane.

    Parameters
    ----------
    samples, planes : sequence of int
        Numbers of the samples, and of the planes of each.
    start : sequence of int
        Where the tile begins, in pixels of the image.
    side : int
        First side of the tile in pixels; from it follows how much smaller a level is.
    temperature : float
        Standard deviation of the numbers.
    """

    def draw(level: int, shape: torch.Size) -> Tensor:
        latents, sides = shape[1], shape[2:]
        shrink = side // sides[0]
        corner = [s // shrink for s in start]
        fields = [latent_noise(seed, (p, s, level), corner, sides, latents) for s in samples for p in planes]
        return temperature * torch.from_numpy(np.stack(fields)).to(device)

    return draw
