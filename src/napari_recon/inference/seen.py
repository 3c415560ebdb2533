"""What a network sees of one tile, and what that is made of."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_recon.data.float32 import as_float32
from napari_recon.data.normalization import Normalization
from napari_recon.inference.averaging import mix
from napari_recon.inference.neighbours import Pair
from napari_recon.inference.tiling import Tile

EVERY = (slice(None), slice(None))  # sample and channel

Pixels = NDArray[np.float32]


class Seen(NamedTuple):
    """What the network sees of one tile of some planes, and what it is made of.

    `normal` and each of `companions` are (planes, channels, *sides), normalised, with sides that suit the network;
    `raw` and `missing` lack what was mirrored beyond the last pixel. `planes` and `channel` say which planes these are
    and which channel is the first, `start` where the tile begins. `left` is the share of the noise that is left,
    of the shape of `normal`, where planes were averaged with their neighbours.
    """

    raw: Pixels
    missing: NDArray[np.bool_]
    normal: Pixels
    companions: list[Pixels]
    planes: range
    channel: int
    start: tuple[int, ...]
    left: Pixels | None = None


def read_tile(
    batch: Any,
    companions: Sequence[Any],
    normalization: Normalization,
    pairs_of: Callable[[int], list[Pair]],
    unit: tuple[slice, slice],
    tile: Tile,
    shape: tuple[int, ...],
) -> Seen:
    """Read and normalise what a network sees of a tile.

    Parameters
    ----------
    batch, companions : array and sequence of array
        (N, C, *shape), of which only what is needed is read.
    normalization : Normalization
        Of all of them.
    pairs_of : callable
        Returns the neighbours that a plane is averaged with.
    unit, tile : tuple of slice, Tile
        Samples and channels, and where.
    shape : tuple of int
        Spatial shape of the image.
    """
    # Beyond the last pixel the image is mirrored up to the network's multiple, the same pixels as for the whole.
    beyond = [max(s.stop - n, 0) for s, n in zip(tile.read, shape, strict=True)]
    inside = tuple(
        slice(min(s.start, max(n - b, 0)), n if b else s.stop) for s, n, b in zip(tile.read, shape, beyond, strict=True)
    )
    padding = [(0, 0), (0, 0), *((0, b) for b in beyond)]
    crop = (*EVERY, *(slice(s.start - i.start, None) for s, i in zip(tile.read, inside, strict=True)))

    def framed(values: Pixels) -> Pixels:
        return np.pad(values, padding, mode="symmetric")[crop]

    planes, first = range(unit[0].start, unit[0].stop), unit[1].start
    pairs = {p: pairs_of(p) for p in planes}
    needed = sorted({*planes, *(n for found in pairs.values() for pair in found for n in (pair.low, pair.high))})
    chosen = unit[0] if len(needed) == len(planes) else needed
    pixels = as_float32(batch[(chosen, unit[1], *inside)])
    raw = pixels[[needed.index(p) for p in planes]]
    missing = ~np.isfinite(raw)
    normal, left = _normalised(pixels, normalization, first), None
    if any(pairs.values()):
        normal, left = _averaged(dict(zip(needed, normal, strict=True)), pairs, normalization, first)
        left = framed(left)
    others = [as_float32(c[(*unit, *inside)]) for c in companions]
    others = [framed(_filled(_normalised(o, normalization, first))) for o in others]
    start = tuple(s.start for s in tile.read)
    return Seen(raw[crop], missing[crop], framed(_filled(normal)), others, planes, first, start, left)


def _normalised(pixels: Pixels, normalization: Normalization, first: int) -> Pixels:
    """Normalise (planes, channels, *sides), of which `first` is the first channel; NaN where there is no number."""
    normal = np.empty_like(pixels)
    for n, c in np.ndindex(pixels.shape[:2]):  # one after the other: large temporary arrays are slow to get
        known = np.where(np.isfinite(pixels[n, c]), pixels[n, c], np.float32(np.nan))
        normal[n, c] = normalization.forward(known, first + c)
    return normal


def _averaged(
    normal: dict[int, Pixels], pairs: dict[int, list[Pair]], normalization: Normalization, first: int
) -> tuple[Pixels, Pixels]:
    """Average planes (channels, Y, X) with their neighbours; return too how much noise is left of each pixel's."""
    mixed = []
    for plane, found in pairs.items():
        for c, own in enumerate(normal[plane]):
            sigma, along_y, along_x = normalization.noise_level(first + c)
            around = [(normal[p.low][c], normal[p.high][c], p.doubt) for p in found]
            mixed.append(mix(own, around, sigma, (along_y / sigma, along_x / sigma)))
    shape = (len(pairs), -1, *own.shape)
    values, left = (np.stack(parts).reshape(shape) for parts in zip(*mixed, strict=True))
    return values, left


def _filled(normal: Pixels) -> Pixels:
    """Replace missing pixels by the mean of their surroundings, so that they disturb their neighbours least.

    Far from any known pixel that is 0, the mean of the whole image.
    """
    missing = np.isnan(normal)
    if not missing.any():
        return normal
    sigma = (0, 0, *(3,) * (normal.ndim - 2))
    weight = gaussian_filter((~missing).astype(np.float32), sigma)
    near = gaussian_filter(np.where(missing, 0, normal), sigma) / np.maximum(weight, 1e-6)
    return np.where(missing, near, normal).astype(np.float32)
