"""Layers shared by the networks, in two and in three dimensions."""

import torch
from torch import nn

CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
AVERAGE_POOL: dict[int, type[nn.AvgPool2d] | type[nn.AvgPool3d]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}


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
    its maximum, which takes a third of the training time on a CPU and gains nothing measurable here.
    """
    return AVERAGE_POOL[dims](3, stride=2, padding=1, count_include_pad=False)
