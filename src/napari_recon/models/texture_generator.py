"""The network of the texture family: from a field of noise to a texture of the same size.

After Jetchev, Bergmann and Vollgraf, "Texture synthesis with spatial generative adversarial networks" (2016): fully
convolutional, so that any size of noise gives that size of texture, and noise that repeats gives a texture that does.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NOISE_CHANNELS = 16  # at most, at each level
WIDEST = 6  # times the features of the finest level


class TextureGenerator(nn.Module):
    """Turns white noise into a texture, from its coarsest structures to its finest.

    White noise folded to a coarser grid is white noise in more channels, so that the one field of the image's size
    feeds all levels. Nothing is normalised over space: a pixel depends on its surroundings alone.

    Parameters
    ----------
    channels, levels, features : int
        Channels of the image, doublings of the resolution, and feature maps at full resolution.
    """

    def __init__(self, channels: int, levels: int, features: int) -> None:
        super().__init__()
        widths = [features * min(level + 1, WIDEST) for level in range(levels + 1)]
        self.noises = [min(channels * 4**level, NOISE_CHANNELS) for level in range(levels + 1)]
        self.levels = nn.ModuleList(
            _Level((widths[k] if k < levels else 0) + self.noises[k], widths[k], widths[max(k - 1, 0)])
            for k in range(levels + 1)
        )
        self.tail = _conv(features, channels)
        nn.init.normal_(self.tail.weight, std=0.5 / (9 * features) ** 0.5)

    def forward(self, noise: Tensor) -> Tensor:
        """(N, channels, Y, X) of standard normal numbers to as many pixels; sides are multiples of ``2**levels``."""
        x: Tensor | None = None
        for k in reversed(range(len(self.levels))):
            folded = F.pixel_unshuffle(noise, 2**k)[:, : self.noises[k]]
            if x is not None:
                folded = torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), folded.to(x)], dim=1)
            x = self.levels[k](folded)
        assert x is not None
        out: Tensor = self.tail(_around(x, 1)).float()
        return out


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, 3)
    nn.init.kaiming_normal_(conv.weight, a=0.2)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


def _around(x: Tensor, margin: int) -> Tensor:
    """Go on beyond each border with what is at the other: no place is special, in training neither.

    As `torch.nn.functional.pad` does it, which takes thrice as long.
    """
    for axis, size in ((2, x.shape[2]), (3, x.shape[3])):
        # The coarsest level of a small field can be narrower than the margin.
        turns = -(-margin // size)
        line = torch.cat([x] * turns, dim=axis) if turns > 1 else x
        before = line.narrow(axis, turns * size - margin, margin)
        x = torch.cat([before, x, line.narrow(axis, 0, margin)], dim=axis)
    return x


class _Level(nn.Module):
    """Two convolutions, each followed by a leaky ReLU; then each pixel is brought to unit length.

    The length (Karras et al., "Progressive growing of GANs", ICLR 2018) keeps the players of the game from escalating.
    """

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = _conv(inputs, width), _conv(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, Y, X) to (N, outputs, Y, X)."""
        x = F.leaky_relu(self.first(_around(x, 2)), 0.2)
        x = F.leaky_relu(self.second(x), 0.2)
        out: Tensor = x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-6)
        return out
