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


def plan_tiles(
    shape: Sequence[int], tile: int, halo: int, multiple: int, within: Sequence[slice] | None = None
) -> list[Tile]:
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
    within : sequence of slice, optional
        The part to cover, such as what a larger tile writes.

    Returns
    -------
    list of Tile
        Their `write` parts cover the array once, without overlap.
    """
    side, margin = (-(-n // multiple) * multiple for n in (tile, halo))
    spans = []
    for length, part in zip(shape, within or [slice(0, n) for n in shape], strict=True):
        starts = range(part.start, part.stop, side)
        ends = [min(start + side, part.stop) for start in starts]
        spans.append([(max(a - margin, 0), min(b + margin, length), a, b) for a, b in zip(starts, ends, strict=True)])
    return [
        Tile(
            read=tuple(slice(a, b) for a, b, _, _ in parts),
            write=tuple(slice(c, d) for _, _, c, d in parts),
            crop=tuple(slice(c - a, d - a) for a, _, c, d in parts),
        )
        for parts in itertools.product(*spans)
    ]
