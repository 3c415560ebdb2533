"""Pictures of what a network makes of a region while it trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from napari_recon.axes import to_batch
from napari_recon.checkpoint import TrainedModel
from napari_recon.data.float32 import as_float32
from napari_recon.data.holes import draw_holes
from napari_recon.data.normalization import Normalization
from napari_recon.image import Image
from napari_recon.inference.completion import CompletionRunner, with_holes
from napari_recon.inference.guide import make_guide
from napari_recon.inference.predict import predict
from napari_recon.inference.texture import texture_pixels
from napari_recon.models import get_family
from napari_recon.progress import CancelToken, Reporter

Pixels = NDArray[np.float32]


def previewer(
    family: str, config: Any, normalization: Normalization, region: Image, device: str
) -> Callable[[nn.Module], Pixels]:
    """Make a function that shows what the network of the moment makes of a region.

    Parameters
    ----------
    family, config, normalization
        Of the model that is trained.
    region : Image
        Small; for an upscaler binned first, for a completion holed; of a texture only its size counts.
    device : str
        Where the network is.
    """
    spec = get_family(family).spec(config)
    region = _coarse(region, spec.scale)
    draw: Callable[[TrainedModel, str], Pixels]
    if spec.task == "complete":
        draw = _completed(region)
    elif spec.task == "generate":
        draw = _generated(region)
    else:
        draw = _restored(region, normalization, spec.guided, device)

    def show(network: nn.Module) -> Pixels:
        return draw(TrainedModel(family, config, {}, normalization, _network=network), device)

    return show


def _restored(
    region: Image, normalization: Normalization, guided: bool, device: str
) -> Callable[[TrainedModel, str], Pixels]:
    guide = make_guide(region, noise=normalization.noise, device=device) if guided else None
    return lambda model, device: predict(model, region, guide=guide, device=device).array


def _generated(region: Image) -> Callable[[TrainedModel, str], Pixels]:
    """Make the same texture each time, as large as the region."""
    sides = (region.size("Y"), region.size("X"))

    def draw(model: TrainedModel, device: str) -> Pixels:
        made = texture_pixels(model, sides, 1, 0, 1.0, False, 0, device, Reporter(None, "preview"), CancelToken())
        plane = made[0, 0] if made.ndim == 4 else made[0]
        shown = plane.reshape([region.size(a) if a in "YX" else 1 for a in region.axes])
        return np.array(np.broadcast_to(shown, region.shape))

    return draw


def _completed(region: Image) -> Callable[[TrainedModel, str], Pixels]:
    """Fill the same holes each time; what is not in one is shown as it is."""
    holes: NDArray[np.bool_] = np.zeros(region.shape, bool)
    rng = torch.Generator().manual_seed(0)
    for plane in to_batch(holes, region.axes).reshape(-1, region.size("Y"), region.size("X")):  # views
        plane[...] = draw_holes(plane.shape, "mixed", 0.1, 24, rng).numpy()
    holed = with_holes(region, holes)

    def draw(model: TrainedModel, device: str) -> Pixels:
        runner = CompletionRunner(model, holed, holes, tile_size=None, device=device, precision="auto")
        (filled,) = runner.run(Reporter(None, "preview"), CancelToken())
        return np.where(holes, filled, np.asarray(region.array, np.float32))

    return draw


def _coarse(image: Image, scale: int) -> Image:
    """An image with its pixels binned to squares of `scale`, so that an upscaler gives it back."""
    if scale == 1:
        return image
    from skimage.measure import block_reduce  # takes long to import

    cut = image.crop({a: slice(0, max(image.size(a) // scale, 1) * scale) for a in "YX"})
    blocks = tuple(scale if a in "YX" else 1 for a in image.axes)
    binned = block_reduce(as_float32(cut.array), blocks, np.mean)  # type: ignore[no-untyped-call]
    return cut.with_array(binned)
