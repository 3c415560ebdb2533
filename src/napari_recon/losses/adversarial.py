"""The game of generator and discriminator, in four forms. All take the logits of real and of fake images.

``minimax`` and ``non_saturating`` after Goodfellow et al., "Generative adversarial nets" (NeurIPS 2014); ``hinge``
after Lim and Ye, "Geometric GAN" (2017); ``relativistic`` is the averaged form of Jolicoeur-Martineau (ICLR 2019).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

Game = Callable[[Tensor, Tensor], Tensor]


class Adversarial(NamedTuple):
    """Losses of the two players, ``(real logits, fake logits) -> scalar``."""

    discriminator: Game
    generator: Game


def _tell_apart(real: Tensor, fake: Tensor) -> Tensor:
    """Cross entropy: minus log D(real) minus log(1 - D(fake))."""
    return softplus(-real).mean() + softplus(fake).mean()


def _minimax(real: Tensor, fake: Tensor) -> Tensor:
    """Log(1 - D(fake)), which hardly pulls where the discriminator is sure."""
    return -softplus(fake).mean()


def _non_saturating(real: Tensor, fake: Tensor) -> Tensor:
    """Minus log D(fake)."""
    return softplus(-fake).mean()


def _hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return torch.relu(1 - real).mean() + torch.relu(1 + fake).mean()


def _hinge_generator(real: Tensor, fake: Tensor) -> Tensor:
    return -fake.mean()


def _relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Whether a real image is more real than the fakes are on average."""
    return _tell_apart(real - fake.mean(), fake - real.mean())


def _relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    return _tell_apart(fake - real.mean(), real - fake.mean())


ADVERSARIAL: dict[str, Adversarial] = {
    "minimax": Adversarial(_tell_apart, _minimax),
    "non_saturating": Adversarial(_tell_apart, _non_saturating),
    "hinge": Adversarial(_hinge_discriminator, _hinge_generator),
    "relativistic": Adversarial(_relativistic_discriminator, _relativistic_generator),
}


def feature_matching(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Mean absolute distance between the discriminator's features of both (Wang et al., pix2pixHD, CVPR 2018)."""
    distances = [(r.detach() - f).abs().mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(distances).mean()
