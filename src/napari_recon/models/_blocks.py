"""Layers shared by the networks, in two and in three dimensions."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
CONV_TRANSPOSE: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}


def double_conv(dims: int, inputs: int, outputs: int) -> nn.Sequential:
    """Two 3x3(x3) convolutions, each followed by a leaky ReLU."""
    conv = CONV[dims]
    return nn.Sequential(
        conv(inputs, outputs, 3, padding=1),
        nn.LeakyReLU(0.1, inplace=True),
        conv(outputs, outputs, 3, padding=1),
        nn.LeakyReLU(0.1, inplace=True),
    )


def channels_last(network: nn.Module) -> nn.Module:
    """Lay the weights out as convolutions run fastest, for images or for volumes; returns the network."""
    volumes = any(isinstance(m, nn.Conv3d) for m in network.modules())
    layout = torch.channels_last_3d if volumes else torch.channels_last
    return network.to(memory_format=layout)  # type: ignore[call-overload, no-any-return]


def blur_pool(dims: int) -> nn.Module:
    """Halve the resolution with little aliasing: mean over three pixels in each direction, stride two.

    The blurred pooling of N2V2 (after Zhang, "Making convolutional networks shift-invariant again", ICML 2019) without
    its maximum, which takes over a third of a training step on a CPU.
    """
    return nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False) if dims == 2 else _BlurPool3d()


class _BlurPool3d(nn.Module):
    """As in 2D; torch refuses volumes of two planes, where the mean over both is the same."""

    def forward(self, x: Tensor) -> Tensor:
        wide = [n > 2 for n in x.shape[2:]]
        kernel, padding = [2 + w for w in wide], [int(w) for w in wide]
        return F.avg_pool3d(x, kernel, stride=2, padding=padding, count_include_pad=False)
