"""The blind-spot U-Net.

After Höck et al., "N2V2 - Fixing Noise2Void checkerboard artifacts" (ECCV workshops 2022): blurred pooling, and
no skip connection at full resolution, through which a blind-spot network would learn a checkerboard.
"""

import torch
from torch import Tensor, nn

from napari_recon.models._blocks import CONV, blur_pool, double_conv
from napari_recon.models._gates import SkipAttention
from napari_recon.models._upsampling import by_halves, conv_of_windows, upsampled_conv, upsampled_conv_at, windows


class UNet(nn.Module):
    """U-Net for images (N, C, Y, X) or volumes (N, C, Z, Y, X) whose sides are multiples of ``2**depth``.

    Parameters
    ----------
    dims : int
        2 or 3 spatial dimensions.
    channels : int
        Channels in and out.
    depth : int
        Number of halvings.
    features : int
        Feature maps at full resolution; doubled at each halving.
    top_skip : bool
        Whether the encoder's features at full resolution reach the decoder; False is N2V2.
    attention : bool
        Whether each skip connection goes through a `SkipAttention`.
    inputs : int, optional
        Channels in, where they are not as many as those out.
    """

    def __init__(
        self,
        dims: int,
        channels: int,
        depth: int,
        features: int,
        top_skip: bool,
        attention: bool = False,
        inputs: int | None = None,
    ) -> None:
        super().__init__()
        widths = [features * 2**level for level in range(depth + 1)]
        self.top_skip = top_skip
        self.encoder = nn.ModuleList(
            double_conv(dims, a, b) for a, b in zip([inputs or channels, *widths], widths[:-1], strict=False)
        )
        self.pool = nn.ModuleList(blur_pool(dims) for _ in range(depth))
        self.middle = double_conv(dims, widths[-2], widths[-1])
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.decoder = nn.ModuleList(
            double_conv(dims, widths[level + 1] + (widths[level] if self._has_skip(level) else 0), widths[level])
            for level in reversed(range(depth))
        )
        self.gates = nn.ModuleList(
            SkipAttention(dims, widths[level], widths[level + 1])
            for level in reversed(range(depth))
            if attention and self._has_skip(level)
        )
        self.tail = CONV[dims](features, channels, 1)
        self.apply(_initialise)
        nn.init.normal_(self.tail.weight, std=1e-3)

    def _has_skip(self, level: int) -> bool:
        return level > 0 or self.top_skip

    def forward(self, x: Tensor, at: Tensor | None = None) -> Tensor:
        """Return a tensor of the shape of `x`, but for its channels, or what it would hold at some pixels.

        Parameters
        ----------
        x : Tensor
            (N, C, [Z], Y, X).
        at : Tensor, optional
            (K, 1 + dims): sample and position of the pixels that are wanted; the answer is (K, C). Where they are few,
            as in blind-spot training, hardly anything of the last block is computed.
        """
        skips = []
        for block, pool in zip(self.encoder, self.pool, strict=True):
            x = block(x)
            skips.append(x)
            x = pool(x)
        x = self.middle(x)
        for n, block in enumerate(self.decoder):
            level = len(skips) - 1 - n
            skip = skips[level] if self._has_skip(level) else None
            if skip is not None and self.gates:
                skip = self.gates[n](skip, self.upsample(x))
            if level == 0 and at is not None and len(at) * 5 ** (x.ndim - 2) < skips[0][:, 0].numel():
                return self._at(x, skip, at)
            first, *others = block.children()
            x = upsampled_conv(first, x, skip)
            for layer in others:
                x = layer(x)
        out: Tensor = self.tail(x)
        return out if at is None else out.movedim(1, -1)[at.unbind(1)]

    def _at(self, x: Tensor, skip: Tensor | None, at: Tensor) -> Tensor:
        """The last block and the tail, for some pixels: each is made of the five pixels around it along each axis."""
        first, act, second, last_act = self.decoder[-1].children()
        table, row = by_halves(at)
        around = act(upsampled_conv_at(first, x, skip, table))
        # Beyond the border are zeros, not answers.
        whole, position = self.upsample(torch.ones_like(x[:1, :1])), table.flatten(0, 1)[:, 1:]
        inside = windows(whole, torch.cat([torch.zeros_like(position[:, :1]), position - 1], dim=1), 3)
        return conv_of_windows(self.tail, last_act(conv_of_windows(second, around * inside)))[row]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, a=0.1)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
