"""The network behind the universal denoiser: bias-free, told the noise's strength and correlation.

Bias-free after Mohan et al., "Robust and interpretable blind image denoising via bias-free
convolutional neural networks" (ICLR 2020): without additive constants the output scales with the input, so
one set of weights serves every noise level. The noise map as an extra input follows Zhang et al., "Plug-and-play
image restoration with deep denoiser prior" (DRUNet, TPAMI 2021).
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from napari_recon.models._winograd import Conv3x3


class ResidualBlock(nn.Module):
    """Two bias-free 3x3 convolutions around a ReLU, added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = Conv3x3(channels, channels), Conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of `x`."""
        out: Tensor = self.second(torch.relu_(self.first(x)))
        return out.add_(x)


class UniversalUNet(nn.Module):
    """Residual U-Net that predicts the noise of a variance-stabilised 2D image.

    It works on 2x2 pixels folded into channels, which costs a quarter of the arithmetic at full resolution and
    loses nothing, as unfolding is exact.

    Parameters
    ----------
    channels : tuple of int
        Features at a half, a quarter and an eighth of the resolution.
    blocks : tuple of int
        Residual blocks on the way down (and again on the way up) at each of these.
    """

    size_multiple = 8

    def __init__(self, channels: tuple[int, ...] = (64, 128, 256), blocks: tuple[int, ...] = (2, 2, 2)) -> None:
        super().__init__()
        self.fold = nn.PixelUnshuffle(2)
        self.unfold = nn.PixelShuffle(2)
        self.head = nn.Conv2d(4 + 3, channels[0], 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(c) for _ in range(n)))
            for c, n in zip(channels[:-1], blocks[:-1], strict=True)
        )
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2, bias=False) for a, b in pairwise(channels))
        self.middle = nn.Sequential(*(ResidualBlock(channels[-1]) for _ in range(blocks[-1])))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2, bias=False) for a, b in pairwise(channels))
        self.decoder = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(c) for _ in range(n)))
            for c, n in zip(channels[:-1], blocks[:-1], strict=True)
        )
        self.tail = nn.Conv2d(channels[0], 4, 3, padding=1, bias=False)

    def forward(self, noisy: Tensor, noise: Tensor | None = None) -> Tensor:
        """Denoise.

        Parameters
        ----------
        noisy : Tensor
            (N, 1, Y, X) with Y and X multiples of 8, centred near zero.
        noise : Tensor, optional
            (N, 3), or (N, 3, Y, X) where it is not everywhere the same: standard deviation of the noise in units of
            `noisy`, and that times its lag-1 autocorrelation along Y and along X. White noise of variance one when
            left out.

        Returns
        -------
        Tensor
            The denoised images, of the shape of `noisy`.
        """
        if noise is None:
            noise = noisy.new_tensor([[1.0, 0.0, 0.0]]).expand(len(noisy), 3)
        folded = self.fold(noisy)
        if noise.ndim == 2:
            noise = noise[:, :, None, None].expand(-1, -1, *folded.shape[2:])
        else:
            noise = nn.functional.avg_pool2d(noise, 2)
        told = noise.to(folded.dtype)
        x = self.head(torch.cat([folded, told], dim=1))
        skips = []
        for block, down in zip(self.encoder, self.down, strict=True):
            x = block(x)
            skips.append(x)
            x = down(x)
        x = self.middle(x)
        for block, up in zip(reversed(self.decoder), reversed(self.up), strict=True):
            x = block(up(x).add_(skips.pop()))
        found: Tensor = self.unfold(self.tail(x))
        return noisy - found.to(noisy.dtype)
