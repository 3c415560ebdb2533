"""Make images from the prior of a VAE, tile by tile."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_recon.checkpoint import TrainedModel
from napari_recon.device import choose_device
from napari_recon.errors import ReconError
from napari_recon.inference.latent_noise import latent_noise
from napari_recon.inference.sampling import place_draw
from napari_recon.inference.tiling import Tile, padded_shape, plan_tiles
from napari_recon.models._latent import Gaussian
from napari_recon.progress import CancelToken, Reporter

TILE = {2: 512, 3: 64}  # side, by the number of spatial axes


@torch.inference_mode()
def generate_pixels(
    model: TrainedModel,
    sides: tuple[int, ...],
    count: int,
    channel: int,
    temperature: float,
    noise: bool,
    seed: int,
    device: str,
    reporter: Reporter,
    cancel: CancelToken,
) -> NDArray[np.float32]:
    """See `napari_recon.generate`."""
    spec, normalization = model.spec, model.normalization
    assert normalization is not None
    if not 0 <= channel < normalization.channels:
        raise ReconError(f"{model.name} has no channel {channel}.", f"It has {normalization.channels}, from 0.")
    place = choose_device(device)
    network: Any = model.network(place)
    padded = padded_shape(sides, spec.size_multiple)
    rng = np.random.default_rng(seed)
    try:
        made: Any = np.empty((count, spec.channels, *sides), np.float32)
    except MemoryError as error:
        raise ReconError("The images do not fit into memory.", "Make fewer, or smaller ones.") from error
    for number in range(count):
        for tile in plan_tiles(padded, TILE[len(sides)], spec.receptive_field, spec.size_multiple):
            cancel.raise_if_cancelled()
            pixels: Any = _decode(network, seed, number, tile, temperature, place)
            kept = tuple(slice(s.start, min(s.stop, n)) for s, n in zip(tile.write, sides, strict=True))
            own = (slice(c.start, c.start + k.stop - k.start) for c, k in zip(tile.crop, kept, strict=True))
            pixels = pixels[(slice(None), *own)]
            first = channel if spec.channels == 1 else 0
            values = [normalization.inverse(p, first + c) for c, p in enumerate(pixels)]
            if noise and normalization.noise:
                values = [normalization.noise[first + c].simulate(v, rng) for c, v in enumerate(values)]
            made[(number, slice(None), *kept)] = np.stack(values)
        reporter.update(number + 1)
    images: NDArray[np.float32] = made[:, 0] if spec.channels == 1 else made
    return images


def _decode(network: Any, seed: int, number: int, tile: Tile, temperature: float, place: torch.device) -> Any:
    """Pixels (C, *sides) of what a tile reads; the coarsest latents from the fitted field, others from the prior."""
    start, read = [s.start for s in tile.read], [s.stop - s.start for s in tile.read]
    shrink, top, reach = 2**network.halvings, network.levels - 1, network.field.reach
    corner, sides = [s // shrink for s in start], [n // shrink for n in read]
    white = latent_noise(seed, (0, number, top), corner, [n + 2 * reach for n in sides], 2 * network.latents)
    coarsest = network.field(temperature * torch.from_numpy(white)[None].to(place))
    draw = place_draw(seed, [number], [0], start, read[0], place, temperature)

    def choose(level: int, posterior: Gaussian | None, prior: Gaussian) -> Tensor:
        return coarsest if level == top else prior.reparameterize(draw(level, prior.mean.shape))

    clean = network.decode(None, choose, torch.Size([1, *sides])).image
    return clean.float().cpu().numpy()[0]
