"""How a microscope makes a coarse image of a fine one: blur by the optics, light summed in larger pixels, noise.

Nothing here sharpens or compresses. All functions take tensors (N, C, Y, X) and run on their device; Y and X are
multiples of the scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from napari_recon.errors import ReconError

SMALLEST_SIGMA = 0.05  # pixels; a narrower Gaussian changes nothing


def bicubic_downsample(x: Tensor, scale: int) -> Tensor:
    """Shrink by a cubic (a = -0.5) widened against aliasing: MATLAB's ``imresize``, how the public test sets were made.

    Beside the border the kernel is cut off and normalised anew, where MATLAB mirrors the image.
    """
    size = [n // scale for n in x.shape[2:]]
    return F.interpolate(x, size=size, mode="bicubic", antialias=True)


def area_bin(x: Tensor, scale: int) -> Tensor:
    """Mean over squares of ``scale`` pixels: a camera whose pixels are that much larger."""
    return F.avg_pool2d(x, scale)


def gaussian_kernels(sigma: Tensor) -> Tensor:
    """Square kernels of sum one, (N, k, k), of Gaussians of these standard deviations (N) in pixels."""
    sigma = sigma.clamp_min(SMALLEST_SIGMA)
    reach = max(math.ceil(3 * float(sigma.max())), 1)
    place = torch.arange(-reach, reach + 1, device=sigma.device, dtype=sigma.dtype)
    line = torch.exp(-0.5 * (place / sigma[:, None]) ** 2)
    line = line / line.sum(dim=1, keepdim=True)
    return line[:, :, None] * line[:, None, :]


def blur(x: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each image with its kernel, the image mirrored at its border.

    Parameters
    ----------
    x : Tensor
        (N, C, Y, X).
    kernels : Tensor
        (N, k, l), or (1, k, l) for one that serves all; odd sides.

    Raises
    ------
    ReconError
        When a kernel is larger than the image.
    """
    n, c, height, width = x.shape
    rows, columns = kernels.shape[1:]
    if rows // 2 >= height or columns // 2 >= width:
        raise ReconError(
            f"The PSF of {rows} x {columns} pixels is larger than the image of {height} x {width}.",
            "Use a larger image or patch_size, or check the pixel size that the PSF was computed for.",
        )
    weight = kernels.flip(1, 2).expand(n, -1, -1).repeat_interleave(c, dim=0)[:, None]
    padded = F.pad(x, (columns // 2, columns // 2, rows // 2, rows // 2), mode="reflect")
    return F.conv2d(padded.reshape(1, n * c, *padded.shape[2:]), weight, groups=n * c).reshape(x.shape)


def check_psf(psf: Any) -> NDArray[np.float32]:
    """Make a measured PSF a kernel: odd sides, never negative, sum one, its centre of mass where it was.

    Raises
    ------
    ReconError
        When it is not two-dimensional, has no light in it, or a pixel that is not finite.
    """
    kernel = np.asarray(psf, dtype=np.float64)
    if kernel.ndim != 2:
        raise ReconError(f"A PSF with {kernel.ndim} axes cannot be used.", "Give its plane in focus, with axes YX.")
    if not np.isfinite(kernel).all():
        raise ReconError("The PSF holds NaN or infinite pixels.", "Replace or crop them first.")
    kernel = np.clip(kernel - np.median(kernel), 0, None)  # the background is no light of the bead
    if kernel.sum() <= 0:
        raise ReconError("The PSF has no light in it.", "Give the image of a bead, brighter than its background.")
    kernel = np.pad(kernel, [(0, 1 - n % 2) for n in kernel.shape])
    return np.asarray(kernel / kernel.sum(), np.float32)


@dataclass(frozen=True)
class Optics:
    """How low resolution comes about.

    Parameters
    ----------
    scale : int
        High-resolution pixels per low-resolution pixel, along each axis.
    kernel : tuple of tuple of float
        PSF at high resolution, see `check_psf`; empty for none.
    photons : float or None
        Detected in a low-resolution pixel of value 1; None for no noise at all.
    read_noise : float
        Standard deviation of the camera's noise, in photons.
    """

    scale: int
    kernel: tuple[tuple[float, ...], ...] = ()
    photons: float | None = None
    read_noise: float = 0.0

    @classmethod
    def gaussian(cls, scale: int, sigma: float, **noise: Any) -> Optics:
        """Optics whose PSF is a Gaussian of this standard deviation, in high-resolution pixels."""
        kernel = gaussian_kernels(torch.tensor([sigma]))[0].tolist() if sigma > SMALLEST_SIGMA else ()
        return cls(scale, tuple(map(tuple, kernel)), **noise)

    def with_psf(self, psf: Sequence[Sequence[float]] | NDArray[np.floating]) -> Optics:
        """The same optics with a measured PSF."""
        return replace(self, kernel=tuple(map(tuple, check_psf(psf).tolist())))

    def expected(self, x: Tensor) -> Tensor:
        """Low-resolution image without noise: (N, C, Y, X) to (N, C, Y / scale, X / scale)."""
        if self.kernel:
            x = blur(x, x.new_tensor([self.kernel]))
        return area_bin(x, self.scale)

    def __call__(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Low-resolution image as the camera sees it, with noise from a generator on the device of `x`."""
        low = self.expected(x)
        return low if self.photons is None else shot_and_read_noise(low, self.photons, self.read_noise, rng)


def shot_and_read_noise(x: Tensor, photons: float | Tensor, read_noise: float | Tensor, rng: torch.Generator) -> Tensor:
    """Poisson noise of `photons` at value 1 and Gaussian noise of `read_noise` photons, in the units of `x`.

    `photons` and `read_noise` are numbers, or tensors that broadcast to `x`; values below zero have no shot noise.
    """
    counts = torch.poisson((x * photons).clamp_min(0), generator=rng)
    below = (x * photons).clamp_max(0)
    return (counts + below + read_noise * torch.randn(x.shape, generator=rng, device=x.device)) / photons
