"""Random training patches, drawn on the device that trains, and a region held out for validation."""

from __future__ import annotations

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
    """

    input: Tensor
    target: Tensor | None = None
    weight: Tensor | None = None


class PatchSampler:
    """Draws patches at random positions of images that lie on the device; copies none of them beforehand.

    Half of the patches fall anywhere, half where something is, so that empty fields do not dominate. A strip at one
    end of every image is held out: no training patch touches it.

    Parameters
    ----------
    inputs : sequence of Tensor
        Images (N, C, [Z], Y, X), of any sizes, normalised.
    targets, weights : sequence of Tensor or None
        Partners of `inputs`, of the same shapes.
    patch_size : int
        Side of a patch along Y and X; less where an image is smaller.
    size_multiple : int
        Sides of patches are multiples of this.
    validation_fraction : float
        Share of each image to hold out, 0 for none.
    rotations : bool
        Whether patches may be transposed; flips are always made.
    """

    def __init__(
        self,
        inputs: Sequence[Tensor],
        *,
        targets: Sequence[Tensor] | None = None,
        weights: Sequence[Tensor] | None = None,
        patch_size: int = 64,
        size_multiple: int = 1,
        validation_fraction: float = 0.1,
        rotations: bool = True,
    ) -> None:
        self.inputs, self.targets, self.weights = inputs, targets, weights
        smallest = np.array([x.shape[2:] for x in inputs]).min(axis=0)
        self.patch = tuple(_fit_side(patch_size, int(n), size_multiple) for n in smallest)
        self.rotations = rotations and self.patch[-1] == self.patch[-2]
        self.device = inputs[0].device
        self._train, self._held_out = self._split(validation_fraction, size_multiple)
        self._origins, self._chances = self._tabulate()

    def _split(self, fraction: float, multiple: int) -> tuple[list[Region], list[Region | None]]:
        """Region of each image to train on, and the one held out (None where there is no room)."""
        train: list[Region] = []
        held_out: list[Region | None] = []
        for x in self.inputs:
            shape = x.shape[2:]
            axis = int(np.argmax(shape[-2:])) + len(shape) - 2
            strip = int(np.ceil(shape[axis] * fraction / multiple)) * multiple
            whole = tuple((0, int(n)) for n in shape)
            if fraction <= 0 or strip < 8 or shape[axis] - strip < self.patch[axis]:
                train.append(whole)
                held_out.append(None)
                continue
            first, last = (x.narrow(axis + 2, s, strip).std() for s in (0, int(shape[axis]) - strip))
            at_start = bool(first > last)  # the end with more in it tells more
            cut, rest = ((0, strip), (strip, shape[axis])) if at_start else ((shape[axis] - strip, shape[axis]), (0, shape[axis] - strip))  # fmt: skip
            train.append(_replace(whole, axis, rest))
            held_out.append(_replace(whole, axis, cut))
        return train, held_out

    def _tabulate(self) -> tuple[Tensor, Tensor]:
        """Cells in which a patch may start: rows (image, sample, low..., high...) and the chance of each."""
        rows, chances = [], []
        for index, (x, region) in enumerate(zip(self.inputs, self._train, strict=True)):
            cell = [max(p // 2, 1) for p in self.patch]
            room = [high - low - p for (low, high), p in zip(region, self.patch, strict=True)]
            grid = [range(0, r + 1, c) for r, c in zip(room, cell, strict=True)]
            activity = _activity(x, region, self.patch, cell, [len(g) for g in grid])
            for n in range(x.shape[0]):
                a = activity[n].flatten()
                uniform = torch.full_like(a, 1 / a.numel())
                chances.append((0.5 * uniform + 0.5 * a / a.sum().clamp_min(1e-12)) * x[0, 0].numel())
                starts = torch.cartesian_prod(*(torch.tensor(list(g)) for g in grid)).reshape(a.numel(), -1)
                low = starts + torch.tensor([r[0] for r in region])
                last = torch.tensor([r[0] + m for r, m in zip(region, room, strict=True)])
                high = torch.minimum(low + torch.tensor(cell), last + 1)
                head = torch.tensor([[index, n]]).expand(len(low), 2)
                rows.append(torch.cat([head, low, high], dim=1))
        return torch.cat(rows), torch.cat([c.cpu() for c in chances])

    def draw(self, count: int, rng: torch.Generator) -> Batch:
        """Draw `count` patches with a CPU generator: the same generator state gives the same patches."""
        dims = len(self.patch)
        cells = self._origins[torch.multinomial(self._chances, count, replacement=True, generator=rng)]
        low, high = cells[:, 2 : 2 + dims], cells[:, 2 + dims :]
        corner = low + (torch.rand(count, dims, generator=rng) * (high - low)).long()
        turn = torch.randint(0, 2, (dims + 1,), generator=rng).tolist()

        def gather(images: Sequence[Tensor] | None) -> Tensor | None:
            if images is None:
                return None
            parts = [
                images[i][n][(slice(None), *(slice(s, s + p) for s, p in zip(c, self.patch, strict=True)))]
                for (i, n), c in zip(cells[:, :2].tolist(), corner.tolist(), strict=True)
            ]
            return self._turn(torch.stack(parts), turn)

        patches = gather(self.inputs)
        assert patches is not None
        return Batch(patches, gather(self.targets), gather(self.weights))

    def _turn(self, patches: Tensor, turn: list[int]) -> Tensor:
        axes = [axis + 2 for axis, flip in enumerate(turn[:-1]) if flip]
        patches = patches.flip(axes) if axes else patches
        return patches.transpose(-1, -2) if turn[-1] and self.rotations else patches

    def validation(self, size_multiple: int, limit: int = 48) -> list[Batch]:
        """Fixed batches that cover the held-out strips, cut into patches; empty when nothing is held out."""
        batches: list[Batch] = []
        for index, region in enumerate(self._held_out):
            if region is None:
                continue
            sides = [
                _fit_side(p, high - low, size_multiple)
                for p, (low, high) in zip(self.patch, region, strict=True)
            ]
            corners = _corners(region, sides)
            places = [(n, c) for n in range(self.inputs[index].shape[0]) for c in corners]
            keep = np.linspace(0, len(places) - 1, min(len(places), limit)).astype(int)
            for group in np.array_split(keep, max(len(keep) // 16, 1)):
                chosen = [places[i] for i in group]
                batches.append(Batch(*(self._cut(s, index, chosen, sides) for s in (self.inputs, self.targets, self.weights))))  # type: ignore[arg-type]  # fmt: skip
        return batches

    @staticmethod
    def _cut(
        images: Sequence[Tensor] | None, index: int, places: list[tuple[int, tuple[int, ...]]], sides: list[int]
    ) -> Tensor | None:
        if images is None:
            return None
        cuts = [
            images[index][n][(slice(None), *(slice(a, a + b) for a, b in zip(c, sides, strict=True)))]
            for n, c in places
        ]
        return torch.stack(cuts)


Region = tuple[tuple[int, int], ...]


def _replace(region: Region, axis: int, bounds: tuple[int, int]) -> Region:
    return tuple(bounds if i == axis else r for i, r in enumerate(region))


def _corners(region: Region, sides: list[int]) -> list[tuple[int, ...]]:
    starts = [
        range(low, high - side + 1, side) for (low, high), side in zip(region, sides, strict=True)
    ]
    grid = np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, len(sides))
    return [tuple(int(v) for v in c) for c in grid]


def _fit_side(wanted: int, available: int, multiple: int) -> int:
    side = min(wanted, available) // multiple * multiple
    if side < 1:
        raise ReconError(
            f"The image is {available} pixels wide on its shortest side; this network needs at least {multiple}.",
            "Use a larger image, a smaller depth, or dimensions=2 for a thin stack.",
        )
    return side


def _activity(
    x: Tensor, region: Region, patch: tuple[int, ...], cell: list[int], counts: list[int]
) -> Tensor:
    """Mean departure from the image's median in the patch at each cell, (N, *cells)."""
    inside = x[(slice(None), slice(None), *(slice(a, b) for a, b in region))]
    departure = (inside - inside.flatten(1)[:, ::7].median()).abs().mean(dim=1, keepdim=True)
    pool = F.avg_pool2d if len(patch) == 2 else F.avg_pool3d
    pooled = pool(departure, kernel_size=patch, stride=cell)[:, 0]
    return pooled[(slice(None), *(slice(0, n) for n in counts))].square()
