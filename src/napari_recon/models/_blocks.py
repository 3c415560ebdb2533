"""Layers shared by the networks, in two and in three dimensions."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
MAX_POOL: dict[int, type[nn.MaxPool2d] | type[nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


def double_conv(dims: int, inputs: int, outputs: int) -> nn.Sequential:
    """Two 3x3(x3) convolutions, each followed by a leaky ReLU."""
    conv = CONV[dims]
    return nn.Sequential(
        conv(inputs, outputs, 3, padding=1),
        nn.LeakyReLU(0.1),
        conv(outputs, outputs, 3, padding=1),
        nn.LeakyReLU(0.1),
    )


class BlurPool(nn.Module):
    """Halve the resolution without aliasing: maximum of neighbours, then a binomial blur with stride two.

    After Zhang, "Making convolutional networks shift-invariant again" (ICML 2019), as used by N2V2.
    """

    kernel: Tensor

    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        line = torch.tensor([0.25, 0.5, 0.25])
        kernel = line
        for _ in range(dims - 1):
            kernel = kernel[..., None] * line
        self.dims = dims
        self.channels = channels
        self.register_buffer("kernel", kernel.expand(channels, 1, *kernel.shape).clone(), persistent=False)
        self.maximum = MAX_POOL[dims](2, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` at half the size."""
        # One pixel at the end, so that the 2-wide maximum keeps the size.
        x = self.maximum(F.pad(x, (0, 1) * self.dims, mode="replicate"))
        blur = F.conv2d if self.dims == 2 else F.conv3d
        return blur(x, self.kernel.to(x.dtype), stride=2, padding=1, groups=self.channels)
