"""How much a microscope blurs, from its aperture and wavelength. Imports no torch: forms show it as it is typed."""

import math

from napari_recon.errors import ReconError


def psf_sigma(na: float, wavelength: float, pixel_size: float) -> float:
    """Standard deviation of a Gaussian nearest to a widefield microscope's PSF in focus, in pixels.

    Parameters
    ----------
    na : float
        Numerical aperture of the objective.
    wavelength, pixel_size : float
        Of the emitted light and of a pixel in the specimen, in the same unit.

    Raises
    ------
    ReconError
        When one of them is not above zero.

    References
    ----------
    Zhang, Zerubia and Olivo-Marin, "Gaussian approximations of fluorescence microscope point-spread function
    models", Applied Optics 46 (2007): 0.225 times wavelength over aperture, in the paraxial model.
    """
    for name, value in {"numerical aperture": na, "wavelength": wavelength, "pixel size": pixel_size}.items():
        if not (value > 0 and math.isfinite(value)):
            raise ReconError(f"The {name} is {value:g}.", "Give a number above 0; wavelength and pixel size in nm.")
    return 0.225 * wavelength / na / pixel_size
