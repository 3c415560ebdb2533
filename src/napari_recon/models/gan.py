"""The GAN family: its options, and which network they mean. Imports torch only to build one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_recon.config import Config, option
from napari_recon.errors import ReconError
from napari_recon.models._spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class GANConfig(Config):
    """Options of the GAN family."""

    scale: int = option(2, "Scale", "Output pixels per input pixel along Y and X.", choices=(2, 3, 4))
    network: str = option(
        "residual",
        "Network",
        "compact: fastest. residual: SRResNet without batch normalisation. rrdb: dense blocks, slow and best.",
        choices=("compact", "residual", "rrdb"),
    )
    channels: int = option(
        1, "Joint channels", "1: every channel on its own. More: that many channels together.", minimum=1, maximum=8
    )
    features: int = option(48, "Features", "Feature maps of a layer; an even number.", minimum=4, maximum=256)
    blocks: int = option(4, "Blocks", "Number of blocks of the generator.", minimum=1, maximum=32)
    attention: bool = option(False, "Attention", "Weigh the pixels inside each block by a learned gate.")

    def __post_init__(self) -> None:
        """Check values that depend on each other."""
        super().__post_init__()
        if self.features % 2:
            raise ReconError(f"There cannot be {self.features} features.", "Use an even number.")


REACH = {"compact": 1, "residual": 2, "rrdb": 6}  # pixels that a block sees beyond its own; a gate adds 3


def spec(config: GANConfig) -> ModelSpec:
    """Describe the network that `config` means."""
    reach = 3 + config.blocks * (REACH[config.network] + 3 * config.attention)
    return ModelSpec("upscale", "YX", config.channels, 1, reach, scale=config.scale)


def build(config: GANConfig) -> nn.Module:
    """Make the network, with fresh weights."""
    from napari_recon.models.generators import Generator, Upscaler

    def generator() -> Generator:
        c = config
        return Generator(c.network, c.channels, c.features, c.blocks, c.scale, c.attention)

    return Upscaler(generator())
