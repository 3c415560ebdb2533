"""The generators of the GAN family: from a low-resolution image to one of two, three or four times its size.

All work at low resolution and end in a sub-pixel convolution (Shi et al., CVPR 2016) whose answer is added to the
bicubic enlargement. None has a bias or a normalisation layer, and the kernels of the first layer sum to zero: without
attention gates, multiplying the image or adding a constant to it does the same to the result; no intensity is special.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from napari_recon.models._gates import Gate
from napari_recon.models._winograd import Conv3x3


def enlarge(x: Tensor, scale: int) -> Tensor:
    """Bicubic enlargement (a = -0.5, as MATLAB's), pixel centres half a pixel inside the border as on a camera."""
    # Without `antialias` torch uses another cubic (a = -0.75).
    return F.interpolate(x.float(), scale_factor=float(scale), mode="bicubic", antialias=True)


class ZeroSumConv(nn.Conv2d):
    """A 3x3 convolution whose kernels sum to zero: it sees differences only, also beside the border."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False, padding_mode="replicate")

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, Y, X) to (N, outputs, Y, X)."""
        kernels = self.weight - self.weight.mean(dim=(2, 3), keepdim=True)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernels)


class SpatialAttention(nn.Module):
    """Gate between 0 and 1 for each pixel, from the features around it (Woo et al., CBAM, ECCV 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.weigh = nn.Conv2d(2, 1, 7, padding=3)
        self.gate = Gate()

    def forward(self, x: Tensor) -> Tensor:
        """Return the features, each pixel times its gate."""
        summary = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        out: Tensor = x * self.gate(self.weigh(summary))
        return out


class ResidualBlock(nn.Module):
    """Two convolutions around a ReLU, added to their input: SRResNet's block without its batch normalisation."""

    def __init__(self, features: int, attention: bool) -> None:
        super().__init__()
        self.first, self.second = Conv3x3(features, features), Conv3x3(features, features)
        self.gate = SpatialAttention() if attention else nn.Identity()
        with torch.no_grad():
            self.second.weight *= 0.1  # a deep stack of blocks starts near the identity

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of `x`."""
        out: Tensor = self.gate(self.second(F.relu(self.first(x), inplace=True)))
        return out.add_(x)


class Dense(nn.Module):
    """Three convolutions that each see all before them; a fifth of their answer is added to their input."""

    def __init__(self, features: int) -> None:
        super().__init__()
        growth = features // 2
        self.first = Conv3x3(features, growth)
        self.second = Conv3x3(features + growth, growth)
        self.last = Conv3x3(features + 2 * growth, features)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of `x`."""
        seen = torch.cat([x, F.leaky_relu(self.first(x), 0.2)], dim=1)
        seen = torch.cat([seen, F.leaky_relu(self.second(seen), 0.2)], dim=1)
        out: Tensor = x + 0.2 * self.last(seen)
        return out


class DenseBlock(nn.Module):
    """ESRGAN's residual-in-residual dense block (Wang et al., ECCV workshops 2018), smaller.

    Two inner blocks of three convolutions instead of three of five.
    """

    def __init__(self, features: int, attention: bool) -> None:
        super().__init__()
        self.inner = nn.Sequential(Dense(features), Dense(features))
        self.gate = SpatialAttention() if attention else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of `x`."""
        out: Tensor = x + 0.2 * self.gate(self.inner(x))
        return out


class CompactBlock(nn.Module):
    """One convolution and a leaky ReLU, nothing to add: the fastest."""

    def __init__(self, features: int, attention: bool) -> None:
        super().__init__()
        self.conv = Conv3x3(features, features)
        self.gate = SpatialAttention() if attention else nn.Identity()
        nn.init.kaiming_normal_(self.conv.weight, a=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of `x`."""
        out: Tensor = self.gate(F.leaky_relu(self.conv(x), 0.1, inplace=True))
        return out


BLOCKS: dict[str, type[ResidualBlock] | type[DenseBlock] | type[CompactBlock]] = {
    "compact": CompactBlock,
    "residual": ResidualBlock,
    "rrdb": DenseBlock,
}
"""Kinds of blocks that a generator is made of."""


class Generator(nn.Module):
    """A stack of blocks at low resolution, a sub-pixel convolution, and the bicubic enlargement added.

    Parameters
    ----------
    network : str
        Kind of block, a key of `BLOCKS`.
    channels, features, blocks, scale : int
        Channels of the image, feature maps, number of blocks, and enlargement.
    attention : bool
        Whether each block has a `SpatialAttention`.
    """

    def __init__(self, network: str, channels: int, features: int, blocks: int, scale: int, attention: bool) -> None:
        super().__init__()
        self.scale = scale
        self.head = ZeroSumConv(channels, features)
        self.body = nn.Sequential(*(BLOCKS[network](features, attention) for _ in range(blocks)))
        self.merge = Conv3x3(features, features)
        self.tail = nn.Conv2d(features, channels * scale**2, 3, padding=1, bias=False)
        nn.init.normal_(self.tail.weight, std=1e-3)  # it starts as the bicubic enlargement

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, Y, X) to (N, channels, scale * Y, scale * X)."""
        first = self.head(x)
        details = self.tail(first + self.merge(self.body(first)))
        # float32 also under autocast: the enlarged image carries the intensities.
        out: Tensor = enlarge(x, self.scale) + F.pixel_shuffle(details, self.scale).float()
        return out


class Upscaler(nn.Module):
    """A generator trained for fidelity and, when there is one, how its weights differ for perceived sharpness.

    The perceptual weights are kept as differences from the faithful ones. They start at zero, so the second stage of a
    training starts where the first ended, and weights in between are a sum (network interpolation, Wang et al., "Deep
    network interpolation for continuous imagery effect transition", CVPR 2019).

    Parameters
    ----------
    generator : Generator
        The faithful network.
    difference : Generator or None
        A second one of the same shapes, whose weights are set to zero here.
    """

    def __init__(self, generator: Generator, difference: Generator | None = None) -> None:
        super().__init__()
        self.generator = generator
        self.difference = difference
        if difference is not None:
            for p in difference.parameters():
                nn.init.zeros_(p)
            self.register_load_state_dict_pre_hook(_begin_faithful)  # type: ignore[no-untyped-call]

    def weights(self, fidelity: float) -> Mapping[str, Tensor]:
        """Weights at a fidelity from 1 (the faithful ones) to 0 (the perceptual ones), by name.

        Below 1 the faithful ones are held: what learns is the difference.
        """
        faithful: dict[str, Tensor] = dict(self.generator.named_parameters())
        if self.difference is None:
            return faithful
        if fidelity < 1:
            faithful = {name: p.detach() for name, p in faithful.items()}
        return {name: faithful[name] + (1 - fidelity) * p for name, p in self.difference.named_parameters()}

    def forward(self, x: Tensor, fidelity: float = 1.0) -> Tensor:
        """(N, channels, Y, X) to (N, channels, scale * Y, scale * X)."""
        out: Tensor = functional_call(self.generator, dict(self.weights(fidelity)), (x,))
        return out


def _begin_faithful(module: Upscaler, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Let weights without perceptual ones be loaded, which then differ by nothing."""
    assert module.difference is not None
    for name, p in module.difference.named_parameters():
        state.setdefault(f"{prefix}difference.{name}", torch.zeros_like(p))
