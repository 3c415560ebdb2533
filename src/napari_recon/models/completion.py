"""The completion family: its options, and which network they mean. Imports torch only to build one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_recon.config import Config, option
from napari_recon.models._spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class CompletionConfig(Config):
    """Options of the completion family."""

    channels: int = option(
        1, "Joint channels", "1: every channel on its own. More: that many channels together.", minimum=1, maximum=8
    )
    depth: int = option(
        3, "Depth", "Halvings of the resolution: each doubles how far the network sees.", minimum=1, maximum=5
    )
    features: int = option(32, "Features", "Feature maps at full resolution.", minimum=4, maximum=256)
    holes: str = option(
        "auto",
        "Training holes",
        "auto: those of the image itself, moved about, else mixed. pixels: single ones. blobs: round. rectangles.",
        choices=("auto", "mixed", "pixels", "blobs", "rectangles"),
    )
    hole_share: float = option(
        0.1, "Share of holes", "Of a training patch that is hidden, for drawn holes.", minimum=0.001, maximum=0.9
    )
    hole_size: int = option(
        24, "Largest hole", "Longest side in pixels of drawn blobs and rectangles.", minimum=2, maximum=512
    )
    loss: str = option(
        "mse",
        "Loss",
        "Distance in the holes; mse fills with the mean of what may be there.",
        choices=("mse", "l1", "charbonnier"),
    )
    adversarial: str = option(
        "non_saturating",
        "Adversarial loss",
        "The game against a discriminator, where its weight is above 0.",
        choices=("non_saturating", "minimax", "hinge", "relativistic"),
    )
    adversarial_weight: float = option(
        0.0,
        "Adversarial weight",
        "Next to a distance that weighs 1. 0: faithful. 0.05: holes get texture, which is invented.",
        minimum=0,
        maximum=100,
    )


def deepest(side: int) -> int:
    """Largest depth, up to the default, whose network sees no further than an image is wide; 0 when there is none."""
    depths = range(1, CompletionConfig().depth + 1)
    return max((d for d in depths if spec(CompletionConfig(depth=d)).receptive_field <= side), default=0)


def spec(config: CompletionConfig) -> ModelSpec:
    """Describe the network that `config` means."""
    # In cells of 2**depth pixels: eight of the U-Net, one of the first guess.
    multiple = 2**config.depth
    return ModelSpec("complete", "YX", config.channels, multiple, 9 * multiple)


def build(config: CompletionConfig) -> nn.Module:
    """Make the network, with fresh weights."""
    from napari_recon.models.inpainter import Inpainter

    return Inpainter(config.channels, config.depth, config.features)
