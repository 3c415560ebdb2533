"""Explore what the latents of a VAE mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_recon.api.models import Model
from napari_recon.api.sampling import check_sample_axis, load_sampler, make_record, with_physics
from napari_recon.axes import to_batch
from napari_recon.errors import ReconError
from napari_recon.image import Image, as_image
from napari_recon.inference.guide import make_guide
from napari_recon.inference.latents import Change, LatentRunner
from napari_recon.losses.divergence import kl_divergence
from napari_recon.models._latent import Latent
from napari_recon.progress import CancelToken, ProgressCallback, Reporter

Factor = tuple[int, int]
"""Level of a latent (0 is the finest), and its number there."""

LOOKED_AT = 256  # side of the region that shows which latents carry information
MOST_STEPS = 1000


def latent_factors(image: Any, model: Model, *, axes: str | None = None) -> list[tuple[Factor, float]]:
    """List the latents of a model by how much they tell of an image.

    Parameters
    ----------
    image : Image or array
        The middle of its first plane is looked at.
    model : TrainedModel, str or path
        Of the VAE family.
    axes : str, optional
        Axes of an array that does not know its own.

    Returns
    -------
    list of ((level, number), nats)
        From the most to the least telling; nats a pixel of the image. Level 0 is the finest.
    """
    source = as_image(image, axes)
    loaded = load_sampler(model, source)
    batch = to_batch(source.array, source.axes, loaded.spec.axes)
    middle = (slice(max(n - LOOKED_AT, 0) // 2, max(n - LOOKED_AT, 0) // 2 + LOOKED_AT) for n in batch.shape[2:])
    region = Image(np.asarray(batch[(slice(0, 1), slice(None), *middle)]), "SC" + loaded.spec.axes)
    told: dict[Factor, float] = {}

    def note(images: list[list[Latent]]) -> list[list[Tensor]]:
        for level, latent in enumerate(images[0]):
            if latent.posterior is not None:
                nats = kl_divergence(*latent.posterior, *latent.prior).transpose(0, 1).flatten(1).sum(1)
                for number, value in enumerate(nats.tolist()):
                    told[level, number] = told.get((level, number), 0.0) + value / region.array.size
        return [[latent.z for latent in images[0]]]

    _run(loaded, [region], note, 1, "auto", None, None)
    return sorted(told.items(), key=lambda item: -item[1])


def traverse(
    image: Any,
    model: Model,
    dimension: int | Factor = 0,
    *,
    steps: int = 9,
    span: float = 3.0,
    axes: str | None = None,
    device: str = "auto",
    on_progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Any:
    """Show what one latent does: move it everywhere in the image, and keep all others.

    Parameters
    ----------
    image : Image or array
        Where to start from.
    model : TrainedModel, str or path
        Of the VAE family.
    dimension : int or (int, int)
        Place in `latent_factors`: 0 is the latent that tells most of this image. Or the latent itself: its level and
        its number there.
    steps : int
        Number of images.
    span : float
        How far to go each way, in standard deviations of the latent's prior.
    axes : str, optional
        Axes of an array that does not know its own.
    device : str
        ``"auto"`` chooses the fastest.
    on_progress, cancel
        Receives events; stops the run.

    Returns
    -------
    Image or numpy.ndarray
        The images along a new first axis (S), float32.

    Raises
    ------
    ReconError
        When there is no such latent, or the numbers make no sense.
    """
    source = as_image(image, axes)
    loaded = load_sampler(model, source)
    _check_steps(steps)
    if isinstance(image, Image):
        check_sample_axis(source)
    if not 0 < span <= 100:
        raise ReconError(f"The span cannot be {span}.", "Give a number above 0, such as 3.")
    if isinstance(dimension, tuple):
        level, number = dimension
    else:
        factors = latent_factors(source, loaded)
        if not 0 <= dimension < len(factors):
            raise ReconError(f"There is no dimension {dimension}.", f"{loaded.name} has {len(factors)}, from 0.")
        level, number = factors[dimension][0]

    def move(images: list[list[Latent]]) -> list[list[Tensor]]:
        there = [latent.z.shape[1] for latent in images[0]]
        if not (0 <= level < len(there) and 0 <= number < there[level]):
            raise ReconError(f"{loaded.name} has no latent {number} at level {level}.", "See `latent_factors`.")
        moved = []
        for offset in np.linspace(-span, span, steps):
            latents = [latent.z.clone() for latent in images[0]]
            latents[level][:, number] += float(offset) * (0.5 * images[0][level].prior.logvar[:, number]).exp()
            moved.append(latents)
        return moved

    pixels = _run(loaded, [source], move, steps, device, on_progress, cancel)
    record = make_record("traverse", loaded, level=level, number=number, steps=steps, span=span)
    return with_physics(pixels, "traversal", source, record) if isinstance(image, Image) else pixels


def interpolate(
    first: Any,
    second: Any,
    model: Model,
    steps: int = 9,
    *,
    axes: str | None = None,
    device: str = "auto",
    on_progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Any:
    """Go from one image to another through the latents of a VAE.

    Parameters
    ----------
    first, second : Image or array
        Of one shape.
    model : TrainedModel, str or path
        Of the VAE family.
    steps : int
        Number of images, with both ends.
    axes : str, optional
        Axes of arrays that do not know their own.
    device : str
        ``"auto"`` chooses the fastest.
    on_progress, cancel
        Receives events; stops the run.

    Returns
    -------
    Image or numpy.ndarray
        The images along a new first axis (S), float32, with the physics of `first`.

    Raises
    ------
    ReconError
        When the images differ in shape, or the number of steps makes no sense.
    """
    a, b = as_image(first, axes), as_image(second, axes)
    loaded = load_sampler(model, a, b)
    _check_steps(steps)
    if (a.axes, a.shape) != (b.axes, b.shape):
        raise ReconError(
            f"The images differ: {a.axes} {a.shape} and {b.axes} {b.shape}.", "Choose two of the same axes and size."
        )
    shares = np.linspace(0, 1, steps)

    def mix(images: list[list[Latent]]) -> list[list[Tensor]]:
        pairs = list(zip(*images, strict=True))
        return [[torch.lerp(x.z, y.z, float(t)) for x, y in pairs] for t in shares]

    pixels = _run(loaded, [a, b], mix, steps, device, on_progress, cancel)
    record = make_record("interpolate", loaded, to=b.name, steps=steps)
    return with_physics(pixels, f"to {b.name}", a, record) if isinstance(first, Image) else pixels


def _check_steps(steps: int) -> None:
    if not 2 <= steps <= MOST_STEPS:
        raise ReconError(f"{steps} steps cannot be made.", f"Give 2 to {MOST_STEPS}.")


def _run(
    model: Any,
    images: Sequence[Image],
    change: Change,
    outputs: int,
    device: str,
    on_progress: ProgressCallback | None,
    cancel: CancelToken | None,
) -> Any:
    noise = model.normalization.noise
    guides = [make_guide(i, noise=noise, device=device, cancel=cancel) for i in images] if model.spec.guided else []
    runner = LatentRunner(model, images, guides, change, outputs, device)
    return np.stack(runner.run(Reporter(on_progress, "explore"), cancel or CancelToken()))
