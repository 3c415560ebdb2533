"""Make texture of any size, tile by tile."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_recon.checkpoint import TrainedModel
from napari_recon.device import choose_device
from napari_recon.errors import ReconError
from napari_recon.inference.tiling import padded_shape, plan_tiles
from napari_recon.progress import CancelToken, Reporter

TILE = 512  # side


@torch.inference_mode()
def texture_pixels(
    model: TrainedModel,
    sides: tuple[int, ...],
    count: int,
    channel: int,
    temperature: float,
    tileable: bool,
    seed: int,
    device: str,
    reporter: Reporter,
    cancel: CancelToken,
) -> NDArray[np.float32]:
    """See `napari_recon.generate`; with `tileable` the noise repeats, and so does the texture."""
    spec, normalization = model.spec, model.normalization
    assert normalization is not None
    if not 0 <= channel < normalization.channels:
        raise ReconError(f"{model.name} has no channel {channel}.", f"It has {normalization.channels}, from 0.")
    multiple, halo = spec.size_multiple, spec.receptive_field
    padded = padded_shape(sides, multiple)
    if tileable and padded != sides:
        raise ReconError(
            f"A seamless texture of {model.name} cannot be {' x '.join(map(str, sides))} pixels.",
            f"Use multiples of {multiple}, such as {' x '.join(map(str, padded))}.",
        )
    place = choose_device(device)
    network: Any = model.network(place)
    try:
        made: Any = np.empty((count, spec.channels, *sides), np.float32)
        for number in range(count):
            noise = _noise((seed, number), spec.channels, padded, halo, tileable)
            for tile in plan_tiles(padded, TILE, 0, multiple):
                cancel.raise_if_cancelled()
                around = (slice(s.start, s.stop + 2 * halo) for s in tile.write)
                field = torch.from_numpy(np.ascontiguousarray(noise[(slice(None), *around)]))
                pixels = (
                    network(temperature * field[None].to(place))[0, :, halo:-halo, halo:-halo].float().cpu().numpy()
                )
                kept = tuple(slice(s.start, min(s.stop, n)) for s, n in zip(tile.write, sides, strict=True))
                own = (slice(None), *(slice(k.stop - k.start) for k in kept))
                first = channel if spec.channels == 1 else 0
                values = [normalization.inverse(p, first + c) for c, p in enumerate(pixels[own])]
                made[(number, slice(None), *kept)] = np.stack(values)
            reporter.update(number + 1)
    except MemoryError as error:
        raise ReconError("The textures do not fit into memory.", "Make fewer, or smaller ones.") from error
    textures: NDArray[np.float32] = made[:, 0] if spec.channels == 1 else made
    return textures


def _noise(
    seed: tuple[int, int], channels: int, sides: tuple[int, ...], halo: int, tileable: bool
) -> NDArray[np.float32]:
    """White noise of `sides` with what lies around it, of which the border depends: (channels, *sides + 2 * halo)."""
    rng = np.random.default_rng(seed)
    around = 0 if tileable else 2 * halo
    noise: NDArray[np.float32] = rng.standard_normal((channels, *(n + around for n in sides)), dtype=np.float32)
    return np.pad(noise, ((0, 0), (halo, halo), (halo, halo)), mode="wrap") if tileable else noise
