"""Make images from the prior of a VAE, tile by tile."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_recon.checkpoint import TrainedModel
from napari_recon.device import choose_device
from napari_recon.errors import ReconError
from napari_recon.inference.sampling import place_draw
from napari_recon.inference.tiling import padded_shape, plan_tiles
from napari_recon.models._latent import drawing
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
            read = [s.stop - s.start for s in tile.read]
            draw = place_draw(seed, [number], [0], [s.start for s in tile.read], read[0], place, temperature)
            coarsest = torch.Size([1, *(n // 2**network.halvings for n in read)])
            clean = network.decode(None, drawing(draw), coarsest).image.float()
            pixels: Any = clean.cpu().numpy()[0]
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
