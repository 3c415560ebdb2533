"""Results of which only what is read is computed: what live layers are made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from napari_recon._version import __version__
from napari_recon.api.denoising import checked
from napari_recon.api.models import Model, load_model, model_for
from napari_recon.api.sampling import calibrated_spread, load_sampler
from napari_recon.api.upscaling import model_at
from napari_recon.checkpoint import TrainedModel
from napari_recon.errors import ReconError
from napari_recon.image import Image, as_image
from napari_recon.inference.lazy import CACHE, LazyResult
from napari_recon.inference.runner import TileRunner
from napari_recon.inference.sampling import SampleRunner

Prepared = tuple[TileRunner, dict[str, Any]]


def lazily(
    verb: str, image: Any, model: Model | None = None, *, axes: str | None = None, limit: int = CACHE, **options: Any
) -> LazyResult:
    """Denoise, upscale or sample (the mean) only what is read of the result.

    Parameters
    ----------
    verb : {"denoise", "upscale", "sample"}
        What to do.
    image, model, axes
        As for the verb; the verb's own model when left out.
    limit : int
        Bytes of tiles to keep.
    **options
        ``keep_dtype``, ``device``, ``precision``, ``tile_size``, ``tile_overlap``; for denoise ``strength``,
        ``noise`` and ``plane_by_plane``, for upscale ``fidelity``.

    Returns
    -------
    LazyResult
        Indexing it gives, bit for bit, what the verb would give.

    Raises
    ------
    ReconError
        When model and image do not fit together; by the first reading.
    """
    source, loaded = as_image(image, axes), model_for(verb, model)
    keep = verb != "sample" and options.get("keep_dtype", False)
    dtype = source.dtype if keep else np.dtype(np.float32)
    spec = loaded.spec
    return LazyResult(
        source, spec.axes, spec.scale, dtype, lambda: prepare(verb, source, loaded, **options), limit
    )  # fmt: skip


def prepare(verb: str, source: Image, model: Model, **options: Any) -> Prepared:
    """Make the runner of a verb, and the record of how its results are made.

    Raises
    ------
    ReconError
        When they do not fit together.
    """
    if verb not in _VERBS:
        raise ReconError(f"There is no way to {verb} lazily.", f"Choose of: {', '.join(_VERBS)}.")
    runner = _VERBS[verb](source, model, **options)
    # A network of its own: to stop it in the midst of a tile must not stop others that use the model.
    runner.model = dataclasses.replace(runner.model, _network=None)
    done = runner.prediction(np.empty(0, np.float32))
    record = {
        "verb": verb,
        "model": runner.model.name,
        "model_hash": runner.model.hash,
        **options,
        "tile_size": done.tile_size,
        "device": done.device,
        "precision": done.precision,
        "noise": [n.to_json() for n in done.normalization.noise],
        "notes": done.notes,
        "version": __version__,
    }
    return runner, record


def _denoise(
    source: Image,
    model: Model,
    *,
    strength: float = 1.0,
    noise: Any = None,
    plane_by_plane: bool = False,
    tile_size: int | None = None,
    tile_overlap: int | None = None,
    keep_dtype: bool = False,
    device: str = "auto",
    precision: str = "auto",
) -> TileRunner:
    loaded = checked(source, model, strength)
    how = tile_size, tile_overlap, device, precision
    return TileRunner(loaded, source, strength, noise, [], *how, neighbours=not plane_by_plane)


def _upscale(
    source: Image,
    model: Model,
    *,
    fidelity: float = 1.0,
    tile_size: int | None = None,
    tile_overlap: int | None = None,
    keep_dtype: bool = False,
    device: str = "auto",
    precision: str = "auto",
) -> TileRunner:
    at = model_at(load_model(model), fidelity)
    return TileRunner(at, source, 1.0, None, [], tile_size, tile_overlap, device, precision)


def _sample(
    source: Image, model: Model, *, tile_size: int | None = None, device: str = "auto", precision: str = "auto"
) -> TileRunner:
    loaded = load_sampler(model, source)
    return SampleRunner(
        loaded,
        source,
        guide=_guide(source, loaded, device, precision) if loaded.spec.guided else None,
        count=1,
        seed=0,
        wanted=["mean"],
        mean_of_samples=False,
        spread=calibrated_spread(loaded),
        tile_size=tile_size,
        device=device,
        precision=precision,
    )


def _guide(source: Image, model: TrainedModel, device: str, precision: str) -> Any:
    """Denoise lazily with the shipped model, as `napari_recon.inference.guide` does it for all of an image."""
    import dask.array  # takes long to import, and most models have no guide

    noise = model.normalization.noise if model.normalization else None
    guide = lazily("denoise", source, noise=noise, plane_by_plane=True, device=device, precision=precision)
    chunks = tuple(n if axis in "YX" else 1 for axis, n in zip(source.axes, source.shape, strict=True))
    return dask.array.from_array(guide, chunks=chunks, name=False)  # type: ignore[no-untyped-call]


_VERBS: dict[str, Callable[..., TileRunner]] = {"denoise": _denoise, "upscale": _upscale, "sample": _sample}
