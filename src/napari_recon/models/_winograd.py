"""3x3 convolutions by Winograd's algorithm, for CPUs that have no arithmetic in bfloat16.

Lavin and Gray, "Fast algorithms for convolutional neural networks" (CVPR 2016): some four times fewer multiplications,
the same answer but for rounding. torch brings it in NNPACK and seldom chooses it. On an AMD EPYC with AVX2 the
universal denoiser takes 0.6 of the time on one core and 0.9 on two, the x2 upscaler 0.7; with 32 channels nothing is
won.
"""

from functools import cache

import torch
from torch import Tensor, nn

from napari_recon.models._blocks import channels_last

FEWEST_CHANNELS = 48
FEWEST_PIXELS = 2000  # with fewer, its way of preparing the kernels for each image takes too long


@cache
def _suits_this_cpu() -> bool:
    """Whether it is there and the CPU has vectors of 256 bits: with wider ones torch's own is as fast."""
    # Asking whether it is there also starts it; a build of torch may lack even the question.
    available = getattr(torch, "_nnpack_available", lambda: False)
    return torch.backends.cpu.get_cpu_capability() == "AVX2" and bool(available())


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution without bias, by Winograd's algorithm where that is faster and nothing is learned."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False)

    @property
    def is_wide(self) -> bool:
        """Whether it has channels enough."""
        return min(self.in_channels, self.out_channels) >= FEWEST_CHANNELS

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, Y, X) to (N, outputs, Y, X)."""
        large = len(x) == 1 and x[0, 0].numel() >= FEWEST_PIXELS  # several images at once it does slowly
        exact = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if large and exact and self.is_wide and not torch.is_grad_enabled() and _suits_this_cpu():
            return torch._nnpack_spatial_convolution(x, self.weight, None, padding=1)
        return super().forward(x)


def lay_out(network: nn.Module, device: torch.device | str) -> nn.Module:
    """Lay the weights of a trained network out as it runs fastest on a device; returns the network.

    Winograd's algorithm wants channels first, all else channels last.
    """
    convs = [m for m in network.modules() if isinstance(m, Conv3x3)]
    wide = bool(convs) and all(m.is_wide for m in convs)
    if wide and torch.device(device).type == "cpu" and _suits_this_cpu():
        return network
    return channels_last(network)
