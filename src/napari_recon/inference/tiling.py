"""Cut a large array into overlapping tiles so that the tiled result equals that of the whole."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Tile:
    """One tile of a plan.

    Parameters
    ----------
    read : tuple of slice
        What the network sees, in the padded array.
    write : tuple of slice
        What of the result is kept, in the padded array.
    crop : tuple of slice
        Where `write` lies within `read`.
    """

    read: Slices
    write: Slices
    crop: Slices


def padded_shape(shape: Sequence[int], multiple: int) -> tuple[int, ...]:
    """Round a shape up to multiples of `multiple`."""
    return tuple(-(-n // multiple) * multiple for n in shape)


def plan_tiles(shape: Sequence[int], tile: int, halo: int, multiple: int) -> list[Tile]:
    """Cover an array with tiles.

    Parameters
    ----------
    shape : sequence of int
        Spatial shape, already a multiple of `multiple` (see `padded_shape`).
    tile : int
        Side of the part that each tile writes; rounded up to `multiple`.
    halo : int
        Pixels around it that the network must see, its receptive field; rounded up to `multiple`. At the border of
        the array there is nothing to see, as for the whole array.
    multiple : int
        Every tile starts and ends at a multiple of this, so that pooling falls on the same pixels.

    Returns
    -------
    list of Tile
        Their `write` parts cover the array once, without overlap.
    """
    side, margin = (-(-n // multiple) * multiple for n in (tile, halo))
    spans = []
    for length in shape:
        spans.append(
            [
                (max(start - margin, 0), min(start + side + margin, length), start, min(start + side, length))
                for start in range(0, length, side)
            ]
        )
    return [
        Tile(
            read=tuple(slice(a, b) for a, b, _, _ in parts),
            write=tuple(slice(c, d) for _, _, c, d in parts),
            crop=tuple(slice(c - a, d - a) for a, _, c, d in parts),
        )
        for parts in itertools.product(*spans)
    ]
