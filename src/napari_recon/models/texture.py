"""The texture family: its options, and which network they mean. Imports torch only to build one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_recon.config import Config, option
from napari_recon.models._spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class TextureConfig(Config):
    """Options of the texture family."""

    channels: int = option(
        1, "Joint channels", "1: every channel on its own. More: that many channels together.", minimum=1, maximum=8
    )
    levels: int = option(
        4, "Levels", "Doublings of the resolution: each doubles the largest structure.", minimum=1, maximum=6
    )
    features: int = option(
        16, "Features", "Feature maps at full resolution; more at coarser levels.", minimum=4, maximum=128
    )
    patch_weight: float = option(
        1.0,
        "Patch statistics",
        "Weight of the distance between small neighbourhoods at several scales (sliced Wasserstein).",
        minimum=0,
        maximum=100,
    )
    adversarial_weight: float = option(
        0.2, "Adversarial weight", "Of the game against a discriminator. 0: no game.", minimum=0, maximum=100
    )
    feature_weight: float = option(
        0.3,
        "Feature statistics",
        "Weight of the distance between what the discriminator sees in both.",
        minimum=0,
        maximum=100,
    )
    adversarial: str = option(
        "hinge",
        "Adversarial loss",
        "The game that generator and discriminator play.",
        choices=("hinge", "non_saturating", "minimax", "relativistic"),
    )
    spectrum_weight: float = option(
        0.1, "Spectrum", "Weight of the distance between mean power spectra, in nepers.", minimum=0, maximum=100
    )


def spec(config: TextureConfig) -> ModelSpec:
    """Describe the network that `config` means."""
    # Two convolutions at each level and one at the end: four cells of the coarsest.
    multiple = 2**config.levels
    return ModelSpec("generate", "YX", config.channels, multiple, 4 * multiple)


def build(config: TextureConfig) -> nn.Module:
    """Make the network, with fresh weights."""
    from napari_recon.models.texture_generator import TextureGenerator

    return TextureGenerator(config.channels, config.levels, config.features)
