"""Holes to train a completion on: drawn ones, and those of the user's own mask, moved about."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

KINDS = ("pixels", "blobs", "rectangles")
MOST_SHAPES = 64  # in one patch
MOST_COPIES = 12  # of the user's holes in one patch


def draw_holes(sides: Sequence[int], kind: str, share: float, size: int, rng: torch.Generator) -> Tensor:
    """Draw the holes of one patch.

    Parameters
    ----------
    sides : sequence of int
        (Y, X) of the patch.
    kind : str
        Of `KINDS`, or ``"mixed"`` for one of them at random.
    share : float
        Of the pixels to hide, roughly.
    size : int
        Longest side of a blob or rectangle.
    rng : torch.Generator
        CPU generator.

    Returns
    -------
    Tensor
        bool (Y, X), True in a hole.
    """
    if kind == "mixed":
        kind = KINDS[int(torch.randint(0, len(KINDS), (1,), generator=rng))]
    if kind == "pixels":
        return torch.rand(*sides, generator=rng) < share
    height, width = sides
    count = min(max(round(share * height * width / (size / 2) ** 2), 1), MOST_SHAPES)
    centre = torch.rand(count, 2, generator=rng) * torch.tensor([height, width])
    half = (0.5 + (size - 1) / 2 * torch.rand(count, 2, generator=rng)).clamp_max(max(min(sides) / 3, 0.5))
    away_y = (torch.arange(height) - centre[:, :1].floor()).abs() / half[:, :1]
    away_x = (torch.arange(width) - centre[:, 1:].floor()).abs() / half[:, 1:]
    if kind == "rectangles":
        inside = (away_y[:, :, None] <= 1) & (away_x[:, None, :] <= 1)
    else:
        inside = away_y[:, :, None] ** 2 + away_x[:, None, :] ** 2 <= 1
    return inside.any(dim=0)


class MovedHoles:
    """The holes of images, moved so that one of them falls on a random place of a patch, and flipped.

    Training on them makes the network ready for just the holes that it will fill.

    Parameters
    ----------
    maps : sequence of Tensor
        bool (Y, X) each, True in a hole; one at least holds any.
    """

    def __init__(self, maps: Sequence[Tensor]) -> None:
        self.maps = [m.cpu() for m in maps if m.any()]
        self._places = [m.nonzero() for m in self.maps]

    def draw(self, sides: Sequence[int], share: float, rng: torch.Generator) -> Tensor:
        """Draw the holes of one patch of (Y, X) pixels: bool, True in a hole.

        Holes that are few are repeated until they cover `share` of the patch, for the more a step hides the more it
        teaches.
        """
        patch = self._move(sides, rng)
        for _ in range(MOST_COPIES - 1):
            if patch.float().mean() >= share:
                break
            patch |= self._move(sides, rng)
        return patch

    def _move(self, sides: Sequence[int], rng: torch.Generator) -> Tensor:
        number = int(torch.randint(0, len(self.maps), (1,), generator=rng))
        holes, places = self.maps[number], self._places[number]
        place = places[int(torch.randint(0, len(places), (1,), generator=rng))]
        target = (torch.rand(2, generator=rng) * torch.tensor(sides)).long()
        # Beyond its border the mask begins anew at the other side.
        rows, columns = (
            (torch.arange(n) + p - t) % m for n, p, t, m in zip(sides, place, target, holes.shape, strict=True)
        )
        patch = holes[rows][:, columns]
        flips = [axis for axis, on in enumerate(torch.randint(0, 2, (2,), generator=rng).tolist()) if on]
        return patch.flip(flips) if flips else patch
