"""Convolutions of enlarged images, computed without enlarging them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def upsampled_conv(conv: nn.Module, x: Tensor, skip: Tensor | None) -> Tensor:
    """3x3(x3) convolution of `x` enlarged to twice its size (nearest), with `skip` beside it.

    Neighbouring pixels of the enlarged image are equal, so their weights can be added first: a transposed convolution
    with two weights along each axis where there were three. That is 2.25 times less arithmetic, 3.4 times in volumes,
    and the same answer but for rounding.
    """
    assert isinstance(conv, nn.Conv2d | nn.Conv3d)
    channels = x.shape[1]
    weight = conv.weight[:, :channels]
    for axis in range(2, x.ndim):
        before, middle, after = weight.unbind(axis)
        weight = torch.stack([after, middle + after, before + middle, before], axis)
    transposed, plain = (F.conv_transpose2d, F.conv2d) if x.ndim == 4 else (F.conv_transpose3d, F.conv3d)
    out = transposed(x, weight.transpose(0, 1), conv.bias, stride=2, padding=1)
    return out if skip is None else out + plain(skip, conv.weight[:, channels:], padding=1)


def valid_conv(conv: nn.Module, x: Tensor) -> Tensor:
    """A convolution where its whole kernel lies within `x`."""
    assert isinstance(conv, nn.Conv2d | nn.Conv3d)
    plain = F.conv2d if x.ndim == 4 else F.conv3d
    return plain(x, conv.weight, conv.bias)


def windows(x: Tensor, start: Tensor, size: int) -> Tensor:
    """Cut windows out of images, with zeros beyond their borders.

    Parameters
    ----------
    x : Tensor
        (N, C, [Z], Y, X).
    start : Tensor
        (K, 1 + dims): sample and first pixel of each window, which may lie outside.
    size : int
        Sides of the windows.

    Returns
    -------
    Tensor
        (K, C, [size], size, size).
    """
    dims = x.ndim - 2
    sides = x.shape[2:]
    reach = torch.arange(size, device=x.device)
    index = start[:, :1]
    inside = torch.ones_like(index, dtype=torch.bool)
    for axis, n in enumerate(sides):
        place = start[:, 1 + axis, None] + reach
        index = (index[:, :, None] * n + place.clamp(0, n - 1)[:, None]).flatten(1)
        inside = (inside[:, :, None] & ((place >= 0) & (place < n))[:, None]).flatten(1)
    # Rows of channels: what is next to each other in memory where the network is laid out channels last.
    rows = x.movedim(1, -1).reshape(-1, x.shape[1]).index_select(0, index.flatten())
    cut = rows * inside.reshape(-1, 1).to(rows.dtype)
    return cut.reshape(len(start), *(size,) * dims, x.shape[1]).movedim(-1, 1)
