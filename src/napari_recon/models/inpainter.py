"""The network of the completion family: a first guess from the surroundings, and a U-Net that corrects it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_recon.models.unet import UNet

KNOWN_NEARBY = 0.25  # share of known pixels from which the nearest level alone is trusted


class Inpainter(nn.Module):
    """Fills what is not known of images whose sides are multiples of ``2**depth``.

    The U-Net sees the first guess and where it is one, and starts from zero: an untrained network answers the guess,
    so that short trainings suffice.

    Parameters
    ----------
    channels, depth, features : int
        Channels of the image, halvings, and feature maps at full resolution.
    """

    def __init__(self, channels: int, depth: int, features: int) -> None:
        super().__init__()
        self.depth = depth
        self.unet = UNet(2, channels, depth, features, top_skip=True, inputs=2 * channels)

    def forward(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        """Answer every pixel, known or not.

        Parameters
        ----------
        x : Tensor
            (N, channels, Y, X); what is not known may hold any finite number.
        known : Tensor, optional
            1 where a pixel is known and 0 where it is not, of the shape of `x`; all are known when left out.
        """
        known = torch.ones_like(x) if known is None else known
        with torch.autocast(x.device.type, enabled=False):  # the guess carries the intensities
            guess = first_guess(x.float(), known.float(), self.depth)
        out: Tensor = guess + self.unet(torch.cat([guess, known], dim=1)).float()
        return out


def first_guess(x: Tensor, known: Tensor, depth: int) -> Tensor:
    """Fill what is not known with the mean of known neighbours, taken at coarser levels where there are none near.

    After "pull-push" (Gortler et al., "The lumigraph", SIGGRAPH 1996). Where nothing is known at all it is 0, the mean
    of a normalised image.
    """
    inside = x * known
    weight = _blur(known)
    near = _blur(inside) / weight.clamp_min(1e-6)
    if depth:
        share = F.avg_pool2d(known, 2)
        coarse = first_guess(F.avg_pool2d(inside, 2) / share.clamp_min(1e-6), (share > 0).to(x), depth - 1)
        trust = (weight / KNOWN_NEARBY).clamp_max(1.0)
        near = torch.lerp(F.interpolate(coarse, scale_factor=2.0, mode="nearest"), near, trust)
    return torch.where(known > 0, inside, near)


def _blur(x: Tensor) -> Tensor:
    """Binomial mean over 3x3 pixels, each channel on its own; nothing lies beyond the border."""
    line = x.new_tensor([0.25, 0.5, 0.25])
    kernel = torch.outer(line, line).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(x, kernel, padding=1, groups=x.shape[1])
