"""Apply a model to an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_recon.checkpoint import TrainedModel
from napari_recon.data.noise_estimate import NoiseEstimate
from napari_recon.image import Image
from napari_recon.inference.runner import Prediction, TileRunner
from napari_recon.progress import CancelToken, ProgressCallback, Reporter


def predict(
    model: TrainedModel,
    image: Image,
    *,
    strength: float = 1.0,
    noise: Sequence[NoiseEstimate] | None = None,
    guide: NDArray[np.float32] | None = None,
    tile_size: int | None = None,
    tile_overlap: int | None = None,
    neighbours: bool = False,
    device: str = "auto",
    precision: str = "auto",
    on_progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Prediction:
    """Apply a model to every plane (or volume) of an image.

    Parameters
    ----------
    model : TrainedModel
        Of any family whose network turns an image into one image, of the same size or enlarged.
    image : Image
        Any axes; samples and, unless the model takes several, channels are done one by one.
    strength : float
        0 returns the input, 1 the model's answer; above 1 a noise-aware model is told of more noise.
    noise : sequence of NoiseEstimate, optional
        Noise of each channel, for a model that would else measure it here.
    guide : numpy.ndarray, optional
        The universal denoiser's answer, of the shape of the image, for a guided model.
    tile_size : int, optional
        Side of a tile; chosen from the free memory when left out.
    tile_overlap : int, optional
        Pixels a tile sees beyond its edge; the receptive field when left out, less is faster and not exact.
    neighbours : bool
        Whether planes of stacks and movies are averaged with their neighbours first, for a model that is told the
        noise; see `napari_recon.inference.averaging`.
    device, precision : str
        See `napari_recon.device`.

    Returns
    -------
    Prediction

    Raises
    ------
    ReconError
        When model and image do not fit together, or memory is short even for small tiles on the CPU.
    Cancelled
        When `cancel` asked to stop.
    """
    companions = [guide] if guide is not None else []
    runner = TileRunner(
        model, image, strength, noise, companions, tile_size, tile_overlap, device, precision, neighbours=neighbours
    )
    (array,) = runner.run(Reporter(on_progress, model.spec.task), cancel or CancelToken())
    return runner.prediction(array)
