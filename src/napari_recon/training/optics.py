"""The optics that the options of an upscaler mean."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_recon.data.degradation import Optics
from napari_recon.data.psf import psf_sigma
from napari_recon.io import read_image
from napari_recon.models.gan import GANConfig


def optics_of(config: GANConfig, kernel: Sequence[Sequence[float]] | None = None) -> Optics:
    """Make the degradation that a config describes.

    Parameters
    ----------
    config : GANConfig
        Of a model.
    kernel : sequence of sequences of float, optional
        Its measured PSF as a model keeps it, whose file may be gone.

    Raises
    ------
    ReconError
        When the file of a measured PSF cannot be read or used.
    """
    noise: dict[str, Any] = {"photons": config.photons, "read_noise": config.read_noise}
    if kernel is not None:
        return Optics(config.scale, tuple(map(tuple, kernel)), **noise)
    if config.psf_file:
        return Optics(config.scale, **noise).with_psf(read_image(Path(config.psf_file)).array)
    sigma = config.psf_sigma
    if config.na is not None and config.wavelength is not None and config.pixel_size is not None:
        sigma = psf_sigma(config.na, config.wavelength, config.pixel_size)
    return Optics.gaussian(config.scale, sigma, **noise)
