"""What the universal denoiser makes of an image: the second input of guided networks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_recon.checkpoint import TrainedModel
from napari_recon.data.noise_estimate import NoiseEstimate
from napari_recon.image import Image
from napari_recon.inference.predict import predict
from napari_recon.library import find_model
from napari_recon.progress import CancelToken, ProgressCallback


def make_guide(
    image: Image,
    *,
    noise: Sequence[NoiseEstimate] | None = None,
    device: str = "auto",
    precision: str = "auto",
    on_progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> NDArray[np.float32]:
    """Denoise an image with the shipped model; float32 of its shape.

    Planes of volumes and channels are done one by one, as they are by `napari_recon.denoise`.
    """
    options: dict[str, Any] = {"device": device, "precision": precision}
    universal = TrainedModel.load(find_model("universal"))
    return predict(universal, image, noise=noise, on_progress=on_progress, cancel=cancel, **options).array
