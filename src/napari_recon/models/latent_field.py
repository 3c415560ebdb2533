"""What the coarsest latents of real images look like together: where generated images start.

The prior of the coarsest level knows nothing of neighbours, for the bound that a VAE is trained with asks no more; so
its images lack everything larger than a few of its cells. As proposed by Ghosh et al., "From variational to
deterministic autoencoders" (ICLR 2020), the density of the latents is fitted when training has ended: here as a
Gaussian field.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

REACH = {2: 16, 3: 8}  # cells over which neighbours are alike
# Share of the positions below each quantile; on the CPU also where a network is only sketched.
SHARES = torch.linspace(0.002, 0.998, 65, device="cpu")


class LatentField(nn.Module):
    """A stationary field of latents: independent fields, each with its own spectrum and histogram, mixed.

    Parameters
    ----------
    latents, dims : int
        Numbers at each position, and spatial dimensions.
    """

    mean: Tensor
    mixing: Tensor
    kernels: Tensor
    quantiles: Tensor
    noise: Tensor

    def __init__(self, latents: int, dims: int) -> None:
        super().__init__()
        self.dims, self.reach = dims, REACH[dims]
        kernels = torch.zeros(latents, 1, *(2 * self.reach + 1,) * dims)
        kernels.flatten(1)[:, kernels[0].numel() // 2] = 1  # without a fit: white noise
        self.register_buffer("mean", torch.zeros(latents))
        self.register_buffer("mixing", torch.eye(latents))
        self.register_buffer("kernels", kernels)
        self.register_buffer("quantiles", torch.special.ndtri(SHARES).repeat(latents, 1))
        self.register_buffer("noise", torch.zeros(latents))

    def forward(self, white: Tensor) -> Tensor:
        """Turn white noise (N, 2 * latents, *sides), on every side `reach` larger, into (N, latents, *sides)."""
        told, unsure = white.chunk(2, dim=1)
        convolve = F.conv2d if self.dims == 2 else F.conv3d
        fields = self._with_histogram(convolve(told, self.kernels, groups=len(self.mean)))
        inside = (slice(self.reach, -self.reach),) * self.dims
        fields = fields + _along(self.noise, self.dims) * unsure[(slice(None), slice(None), *inside)]
        mixed: Tensor = torch.tensordot(self.mixing, fields, dims=([1], [1])).transpose(0, 1)
        return mixed + _along(self.mean, self.dims)

    def _with_histogram(self, fields: Tensor) -> Tensor:
        """Give standard normal fields (N, latents, *sides) the histograms of the images."""
        place = torch.special.ndtr(fields).flatten(2) * (len(SHARES) - 1)
        low = place.long().clamp(0, len(SHARES) - 2)
        table = self.quantiles[None].expand(len(fields), -1, -1)
        values = torch.lerp(table.gather(2, low), table.gather(2, low + 1), place - low)
        return values.view_as(fields)

    @torch.no_grad()
    def fit(self, means: list[Tensor], variances: list[Tensor]) -> None:
        """Fit to the posteriors of images, each (latents, *sides).

        Parameters
        ----------
        means, variances : list of Tensor
            Of the posterior at each position: what the images tell, and how unsure it is.
        """
        flat = torch.cat([m.flatten(1) for m in means], dim=1).double()
        told = torch.cov(flat, correction=0)  # a small image has one position only
        unsure = torch.cat([v.flatten(1) for v in variances], dim=1).double().mean(1)
        # Directions in which the images differ apart from those that only carry noise.
        root = torch.linalg.cholesky(told + torch.diag(unsure))
        _, directions = torch.linalg.eigh(_solve(root, _solve(root, told).T))
        mixing = root @ directions
        unmix = torch.linalg.inv(mixing)
        mean = flat.mean(1)
        own = [torch.tensordot(unmix, m.double() - _along(mean, self.dims), dims=1) for m in means]
        # Latent by latent, as torch sorts no more than 16 million numbers at once.
        quantiles = torch.stack([v.quantile(SHARES.double()) for v in torch.cat([o.flatten(1) for o in own], dim=1)])
        kernels = self._kernels(torch.stack([self._spectrum(o) for o in own]).mean(0))
        fitted = (mean, mixing, kernels[:, None], quantiles, (unmix.square() @ unsure).sqrt())
        for buffer, value in zip(self.buffers(), fitted, strict=True):
            buffer.copy_(value)

    def _spectrum(self, fields: Tensor) -> Tensor:
        """Power spectra of fields (latents, *sides), without ripples of single frequencies."""
        from scipy.signal.windows import bohman  # takes long to import

        axes = tuple(range(1, self.dims + 1))
        sides = [n + self.reach for n in fields.shape[1:]]
        power = torch.fft.fftn(fields, sides, axes).abs().square() / fields[0].numel()
        shared = torch.fft.ifftn(power, dim=axes).real  # covariance at each lag
        lags = torch.arange(-self.reach, self.reach + 1)
        window = torch.from_numpy(bohman(len(lags) + 2)[1:-1])  # its transform is positive
        for axis, side in zip(axes, sides, strict=True):
            shared = shared.index_select(axis, lags % side)
            shared = shared * window.view(-1, *(1,) * (self.dims - axis))
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
