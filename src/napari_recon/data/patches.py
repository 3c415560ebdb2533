"""Random training patches, drawn on the device that trains, and a region held out for validation."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_recon.errors import ReconError


@dataclass(frozen=True)
class Batch:
    """Patches to train on; all tensors (N, C, [Z], Y, X) float32 on one device.

    Parameters
    ----------
    input : Tensor
        What the network sees.
    target : Tensor or None
        What it should answer, when there are pairs.
    weight : Tensor or None
        1 where a pixel counts and 0 where it was not finite; None when all count.
    guide : Tensor or None
        The universal denoiser's answer to the input, for networks that are guided.
    """

    input: Tensor
    target: Tensor | None = None
    weight: Tensor | None = None
    guide: Tensor | None = None


class PatchSampler:
    """Draws patches at random positions of images that lie on the device; copies none of them beforehand.

    Half of the patches fall anywhere, half where something is, so that empty fields do not dominate. The last samples
    of a long stack, or else a strip at one end of every image, are held out: no training patch touches them.

    Parameters
    ----------
    inputs : sequence of Tensor
        Images (N, C, [Z], Y, X), of any sizes, normalised.
    targets, weights, guides : sequence of Tensor or None
        Partners of `inputs`, of the same shapes.
    patch_size : int
        Side of a patch; less where an image is smaller, more where the network needs it.
    size_multiple : int
        Sides of patches are multiples of this.
    align : int
        Patches start at multiples of this, so that none cuts a pixel of a coarser partner; a divisor of
        `size_multiple`.
    validation_fraction : float
        Share of each image to hold out, 0 for none.
    rotations : bool
        Whether patches may be transposed; flips are always made.

    Attributes
    ----------
    held_out : list of Part or None
        What is held out of each image.
    """

    def __init__(
        self,
        inputs: Sequence[Tensor],
        *,
        targets: Sequence[Tensor] | None = None,
        weights: Sequence[Tensor] | None = None,
        guides: Sequence[Tensor] | None = None,
        patch_size: int = 64,
        size_multiple: int = 1,
        align: int = 1,
        validation_fraction: float = 0.1,
        rotations: bool = True,
    ) -> None:
        self.inputs, self.targets, self.weights, self.guides = inputs, targets, weights, guides
        smallest = np.array([x.shape[2:] for x in inputs]).min(axis=0)
        self.size_multiple, self.align = size_multiple, align
        self.patch = [_fit_side(patch_size, int(n), size_multiple) for n in smallest]
        self.rotations = rotations and self.patch[-1] == self.patch[-2]
        self.flips = True
        self.device = inputs[0].device
        splits = [self._split(x, validation_fraction) for x in inputs]
        self.held_out = [held_out for _, held_out in splits]
        self._cells, chances = self._tabulate([train for train, _ in splits])
        self._ladder = chances.double().cumsum(0)

    def _split(self, x: Tensor, fraction: float) -> tuple[Part, Part | None]:
        """Part of an image to train on, and the part held out (None where there is no room for one)."""
        shape = [int(n) for n in x.shape[2:]]
        samples = int(x.shape[0])
        whole = [(0, n) for n in shape]
        if fraction > 0 and samples >= 20:
            kept = samples - int(np.ceil(samples * fraction))
            return Part(range(kept), whole), Part(range(kept, samples), whole)
        axis = int(np.argmax(shape[-2:])) + len(shape) - 2
        length = shape[axis]
        strip = int(np.ceil(length * fraction / self.size_multiple)) * self.size_multiple
        if strip < 8 or length - strip < self.patch[axis]:
            return Part(range(samples), whole), None
        first, last = (x.narrow(axis + 2, start, strip).std() for start in (0, length - strip))
        # The end with more in it tells more.
        cut = strip if first > last else length - strip
        parts = [Part(range(samples), _replace(whole, axis, bounds)) for bounds in ((0, cut), (cut, length))]
        return (parts[1], parts[0]) if first > last else (parts[0], parts[1])

    def _tabulate(self, parts: list[Part]) -> tuple[Tensor, Tensor]:
        """Cells in which a patch may start: rows (image, sample, low..., high...), and the chance of each."""
        cell = [max(p // 2, 1) for p in self.patch]
        rows, chances = [], []
        for index, (x, part) in enumerate(zip(self.inputs, parts, strict=True)):
            room = [high - low - p for (low, high), p in zip(part.region, self.patch, strict=True)]
            starts = [torch.arange(0, r + 1, c) for r, c in zip(room, cell, strict=True)]
            activity = _activity(x[part.samples.start : part.samples.stop], part.region, self.patch, cell).flatten(1)
            share = activity / activity.sum().clamp_min(1e-12) + 1 / activity.numel()
            chances.append(share.flatten().cpu() * (x[0, 0].numel() * len(part.samples)))
            low = torch.cartesian_prod(*starts).reshape(-1, len(cell)) + torch.tensor([r[0] for r in part.region])
            last = torch.tensor([r[0] + m for r, m in zip(part.region, room, strict=True)])
            corners = torch.cat([low, torch.minimum(low + torch.tensor(cell), last + 1)], dim=1)
            samples = torch.tensor(part.samples).repeat_interleave(len(corners))
            head = torch.stack([torch.full_like(samples, index), samples], dim=1)
            rows.append(torch.cat([head, corners.repeat(len(part.samples), 1)], dim=1))
        return torch.cat(rows), torch.cat(chances)

    def draw_evenly(self) -> None:
        """From now on draw patches from everywhere alike and as they are, for what learns their statistics."""
        dims = len(self.patch)
        sizes = (self._cells[:, 2 + dims :] - self._cells[:, 2 : 2 + dims]).prod(dim=1)
        self._ladder = sizes.double().cumsum(0)
        self.flips = False

    def draw(self, count: int, rng: torch.Generator, share: tuple[int, int] = (0, 1)) -> Batch:
        """Draw `count` patches with a CPU generator: the same generator state gives the same patches.

        `share` (number, of how many) keeps every so many of them, so that processes which draw alike share one batch.
        """
        dims = len(self.patch)
        # Not torch.multinomial: it takes no more than 2**24 cells, and goes through all of them at each call.
        rungs = torch.rand(count, generator=rng, dtype=torch.float64) * self._ladder[-1]
        cells = self._cells[torch.searchsorted(self._ladder, rungs, right=True)]
        low, high = cells[:, 2 : 2 + dims], cells[:, 2 + dims :]
        corner = low + (torch.rand(count, dims, generator=rng) * (high - low)).long()
        corner -= corner % self.align
        turn = torch.randint(0, 2, (dims + 1,), generator=rng).tolist() if self.flips else [0] * (dims + 1)
        number, shares = share
        places = torch.cat([cells[:, :2], corner], dim=1)[number::shares].tolist()
        return self._batch(places, self.patch, turn)

    def validation(self, limit: int = 48) -> list[Batch]:
        """Fixed batches of about `limit` patches, spread over the held-out parts; empty when nothing is held out."""
        parts = [(index, part) for index, part in enumerate(self.held_out) if part is not None]
        parts = parts[:: max(len(parts) // limit, 1)]
        share = max(limit // max(len(parts), 1), 1)
        batches = []
        for index, part in parts:
            sides = [_fit_side(p, b - a, self.size_multiple) for p, (a, b) in zip(self.patch, part.region, strict=True)]
            starts = [range(a, b - side + 1, side) for (a, b), side in zip(part.region, sides, strict=True)]
            places = [[index, n, *corner] for n in part.samples for corner in itertools.product(*starts)]
            keep = np.linspace(0, len(places) - 1, min(len(places), share)).astype(int)
            for group in np.array_split(keep, max(len(keep) // 16, 1)):
                batches.append(self._batch([places[i] for i in group], sides, [0] * (len(sides) + 1)))
        return batches

    def _batch(self, places: list[list[int]], sides: list[int], turn: list[int]) -> Batch:
        """Cut (image, sample, corner...) out of inputs and what goes with them, all turned alike."""

        def cut(images: Sequence[Tensor]) -> Tensor:
            parts = [
                images[i][n][(slice(None), *(slice(c, c + s) for c, s in zip(corner, sides, strict=True)))]
                for i, n, *corner in places
            ]
            patches = torch.stack(parts)
            axes = [axis + 2 for axis, flip in enumerate(turn[:-1]) if flip]
            patches = patches.flip(axes) if axes else patches
            return patches.transpose(-1, -2) if turn[-1] and self.rotations else patches

        return Batch(
            cut(self.inputs),
            cut(self.targets) if self.targets is not None else None,
            cut(self.weights) if self.weights is not None else None,
            cut(self.guides) if self.guides is not None else None,
        )


Region = list[tuple[int, int]]


@dataclass(frozen=True)
class Part:
    """Some samples of an image, and a box within each."""

    samples: range
    region: Region


def _replace(region: Region, axis: int, bounds: tuple[int, int]) -> Region:
    return [bounds if i == axis else r for i, r in enumerate(region)]


def _fit_side(wanted: int, available: int, multiple: int) -> int:
    side = min(max(wanted, multiple), available) // multiple * multiple
    if side < 1:
        raise ReconError(
            f"The image is {available} pixels wide on its shortest side; this network needs at least {multiple}.",
            "Use a larger image, a smaller depth, or dimensions=2 for a thin stack.",
        )
    return side


def _activity(x: Tensor, region: Region, patch: list[int], cell: list[int]) -> Tensor:
    """Mean departure from the image's median in the patch at each cell, (N, *cells)."""
    inside = x[(slice(None), slice(None), *(slice(a, b) for a, b in region))]
    median = inside.flatten()[:: max(inside.numel() // 100_000, 1)].median()
    departure = (inside - median).abs().mean(dim=1, keepdim=True)
    pool = F.avg_pool2d if len(patch) == 2 else F.avg_pool3d
    return pool(departure, kernel_size=patch, stride=cell)[:, 0].square()
