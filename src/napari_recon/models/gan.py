"""The GAN family: its options, and which network they mean. Imports torch only to build one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_recon.config import Config, option
from napari_recon.errors import ReconError
from napari_recon.models._spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

OPTICS = "Optics"


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
    attention: bool = option(
        False, "Attention", "Weigh the pixels inside each block by a learned gate; the gates can be shown as a map."
    )
    keeps_light: bool = option(
        False,
        "Keep the light",
        "Each input pixel becomes the mean of the pixels made of it, unless the image is noisy. For optics that blur "
        "by less than a high-resolution pixel.",
    )
    loss: str = option(
        "charbonnier",
        "Loss",
        "Distance between prediction and target.",
        choices=("charbonnier", "l1", "mse", "ms_ssim"),
    )
    psf_sigma: float = option(
        0.5,
        "Blur",
        "Standard deviation of the PSF in high-resolution pixels.",
        minimum=0,
        maximum=100,
        group=OPTICS,
    )
    na: float | None = option(
        None,
        "Aperture",
        "Numerical aperture; with wavelength and pixel size it sets the blur.",
        minimum=0.01,
        maximum=2,
        group=OPTICS,
    )
    wavelength: float | None = option(
        None, "Wavelength", "Of the emitted light, in nm.", minimum=10, maximum=1e5, group=OPTICS
    )
    pixel_size: float | None = option(
        None,
        "Pixel size",
        "Of the high-resolution image, in nm of the specimen.",
        minimum=0.1,
        maximum=1e6,
        group=OPTICS,
    )
    psf_file: str = option(
        "", "Measured PSF", "Image file of the PSF in focus; takes the place of the blur.", group=OPTICS
    )
    photons: float | None = option(
        None,
        "Photons",
        "Per low-resolution pixel of mean intensity; empty: no noise.",
        minimum=0.1,
        maximum=1e9,
        group=OPTICS,
    )
    read_noise: float = option(0.0, "Read noise", "Of the camera, in photons.", minimum=0, maximum=1e6, group=OPTICS)
    perceptual: bool = option(
        False,
        "Perceptual stage",
        "After learning to be faithful, learn to look sharp against a discriminator; kept as a second set of weights.",
    )
    fidelity_share: float = option(
        0.6, "Faithful first", "Share of the budget before the perceptual stage.", minimum=0.1, maximum=0.95
    )
    discriminator: str = option(
        "unet",
        "Discriminator",
        "patch: judges small patches. unet: judges every pixel in its surroundings.",
        choices=("unet", "patch"),
    )
    adversarial: str = option(
        "non_saturating",
        "Adversarial loss",
        "minimax: the original. non_saturating: the same game with gradients that last. hinge, relativistic.",
        choices=("non_saturating", "minimax", "hinge", "relativistic"),
    )
    adversarial_weight: float = option(
        0.02, "Adversarial weight", "Next to a distance that weighs 1.", minimum=0, maximum=100
    )
    feature_weight: float = option(
        0.1, "Feature matching", "Weight of the distance in the discriminator's features.", minimum=0, maximum=100
    )
    consistency_weight: float = option(
        1.0, "Consistency", "Weight of the distance from the input after degrading the result.", minimum=0, maximum=100
    )

    def __post_init__(self) -> None:
        """Check values that depend on each other."""
        super().__post_init__()
        if self.features % 2:
            raise ReconError(f"There cannot be {self.features} features.", "Use an even number.")
        optics = {"Aperture (na)": self.na, "Wavelength (wavelength)": self.wavelength}
        optics["Pixel size (pixel_size)"] = self.pixel_size
        missing = [name for name, value in optics.items() if value is None]
        if missing and len(missing) < len(optics):
            raise ReconError(
                f"{' and '.join(missing)} must be given too.",
                "Aperture, wavelength and pixel size set the blur together: give all three, or none of them.",
            )


SETTLED = frozenset({"network", "channels", "features", "blocks", "attention"})
"""Options that the shipped upscalers settle: their network."""

REACH = {"compact": 1, "residual": 2, "rrdb": 6}  # pixels that a block sees beyond its own; a gate adds 3


def spec(config: GANConfig) -> ModelSpec:
    """Describe the network that `config` means."""
    reach = 3 + config.blocks * (REACH[config.network] + 3 * config.attention)
    more = {"keeps_light": config.keeps_light, "attention": config.attention}
    return ModelSpec("upscale", "YX", config.channels, 1, reach, scale=config.scale, **more)


def at_fidelity(config: GANConfig, weights: dict[str, Tensor], fidelity: float) -> tuple[GANConfig, dict[str, Tensor]]:
    """Turn a model with perceptual weights into one of a single set, somewhere between the two.

    Parameters
    ----------
    config, weights : GANConfig, dict of str to Tensor
        Of a model.
    fidelity : float
        1 for the faithful weights, 0 for the perceptual ones, between them interpolated.
    """
    single = {k: w.float() for k, w in weights.items() if k.startswith("generator.")}
    for key, difference in weights.items():
        if key.startswith("difference."):
            name = "generator." + key.removeprefix("difference.")
            single[name] = single[name] + (1 - fidelity) * difference.float()
    return replace(config, perceptual=False), single


def build(config: GANConfig) -> nn.Module:
    """Make the network, with fresh weights."""
    from napari_recon.models.generators import Generator, Upscaler

    def generator() -> Generator:
        c = config
        return Generator(c.network, c.channels, c.features, c.blocks, c.scale, c.attention)

    return Upscaler(generator(), generator() if config.perceptual else None)
