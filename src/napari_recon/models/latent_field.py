"""What the coarsest latents of real images look like together: where generated images start.

The prior of the coarsest level knows nothing of neighbours, for the bound that a VAE is trained with asks no more; so
its images lack everything larger than a few of its cells. As proposed by Ghosh et al., "From variational to
deterministic autoencoders" (ICLR 2020), the density of the latents is fitted when training has ended: here as a
Gaussian field.
"""

from __future__ import annotations

import torch
from scipy.signal.windows import bohman
from torch import Tensor, nn
from torch.nn import functional as F

REACH = {2: 16, 3: 8}  # cells over which neighbours are alike


class LatentField(nn.Module):
    """A stationary Gaussian field of latents: independent fields, each with its own spectrum, mixed.

    Parameters
    ----------
    latents, dims : int
        Numbers at each position, and spatial dimensions.
    """

    mean: Tensor
    mixing: Tensor
    kernels: Tensor

    def __init__(self, latents: int, dims: int) -> None:
        super().__init__()
        self.dims, self.reach = dims, REACH[dims]
        self.register_buffer("mean", torch.zeros(latents))
        self.register_buffer("mixing", torch.eye(latents))
        kernels = torch.zeros(latents, 1, *(2 * self.reach + 1,) * dims)
        kernels.flatten(1)[:, kernels[0].numel() // 2] = 1  # without a fit: white noise
        self.register_buffer("kernels", kernels)

    def forward(self, white: Tensor) -> Tensor:
        """Turn white noise (N, latents, *sides), on every side `reach` larger, into latents."""
        convolve = F.conv2d if self.dims == 2 else F.conv3d
        fields = convolve(white, self.kernels, groups=len(self.mean))
        mixed: Tensor = torch.tensordot(self.mixing, fields, dims=([1], [1])).transpose(0, 1)
        return mixed + _along(self.mean, self.dims)

    @torch.no_grad()
    def fit(self, means: list[Tensor], variances: list[Tensor]) -> None:
        """Fit to the posteriors of images, each (latents, *sides).

        Parameters
        ----------
        means, variances : list of Tensor
            Of the posterior at each position.
        """
        flat = torch.cat([m.flatten(1) for m in means], dim=1).double()
        told = torch.cov(flat)
        whole = told + torch.diag(torch.cat([v.flatten(1) for v in variances], dim=1).double().mean(1))
        # Directions in which the images differ apart from those that only carry noise.
        root = torch.linalg.cholesky(whole)
        _, directions = torch.linalg.eigh(_solve(root, _solve(root, told).T))
        mixing = root @ directions
        unmix = torch.linalg.inv(mixing)
        mean = flat.mean(1)
        spectrum = torch.zeros(())
        for m, v in zip(means, variances, strict=True):
            own = torch.tensordot(unmix, m.double() - _along(mean, self.dims), dims=1)
            white = torch.tensordot(unmix.square(), v.double(), dims=1).flatten(1).mean(1)
            spectrum = spectrum + self._spectrum(own, white) / len(means)
        kernels = self._kernels(spectrum)
        for buffer, value in ((self.mean, mean), (self.mixing, mixing), (self.kernels, kernels[:, None])):
            buffer.copy_(value)

    def _spectrum(self, fields: Tensor, white: Tensor) -> Tensor:
        """Power spectra of fields (latents, *sides) with white noise added, without ripples of single frequencies."""
        axes = tuple(range(1, self.dims + 1))
        sides = [n + self.reach for n in fields.shape[1:]]
        power = torch.fft.fftn(fields, sides, axes).abs().square() / fields[0].numel()
        shared = torch.fft.ifftn(power, dim=axes).real  # covariance at each lag
        lags = torch.arange(-self.reach, self.reach + 1)
        window = torch.from_numpy(bohman(len(lags) + 2)[1:-1])  # its transform is positive
        for axis, side in zip(axes, sides, strict=True):
            shared = shared.index_select(axis, lags % side)
            shared = shared * window.view(-1, *(1,) * (self.dims - axis))
        shared.flatten(1)[:, shared[0].numel() // 2] += white
        spectrum: Tensor = torch.fft.fftn(torch.fft.ifftshift(shared, axes), dim=axes).real
        return spectrum.clamp_min(0)

    def _kernels(self, spectrum: Tensor) -> Tensor:
        """Kernels (latents, *sides) that give white noise these spectra, and unit variance."""
        axes = tuple(range(1, self.dims + 1))
        kernels: Tensor = torch.fft.fftshift(torch.fft.ifftn(spectrum.sqrt(), dim=axes).real, axes)
        return kernels / kernels.square().sum(axes, keepdim=True).sqrt().clamp_min(1e-12)


def _along(values: Tensor, dims: int) -> Tensor:
    return values.view(-1, *(1,) * dims)


def _solve(root: Tensor, right: Tensor) -> Tensor:
    solution: Tensor = torch.linalg.solve_triangular(root, right, upper=False)
    return solution
