"""The autoencoder family: its options, and which network they mean. Imports torch only to build one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_recon.config import Config, option
from napari_recon.errors import ReconError
from napari_recon.models._spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class AutoencoderConfig(Config):
    """Options of the autoencoder family."""

    network: str = option(
        "unet",
        "Network",
        "unet: blind-spot U-Net. bottleneck: the article's autoencoder with a short code. "
        "universal: bias-free network of the shipped denoiser.",
        choices=("unet", "bottleneck", "universal"),
    )
    dimensions: int = option(2, "Dimensions", "2: plane by plane. 3: true volumes.", choices=(2, 3))
    channels: int = option(
        1, "Joint channels", "1: every channel on its own. More: that many channels together.", minimum=1, maximum=64
    )
    depth: int = option(2, "Depth", "Number of times the U-Net halves the resolution.", minimum=1, maximum=5)
    features: int = option(32, "Features", "Feature maps of the first layer.", minimum=4, maximum=256)
    top_skip: bool = option(
        False,
        "Top skip",
        "Skip connection at full resolution; sharper with clean targets, harmful in blind-spot training.",
    )
    attention: bool = option(
        False, "Attention", "Weigh each skip connection by a learned gate; the gates can be shown as a map."
    )
    code_length: int = option(
        128, "Code length", "Numbers per code of the bottleneck network.", minimum=1, maximum=4096
    )
    image_size: int = option(
        32, "Coded patch", "Side of the patch that one code describes; a multiple of 4.", minimum=4, maximum=256
    )
    objective: str = option(
        "auto",
        "Learn by",
        "blind_spot: predict hidden pixels. pairs: predict the target. reconstruction: predict the input. "
        "auto: pairs with a target, reconstruction for the bottleneck, blind_spot otherwise.",
        choices=("auto", "blind_spot", "pairs", "reconstruction"),
    )
    loss: str = option("mse", "Loss", "Distance between prediction and target.", choices=("mse", "l1", "charbonnier"))
    normalization: str = option(
        "auto",
        "Intensities",
        "standard: zero mean, unit variance. stabilised: noise of equal strength everywhere. "
        "auto: stabilised for blind-spot training, else standard.",
        choices=("auto", "standard", "stabilised"),
    )
    mask_fraction: float = option(
        0.02, "Hidden pixels", "Share of the pixels hidden in a patch.", minimum=0.001, maximum=0.2
    )
    mask_axis: str = option(
        "auto",
        "Mask along",
        "Also hide the neighbours along an axis, for noise that is correlated in that direction; auto: as measured.",
        choices=("auto", "none", "x", "y", "both"),
    )
    mask_length: int = option(2, "Mask reach", "Neighbours hidden on each side along that axis.", minimum=1, maximum=10)

    def __post_init__(self) -> None:
        """Check values that depend on each other."""
        super().__post_init__()
        if self.network != "unet" and self.dimensions == 3:
            raise ReconError(f"The {self.network} network is 2D only.", "Use network='unet' or dimensions=2.")
        if self.network == "universal" and self.channels != 1:
            raise ReconError("The universal network takes one channel at a time.", "Use channels=1.")
        if self.attention and self.network != "unet":
            raise ReconError(f"The {self.network} network has no attention.", "Use network='unet' or attention=False.")
        if self.attention and self.depth == 1 and not self.top_skip:
            raise ReconError(
                "A U-Net of depth 1 without top_skip has no skip connection that attention could weigh.",
                "Use depth=2 or more, or top_skip=True.",
            )
        if self.image_size % 4:
            raise ReconError(f"The coded patch cannot be {self.image_size} wide.", "Use a multiple of 4.")


SETTLED = frozenset(o.name for o in AutoencoderConfig.options()) - {"loss", "mask_fraction", "mask_axis", "mask_length"}
"""Options that the universal denoiser settles: its network, and that it learns from the noise."""


def spec(config: AutoencoderConfig) -> ModelSpec:
    """Describe the network that `config` means."""
    if config.network == "unet":
        # At each level two convolutions, blur, nearest upsampling and two convolutions; two more at the bottom.
        multiple, reach = 2**config.depth, 6 * (2**config.depth - 1) + 2 * 2**config.depth
    elif config.network == "bottleneck":
        multiple, reach = config.image_size, 0
    else:
        multiple, reach = 8, 90
    axes = "YX" if config.dimensions == 2 else "ZYX"
    return ModelSpec(
        "denoise",
        axes,
        config.channels,
        multiple,
        reach,
        noise_aware=config.network == "universal",
        attention=config.attention,
    )


def build(config: AutoencoderConfig) -> nn.Module:
    """Make the network, with fresh weights."""
    if config.network == "bottleneck":
        from napari_recon.models.bottleneck import Bottleneck

        return Bottleneck(config.channels, config.image_size, config.code_length, config.features)
    if config.network == "universal":
        from napari_recon.models.universal import UniversalUNet

        return UniversalUNet()
    from napari_recon.models.unet import UNet

    c = config
    return UNet(c.dimensions, c.channels, c.depth, c.features, c.top_skip, c.attention)
