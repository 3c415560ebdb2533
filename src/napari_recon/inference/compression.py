"""An image as small numbers: the latents of a model, rounded.

A latent of a VAE is rounded in units of its prior, which the decoder knows as it goes down the levels: what tells
nothing of the image becomes zero and costs next to nothing once packed.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_recon.checkpoint import TrainedModel
from napari_recon.errors import ReconError
from napari_recon.inference.tiling import padded_shape
from napari_recon.models._latent import Gaussian

Codes = list[NDArray[np.int8]]
"""Rounded latents, one array (latents, ...) for each level that sees the image, in the order of the decoder."""

LARGEST = 2**24  # pixels of a plane: it is coded as a whole
MOST = 127


def check_size(sides: Sequence[int]) -> None:
    """Raise where a plane (or volume) is too large to be coded as a whole."""
    if int(np.prod(sides, dtype=float)) > LARGEST:
        raise ReconError(
            f"An image of {' x '.join(map(str, sides))} pixels is too large to be coded at once.",
            "Crop it, or cut it into parts of 4096 x 4096 pixels at most.",
        )


@torch.inference_mode()
def to_codes(model: TrainedModel, normal: Tensor, guide: Tensor | None, step: float) -> Codes:
    """Code one plane.

    Parameters
    ----------
    model : TrainedModel
        A VAE, or an autoencoder with a bottleneck.
    normal, guide : Tensor
        (1, C, [Z], Y, X) normalised, sides multiples of what the network needs.
    step : float
        Distance of two codes: in standard deviations of the prior for a VAE, in standard deviations of the codes of the
        training data, about one, for an autoencoder.
    """
    network: Any = model.network("cpu")
    codes: Codes = []
    if model.spec.task != "sample":
        patches = _patches(normal, network.image_size)
        return [_rounded(network.encode(patches), step)]

    def choose(level: int, posterior: Gaussian | None, prior: Gaussian) -> Tensor:
        if posterior is None:
            return prior.mean
        unit = step * (0.5 * prior.logvar).exp()
        code = _rounded((posterior.mean - prior.mean) / unit, 1.0)
        codes.append(code)
        return prior.mean + torch.from_numpy(code).float() * unit

    network.decode(network.encode(normal, guide), choose)
    return codes


@torch.inference_mode()
def from_codes(model: TrainedModel, codes: Codes, sides: Sequence[int], step: float) -> Tensor:
    """Return the normalised plane (1, C, *sides) that codes stand for; sides as padded."""
    network: Any = model.network("cpu")
    if model.spec.task != "sample":
        images = network.decode(torch.from_numpy(codes[0]).float() * step)
        return _plane(images, sides, network.image_size)
    rest = list(codes)

    def choose(level: int, posterior: Gaussian | None, prior: Gaussian) -> Tensor:
        if level < network.unconditional:
            return prior.mean
        return prior.mean + torch.from_numpy(rest.pop(0)).float() * step * (0.5 * prior.logvar).exp()

    coarsest = torch.Size([1, *(n // 2**network.halvings for n in sides)])
    image: Tensor = network.decode(None, choose, coarsest).image
    return image


def code_shapes(model: TrainedModel, sides: Sequence[int]) -> list[tuple[int, ...]]:
    """Shapes of the codes of a plane with these sides, before padding."""
    padded = padded_shape(sides, model.spec.size_multiple)
    network: Any = model.network("cpu")
    if model.spec.task != "sample":
        patches = int(np.prod([n // network.image_size for n in padded]))
        return [(patches, model.config.code_length)]  # type: ignore[attr-defined]
    seeing = range(network.levels - 1, network.unconditional - 1, -1)
    first = network.halvings - network.levels + 1  # halvings of the finest level
    return [(1, network.latents, *(n // 2 ** (first + level) for n in padded)) for level in seeing]


def pack(code: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Compress a code without loss."""
    return np.frombuffer(zlib.compress(code.tobytes(), 9), np.uint8).copy()


def unpack(packed: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Undo `pack`; raises `ValueError` when the code is not of this shape, without reading more than it would hold."""
    size = int(np.prod(shape, dtype=float))
    reader = zlib.decompressobj()
    try:
        raw = reader.decompress(packed.tobytes(), size + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(raw) != size or not reader.eof:
        raise ValueError(f"{len(raw)} codes where {size} belong")
    return np.frombuffer(raw, np.int8).reshape(shape).copy()


def _rounded(values: Tensor, step: float) -> NDArray[np.int8]:
    rounded: NDArray[np.int8] = (values / step).round().clamp(-MOST, MOST).to(torch.int8).cpu().numpy()
    return rounded


def _patches(plane: Tensor, side: int) -> Tensor:
    """Cut (1, C, Y, X) into (patches, C, side, side)."""
    c, height, width = plane.shape[1:]
    cut = plane.reshape(c, height // side, side, width // side, side)
    return cut.permute(1, 3, 0, 2, 4).reshape(-1, c, side, side)


def _plane(patches: Tensor, sides: Sequence[int], side: int) -> Tensor:
    """Undo `_patches`."""
    c = patches.shape[1]
    grid = patches.reshape(sides[0] // side, sides[1] // side, c, side, side)
    return grid.permute(2, 0, 3, 1, 4).reshape(1, c, *sides)
