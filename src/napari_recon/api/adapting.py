"""Adapt a model to the image that it will denoise."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from napari_recon.api.streaming import Run
from napari_recon.api.training import train
from napari_recon.checkpoint import TrainedModel
from napari_recon.errors import Cancelled, ReconError
from napari_recon.image import Image
from napari_recon.inference.unfinished import SUFFIX
from napari_recon.io._files import check_writable, make_folder

MINUTES = 1 / 3
SIDE, PLANES = 1024, 16  # of what is learned from, where an image may be larger than the memory
FILE = ".adapted.safetensors"


def adapt(model: TrainedModel, image: Image, run: Run) -> TrainedModel:
    """Fine-tune a model on an image.

    Parameters
    ----------
    model, image : TrainedModel, Image
        A noise-aware model, and what it shall denoise.
    run : mapping
        device, on_progress and cancel, as for the verbs.

    Raises
    ------
    ReconError
        When the model is none that can be adapted.
    Cancelled
        When stopped.
    """
    if not model.spec.noise_aware:
        raise ReconError(f"{model.name} cannot be adapted.", "Adapt the universal model, or train longer instead.")
    adapted = train(
        model.family,
        image,
        minutes=MINUTES,
        start_from=model,
        validate_every=10,
        device=run["device"],
        on_progress=run["on_progress"],
        cancel=run["cancel"],
    )
    if adapted.stopped:
        raise Cancelled
    adapted.name = f"{model.name}, adapted"
    return adapted


def adapt_beside(out: Path, model: TrainedModel, image: Image, run: Run) -> TrainedModel:
    """Fine-tune a model on a part of an image of any size, and keep it beside the store that its result goes into.

    A run that goes on finds it there: another training would end with other weights.
    """
    kept = weights_beside(out)
    if kept.exists() and kept.with_name(out.name + SUFFIX).exists():
        return TrainedModel.load(kept)
    make_folder(kept.parent)
    check_writable(kept)
    adapted = adapt(model, excerpt(image), run)
    adapted.save(kept)
    return adapted


def weights_beside(out: Path) -> Path:
    """File of a model that was adapted for a store; to be removed when that is complete."""
    out = out.expanduser()
    return out.with_name(out.name + FILE)


def excerpt(image: Image) -> Image:
    """Load the middle of some planes of an image, evenly spread over its other axes; of a small image, all of it."""
    others = [a for a in image.axes if a not in "YXC"]
    each = int(PLANES ** (1 / max(len(others), 1)))
    cut = {a: slice(None, None, math.ceil(image.size(a) / each)) for a in others}
    for a in "YX":
        first = max(image.size(a) - SIDE, 0) // 2
        cut[a] = slice(first, first + SIDE)
    part = image.crop(cut)
    return part.with_array(np.asarray(part.array))
