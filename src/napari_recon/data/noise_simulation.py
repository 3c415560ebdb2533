"""Draws noise as cameras and resampling leave it, on the device, for training and tests."""

import math

import torch
from torch import Tensor


def correlated_noise(shape: tuple[int, int, int, int], blur: Tensor, stripes: Tensor, rng: torch.Generator) -> Tensor:
    """Draw Gaussian noise of unit variance with neighbouring pixels in step, as resampling leaves it.

    Parameters
    ----------
    shape : tuple of int
        (N, 1, Y, X).
    blur : Tensor
        (N, 2): standard deviation in pixels of the blur along Y and X; 0 for white noise.
    stripes : Tensor
        (N, 2): share of the variance that is common to a whole row, and to a whole column.
    rng : torch.Generator
        Source of randomness, on the device of `blur`.

    Returns
    -------
    Tensor
        float32 of `shape`, mean 0, variance 1 per image.
    """
    n, _, height, width = shape
    device = blur.device
    margin = 16  # drawn larger and cropped, since filtering in Fourier space wraps around
    white = torch.randn(n, height + margin, width + margin, generator=rng, device=device)
    fy = torch.fft.fftfreq(height + margin, device=device)[None, :, None]
    fx = torch.fft.rfftfreq(width + margin, device=device)[None, None, :]
    b = blur[:, :, None, None]
    transfer = torch.exp(-2 * math.pi**2 * ((b[:, 0] * fy) ** 2 + (b[:, 1] * fx) ** 2))
    noise = torch.fft.irfft2(torch.fft.rfft2(white) * transfer, s=white.shape[1:])[:, :height, :width]
    noise = noise / noise.std(dim=(1, 2), keepdim=True)
    rows = torch.randn(n, height, 1, generator=rng, device=device)
    columns = torch.randn(n, 1, width, generator=rng, device=device)
    s = stripes[:, :, None, None]
    striped: Tensor = (1 - s[:, 0] - s[:, 1]).sqrt() * noise + s[:, 0].sqrt() * rows + s[:, 1].sqrt() * columns
    return striped[:, None]


def lag1_correlation(noise: Tensor) -> Tensor:
    """Correlation of each pixel with its neighbour: (N, 2), along Y and along X, of noise (N, 1, Y, X)."""
    noise = noise - noise.mean(dim=(2, 3), keepdim=True)
    variance = noise.square().mean(dim=(1, 2, 3))
    along_y = (noise[:, :, 1:] * noise[:, :, :-1]).mean(dim=(1, 2, 3))
    along_x = (noise[..., 1:] * noise[..., :-1]).mean(dim=(1, 2, 3))
    return torch.stack([along_y, along_x], dim=1) / variance[:, None].clamp_min(1e-12)
