"""Which planes of a stack or movie are neighbours."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from napari_recon.axes import split_axes

PAIRS = {"T": 2, "Z": 1}
"""Pairs of neighbours along each axis. Planes of a stack that are farther apart show other things."""

FARTHER = 3.0  # how much more the differences of a second pair count


class Pair(NamedTuple):
    """Two planes on the same axis: their numbers among the samples, and how much more their differences count."""

    low: int
    high: int
    doubt: float


def find_pairs(sample: int, axes: str, shape: Sequence[int], spatial: str = "YX") -> list[Pair]:
    """Return the neighbours of a plane.

    At the ends of an axis both are on the same side, so that the same number of planes is averaged everywhere.

    Parameters
    ----------
    sample : int
        Number of the plane among those of `napari_recon.axes.to_batch`.
    axes, shape : str, sequence of int
        Axes and shape of the image.
    spatial : {"YX", "ZYX"}
        As given to `to_batch`.
    """
    names = split_axes(axes, spatial).samples
    sizes = [shape[axes.index(a)] for a in names]
    place = np.unravel_index(sample, sizes) if sizes else ()
    pairs = []
    for i, (axis, size) in enumerate(zip(names, sizes, strict=True)):
        step, own = math.prod(sizes[i + 1 :]), int(place[i])
        seen = range(size)[around(own, size, axis)]
        others = [p for _, p in sorted((abs(p - own), p) for p in seen if p != own)]
        for rank, (low, high) in enumerate(zip(others[::2], others[1::2], strict=True)):
            pairs.append(Pair(sample + (low - own) * step, sample + (high - own) * step, FARTHER**rank))
    return pairs


def around(place: int, size: int, axis: str) -> slice:
    """Return which planes along an axis of `size` planes are looked at for the one at `place`."""
    many = min(PAIRS.get(axis, 0), (size - 1) // 2)
    first = min(max(place - many, 0), size - 2 * many - 1)
    return slice(first, first + 2 * many + 1)
