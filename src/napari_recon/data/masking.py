"""Blind spots: hide pixels of noisy patches, so that a network must predict them from their surroundings.

After Krull et al., "Noise2Void" (CVPR 2019), with the median replacement of N2V2 and the structured masks of Broaddus
et al., "Removing structured noise with self-supervised blind-spot networks" (ISBI 2020).
"""

import torch
from torch import Tensor

RADIUS = {2: (5, 5), 3: (1, 3, 3)}  # neighbourhood of the median: 11 x 11, and 3 x 7 x 7 in volumes


def hide_pixels(
    patches: Tensor,
    rng: torch.Generator,
    *,
    fraction: float,
    axis: str = "none",
    reach: int = 1,
) -> tuple[Tensor, Tensor]:
    """Replace random pixels by the median of their neighbours.

    Parameters
    ----------
    patches : Tensor
        (N, C, [Z], Y, X).
    rng : torch.Generator
        CPU generator.
    fraction : float
        Share of pixels to hide.
    axis : str
        ``"x"``, ``"y"`` or ``"both"``: hide the neighbours along it too; ``"none"``: single pixels.
    reach : int
        Neighbours hidden on each side along `axis`.

    Returns
    -------
    tuple of Tensor
        The patches with pixels hidden, and a mask of their shape that is 1 at the pixels to predict.
    """
    images = patches.flatten(0, 1)
    size = images.shape[1:]
    wanted = max(int(images.numel() * fraction), 1)
    flat = torch.randint(0, images.numel(), (wanted,), generator=rng).to(images.device)
    centre = torch.stack(torch.unravel_index(flat, images.shape))  # (1 + dims, pixels)

    places = []
    for offset in _line(len(size), axis, reach).to(images.device):
        place = centre[1:] + offset[:, None]
        inside = torch.stack([(p >= 0) & (p < n) for p, n in zip(place, size, strict=True)]).all(dim=0)
        places.append((inside, (centre[0][inside], *place[:, inside])))

    # No hidden pixel counts in any median, nor its mirror image at a border: it would be seen there.
    known = images.clone()
    for _, place in places:
        known[place] = torch.nan
    neighbours = known.flatten()[_neighbourhoods(centre, size)]
    median = neighbours.nanmedian(dim=1).values.nan_to_num()

    hidden = images.clone()
    for inside, place in places:
        hidden[place] = median[inside]
    mask = torch.zeros_like(images)
    mask[tuple(centre)] = 1
    return hidden.reshape(patches.shape), mask.reshape(patches.shape)


def _neighbourhoods(centre: Tensor, size: torch.Size) -> Tensor:
    """Places, in the flattened images, of all pixels in the box around each centre: (pixels, box)."""
    index = centre[0][:, None]
    for place, radius, n in zip(centre[1:], RADIUS[len(size)], size, strict=True):
        along = _reflect(place[:, None] + torch.arange(-radius, radius + 1, device=centre.device), n)
        index = (index[:, :, None] * n + along[:, None]).flatten(1)
    return index


def _line(dims: int, axis: str, reach: int) -> Tensor:
    """Offsets of the pixels hidden with each blind spot, the spot itself first: (n, dims)."""
    offsets = [[0] * dims]
    columns = {"none": [], "x": [dims - 1], "y": [dims - 2], "both": [dims - 2, dims - 1]}[axis]
    for column in columns:
        for step in range(1, reach + 1):
            for sign in (-1, 1):
                offset = [0] * dims
                offset[column] = sign * step
                offsets.append(offset)
    return torch.tensor(offsets)


def _reflect(index: Tensor, n: int) -> Tensor:
    """Fold indices that fall outside back in at the border."""
    period = max(2 * (n - 1), 1)
    index = index.remainder(period)
    return torch.where(index >= n, period - index, index).clamp(0, n - 1)
