"""The discriminators of the families that play against one, with spectral normalisation (Miyato et al., ICLR 2018)."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

Judgement = tuple[Tensor, list[Tensor]]
"""Logits, above zero for real; and the features on the way to them."""


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Module:
    return spectral_norm(nn.Conv2d(inputs, outputs, kernel, stride, padding=1))


class PatchDiscriminator(nn.Module):
    """Judges every patch of some 34 pixels apart (Isola et al., CVPR 2017): a logit for each 4 x 4 pixels."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        f = features
        self.layers = nn.ModuleList(
            [_conv(channels, f, 4, 2), _conv(f, 2 * f, 4, 2), _conv(2 * f, 2 * f), _conv(2 * f, 2 * f)]
        )
        self.tail = _conv(2 * f, 1)

    def forward(self, x: Tensor) -> Judgement:
        """Judge images (N, channels, Y, X)."""
        seen = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            seen.append(x)
        return self.tail(x), seen


class UNetDiscriminator(nn.Module):
    """Judges every pixel in its surroundings (Wang et al., Real-ESRGAN, ICCV workshops 2021): a logit for each pixel.

    Sides that are no multiples of four are mirrored up to them, and the logits cut.
    """

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        f = features
        self.head = _conv(channels, f)
        self.down = nn.ModuleList([_conv(f, 2 * f, 4, 2), _conv(2 * f, 4 * f, 4, 2)])
        self.up = nn.ModuleList([_conv(4 * f, 2 * f), _conv(2 * f, f)])
        self.tail = _conv(f, 1)

    def forward(self, x: Tensor) -> Judgement:
        """Judge images (N, channels, Y, X)."""
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % 4, 0, -height % 4), mode="reflect")
        levels = [F.leaky_relu(self.head(x), 0.2)]
        for layer in self.down:
            levels.append(F.leaky_relu(layer(levels[-1]), 0.2))
        seen = list(levels)
        x = levels.pop()
        for layer in self.up:
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear")
            x = F.leaky_relu(layer(x), 0.2) + levels.pop()
            seen.append(x)
        return self.tail(x)[..., :height, :width], seen


class TextureDiscriminator(nn.Module):
    """Judges patches as large as the structures of a texture: a logit for each ``2**levels`` pixels.

    Parameters
    ----------
    channels, features, levels : int
        Of the images, of the first layer, and halvings of the resolution.
    """

    def __init__(self, channels: int, features: int, levels: int) -> None:
        super().__init__()
        widths = [channels, *(features * min(2**level, 4) for level in range(levels))]
        self.down = nn.ModuleList(_conv(a, b, 4, 2) for a, b in itertools.pairwise(widths))
        self.merge, self.tail = _conv(widths[-1], widths[-1]), _conv(widths[-1], 1)

    def forward(self, x: Tensor) -> Judgement:
        """Judge images (N, channels, Y, X)."""
        seen = []
        for layer in (*self.down, self.merge):
            x = F.leaky_relu(layer(x), 0.2)
            seen.append(x)
        return self.tail(x), seen


DISCRIMINATORS: dict[str, type[PatchDiscriminator] | type[UNetDiscriminator]] = {
    "patch": PatchDiscriminator,
    "unet": UNetDiscriminator,
}


class Critic(nn.Module):
    """A discriminator and the state of its game, which is saved with its weights so that a run can resume exactly.

    Parameters
    ----------
    kind : str
        Key of `DISCRIMINATORS`.
    channels, features : int
        Of the images, and of its first layer.
    """

    def __init__(self, kind: str, channels: int, features: int) -> None:
        super().__init__()
        self.discriminator = DISCRIMINATORS[kind](channels, features)
        # Running means; the consistency of the faithful weights is what that of the perceptual ones is held against.
        self.real: Tensor
        self.fake: Tensor
        self.faithful: Tensor
        self.perceptual: Tensor
        for name, start in {"real": 0.5, "fake": 0.5, "faithful": 0.0, "perceptual": 0.0}.items():
            self.register_buffer(name, torch.tensor(start))

    def forward(self, x: Tensor) -> Judgement:
        """Judge images (N, channels, Y, X)."""
        judgement: Judgement = self.discriminator(x)
        return judgement
