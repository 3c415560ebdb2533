"""The registry of model families. Importing it does not import torch; building a network does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_recon.config import Config
from napari_recon.errors import ReconError
from napari_recon.models import autoencoder, completion, gan, texture, vae
from napari_recon.models._spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

__all__ = ["MODELS", "Family", "ModelSpec", "get_family"]


@dataclass(frozen=True)
class Family:
    """One family of models.

    Parameters
    ----------
    config : type
        Its `Config` dataclass.
    spec, build : callable
        From a config to a `ModelSpec`, and to a network with fresh weights.
    verb : str
        What its models do to a layer.
    label : str
        What to train, for people.
    summary : str
        What training one of them is for, in a sentence.
    training : mapping
        Options of `TrainConfig` whose defaults do not suit it, with those that do.
    start : str
        Name of the shipped model that a training starts from, with its options in braces; empty for none.
    settled : frozenset of str
        Options of the config that this model settles: who chooses one of them starts from nothing.
    """

    config: type[Config]
    spec: Callable[[Any], ModelSpec]
    build: Callable[[Any], nn.Module]
    verb: str
    label: str
    summary: str
    training: Mapping[str, float] = field(default_factory=dict)
    start: str = ""
    settled: frozenset[str] = frozenset()


MODELS: dict[str, Family] = {
    "autoencoder": Family(
        autoencoder.AutoencoderConfig,
        autoencoder.spec,
        autoencoder.build,
        "denoise",
        "Autoencoder: denoise",
        "Train an autoencoder to denoise, on noisy images alone or with clean targets.",
        start="universal",
        settled=autoencoder.SETTLED,
    ),
    "vae": Family(
        vae.VAEConfig,
        vae.spec,
        vae.build,
        "sample",
        "VAE: sample",
        "Train a variational autoencoder to sample what a noisy image may show, and to generate images like it.",
        {"learning_rate": 2e-3, "batch_size": 8},
    ),
    "gan": Family(
        gan.GANConfig,
        gan.spec,
        gan.build,
        "upscale",
        "GAN: upscale",
        "Train a generator to upscale, on high-resolution images alone; adversarially on request.",
        start="upscale-x{scale}",
        settled=gan.SETTLED,
    ),
    "texture": Family(
        texture.TextureConfig,
        texture.spec,
        texture.build,
        "generate",
        "GAN: texture",
        "Train a network to generate texture of any size, on an image that shows it.",
        {"learning_rate": 2e-3, "batch_size": 4, "patch_size": 128},
    ),
    "completion": Family(
        completion.CompletionConfig,
        completion.spec,
        completion.build,
        "complete",
        "GAN: completion",
        "Train a network to fill holes, on the rest of the image alone; adversarially on request.",
        {"learning_rate": 2e-3, "batch_size": 8},
    ),
}


def get_family(name: str) -> Family:
    """Look a family up by name; raises `ReconError` for an unknown one."""
    if name not in MODELS:
        raise ReconError(f"There is no model family {name!r}.", f"Choose one of: {', '.join(MODELS)}.")
    return MODELS[name]
