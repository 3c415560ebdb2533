"""The variational autoencoder family: its options, and which network they mean. Imports torch only to build one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_recon.config import Config, option
from napari_recon.errors import ReconError
from napari_recon.models._spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

FLAT_HALVINGS = 3
DIRECT_MULTIPLE, DIRECT_REACH = 4, 32  # the direct head halves the resolution twice


@dataclass(frozen=True)
class VAEConfig(Config):
    """Options of the VAE family."""

    network: str = option(
        "ladder",
        "Network",
        "ladder: latents at several resolutions. flat: the article's, one field of latent vectors.",
        choices=("ladder", "flat"),
    )
    dimensions: int = option(2, "Dimensions", "2: plane by plane. 3: true volumes.", choices=(2, 3))
    channels: int = option(
        1, "Joint channels", "1: every channel on its own. More: that many channels together.", minimum=1, maximum=64
    )
    levels: int = option(
        3, "Levels", "Resolutions that have latents, each half of the one below.", minimum=1, maximum=6
    )
    features: int = option(32, "Features", "Feature maps of every level.", minimum=4, maximum=256)
    latents: int = option(16, "Latents", "Latent numbers at each position of a level.", minimum=1, maximum=256)
    blocks: int = option(
        2, "Blocks", "Residual blocks of a level on the way up, and on the way down.", minimum=1, maximum=8
    )
    guided: bool = option(
        True,
        "Guided",
        "The encoder also sees what the universal denoiser makes of the image: good samples after a short training.",
    )
    guide_error: float = option(
        0.5,
        "Guide's error",
        "Error that the universal denoiser is taken to make, in standard deviations of the noise. Small: samples keep "
        "close to its answer. Large: they follow the noisy image alone.",
        minimum=0.05,
        maximum=1000,
    )
    unconditional: int = option(
        0,
        "Blind levels",
        "Finest levels that do not see the image, so that noise in step between neighbours is not coded.",
        minimum=0,
        maximum=5,
    )
    likelihood: str = option(
        "auto",
        "Noise model",
        "gaussian: of the measured strength, on the stabilised image. learned: Gaussian, its strength is learned. "
        "poisson_gaussian: shot and read noise as measured, on the image as it is. mixture: fitted to the residual of "
        "the universal denoiser. auto: gaussian.",
        choices=("auto", "gaussian", "learned", "poisson_gaussian", "mixture"),
    )
    beta: float = option(
        1.0, "Beta", "Weight of the divergence; above 1 the samples are smoother.", minimum=0, maximum=100
    )
    free_bits: float = option(
        1.0, "Free nats", "Divergence of a level in a patch that costs nothing, against collapse.", minimum=0
    )
    kl_warmup: float = option(
        0.1, "Warm-up", "Share of the training in which the weight of the divergence rises.", minimum=0, maximum=1
    )

    def __post_init__(self) -> None:
        """Check values that depend on each other."""
        super().__post_init__()
        if self.unconditional >= self.levels and self.network == "ladder":
            raise ReconError(
                f"{self.unconditional} of {self.levels} levels cannot be blind.",
                "Let at least one level see the image.",
            )
        if self.likelihood == "mixture" and not self.guided:
            raise ReconError("The mixture is fitted to the residual of the guide.", "Use guided=True with it.")


def spec(config: VAEConfig) -> ModelSpec:
    """Describe the network that `config` means."""
    axes = "YX" if config.dimensions == 2 else "ZYX"
    if config.network == "flat":
        # Two convolutions at every resolution on the way up, one on the way down.
        multiple = 2**FLAT_HALVINGS
        reach = 4 * multiple
    else:
        multiple = 2**config.levels
        # A pixel of level i is 2**(i + 1) wide and looks through the blocks of both ways, the posterior and the prior.
        reach = sum(2 ** (i + 1) * (4 * config.blocks + 2) for i in range(config.levels)) + 2
    multiple, reach = max(multiple, DIRECT_MULTIPLE), max(reach, DIRECT_REACH)
    return ModelSpec("sample", axes, config.channels, multiple, reach, guided=config.guided)


def build(config: VAEConfig) -> nn.Module:
    """Make the network, with fresh weights."""
    if config.network == "flat":
        from napari_recon.models.flat import FlatVAE

        return FlatVAE(config)
    from napari_recon.models.ladder import LadderVAE

    return LadderVAE(config)
