"""Upscale an image."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np

from napari_recon._version import __version__
from napari_recon.api.models import Model, load_model
from napari_recon.api.streaming import Run, check_out, stream_restored
from napari_recon.api.trust import judge, judge_lazily
from napari_recon.checkpoint import TrainedModel
from napari_recon.data.noise_estimate import NoiseEstimate
from napari_recon.errors import ReconError
from napari_recon.image import Image, as_image
from napari_recon.inference.pixel_type import cast as to_dtype
from napari_recon.inference.predict import predict
from napari_recon.inference.runner import Prediction
from napari_recon.inference.streaming import Target, like
from napari_recon.io import ome_zarr, read_image, write_image
from napari_recon.io._files import check_distinct
from napari_recon.models.gan import GANConfig, at_fidelity
from napari_recon.progress import CancelToken, ProgressCallback

SHIPPED_SCALES = (2, 4)
FAITHFUL = ".faithful.zarr"  # beside a result of a fidelity below 1, until its trust is measured


def upscale(
    image: Any,
    model: Model = "upscale-x2",
    *,
    axes: str | None = None,
    fidelity: float = 1.0,
    trust: bool = True,
    return_trust: bool = False,
    keep_dtype: bool = False,
    out: str | Path | None = None,
    trust_out: str | Path | None = None,
    scheduler: str | None = None,
    tile_size: int | None = None,
    tile_overlap: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    on_progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Any:
    """Upscale an image along Y and X.

    Parameters
    ----------
    image : Image, numpy, dask, zarr or xarray array
        Any axes and any real pixel type; planes of a stack are done one by one, with one normalisation.
    model : TrainedModel, str or path
        The model itself, its name in `list_models`, or its file; it decides the scale.
    axes : str, optional
        Axes of an array that does not know its own, such as ``"ZYX"``.
    fidelity : float
        1 for the weights that are faithful, 0 for those that look sharp and invent texture, between them interpolated.
    trust : bool
        Measure how far the result can be trusted; False saves its time.
    return_trust : bool
        Return a map of trust too. Distrusted is what disagrees with the input by more than its noise after going
        through the optics again, detail that the optics would not have passed, and texture that only the perceptual
        weights show.
    keep_dtype : bool
        Round to the pixel type of the image; values beyond its range are clipped and counted.
    out : str or path, optional
        Write the result into this OME-Zarr store, tile by tile: image and result may be larger than the memory. A run
        that was interrupted goes on where it stopped.
    trust_out : str or path, optional
        With `out`: the OME-Zarr store for the map of trust, which is measured plane by plane once the result is there.
        Left out, trust is not measured.
    scheduler : str, optional
        Address of a dask.distributed scheduler whose workers do the tiles; needs `out`.
    tile_size, tile_overlap : int, optional
        Chosen from the free memory and the network when left out.
    device, precision : str
        ``"auto"`` chooses the fastest.
    on_progress, cancel
        Receives events; stops the run.

    Returns
    -------
    Image or numpy.ndarray
        An `Image` for an `Image`, else an array; float32 unless `keep_dtype`. The scale of an `Image` is divided and
        its position moved, so that it covers the same part of the world; ``metadata["napari_recon"]`` says how it was
        made, how far it can be trusted and whether its intensities may be measured. With `out`, always an `Image`,
        whose pixels stay on disk.
    Image or numpy.ndarray
        With `return_trust`, also the trust of each pixel: 0 (made up) to 1 (shown by the input).

    Raises
    ------
    ReconError
        When model and image do not fit together, or the model has no perceptual weights for a fidelity below 1.
    Cancelled
        When stopped.
    """
    source, loaded = as_image(image, axes), load_model(model)
    config = _checked(loaded, fidelity)
    _check_stores(source, out, trust_out, return_trust, scheduler)
    options: dict[str, Any] = {
        "tile_size": tile_size,
        "device": device,
        "precision": precision,
        "on_progress": on_progress,
        "cancel": cancel,
    }
    if out is not None:
        run = {**options, "scheduler": scheduler, "keep": trust_out is not None}
        made = _into_stores(source, loaded, Path(out), trust_out, fidelity, keep_dtype, tile_overlap, run)
        return made if return_trust else made[0]

    def at(weights: float) -> Prediction:
        return predict(model_at(loaded, weights), source, tile_overlap=tile_overlap, **options)

    done = at(fidelity)
    found = None
    if trust or return_trust:
        faithful = at(1.0).array if fidelity < 1 else None
        found = judge(source, done.array, faithful, loaded, fidelity, done.normalization.noise)
    notes = done.notes + ([found.warning] if found is not None and found.warning else [])
    pixels: Any = done.array
    if keep_dtype:
        pixels, note = to_dtype(pixels, source.dtype)
        notes += [note] if note else []
    record = {
        "verb": "upscale",
        "model": loaded.name,
        "model_hash": loaded.hash,
        "scale": config.scale,
        "fidelity": fidelity,
        "keep_dtype": keep_dtype,
        "tile_size": done.tile_size,
        "device": done.device,
        "precision": done.precision,
        "noise": [n.to_json() for n in done.normalization.noise],
        "trust": found.summary() if found is not None else None,
        "notes": notes,
        "version": __version__,
    }
    result = enlarged(source, pixels, config.scale, f"{source.name} [x{config.scale}]", record)
    results = [result]
    if return_trust and found is not None:
        results.append(enlarged(source, found.pixels, config.scale, f"{source.name} [trust]", record))
    if not isinstance(image, Image):
        results = [r.array for r in results]
    return tuple(results) if return_trust else results[0]


def _check_stores(
    source: Image, out: str | Path | None, trust_out: str | Path | None, return_trust: bool, scheduler: str | None
) -> None:
    check_out(source, out, scheduler)
    check_out(source, trust_out)
    check_distinct(*(None if path is None else Path(path) for path in (out, trust_out)))
    if out is None and trust_out is not None:
        raise ReconError("Trust goes into a store when the result does.", "Give out= too, or return_trust=True.")
    if out is not None and return_trust and trust_out is None:
        raise ReconError("The map of trust needs a store too.", "Give trust_out='TRUST.ome.zarr'.")


def _into_stores(
    source: Image,
    model: TrainedModel,
    out: Path,
    trust_out: str | Path | None,
    fidelity: float,
    keep_dtype: bool,
    tile_overlap: int | None,
    run: Run,
) -> tuple[Image, ...]:
    result = _stream(source, model, out, fidelity, keep_dtype, tile_overlap, run)
    if trust_out is None:
        return (result,)
    return _stream_trust(source, model, result, out, Path(trust_out), fidelity, tile_overlap, run)


def _stream(
    source: Image,
    model: TrainedModel,
    out: Path,
    fidelity: float,
    keep_dtype: bool,
    tile_overlap: int | None,
    run: Run,
) -> Image:
    scale = model.spec.scale
    empty = like(source, source.dtype if keep_dtype else np.dtype(np.float32), scale)
    target = Target(out, enlarged(source, empty.array, scale, f"{source.name} [x{scale}]", {}))
    settings = {"scale": scale, "fidelity": fidelity, "keep_dtype": keep_dtype, "trust": None, "model_hash": model.hash}
    return stream_restored(
        "upscale", source, model_at(model, fidelity), target, settings, run, tile_overlap=tile_overlap
    )


def _stream_trust(
    source: Image,
    model: TrainedModel,
    result: Image,
    out: Path,
    trust_out: Path,
    fidelity: float,
    tile_overlap: int | None,
    run: Run,
) -> tuple[Image, Image]:
    """Fill a store with the trust of a streamed result, and say in both how far that can be trusted."""
    out, trust_out = out.expanduser(), trust_out.expanduser()
    beside = out.with_name(out.name + FAITHFUL)
    faithful = _stream(source, model, beside, 1.0, False, tile_overlap, run).array if fidelity < 1 else None
    record = dict(result.metadata["napari_recon"])

    def write(pixels: Any) -> None:
        write_image(trust_out, enlarged(source, pixels, model.spec.scale, f"{source.name} [trust]", record))

    noise = [NoiseEstimate.from_json(n) for n in record["noise"]]
    found = judge_lazily(
        source, result.array, faithful, model, fidelity, noise, write, run["on_progress"], run["cancel"]
    )
    notes = dict.fromkeys([*record["notes"], *filter(None, [found.warning])])
    record |= {"trust": found.summary(), "notes": list(notes)}
    for path in (out, trust_out):
        ome_zarr.change_record(path, record)
    shutil.rmtree(beside, ignore_errors=True)
    return read_image(out), read_image(trust_out)


def shipped_upscaler(scale: int) -> TrainedModel:
    """Load the model that ships with napari-recon for a scale; raises `ReconError` when there is none."""
    if scale not in SHIPPED_SCALES:
        raise ReconError(
            f"No model for scale {scale} ships with napari-recon.",
            "Use 2 or 4, or train one for 3: napari-recon train gan IMAGES --scale 3 --out MODEL.",
        )
    return load_model(f"upscale-x{scale}")


def _checked(model: TrainedModel, fidelity: float) -> GANConfig:
    if model.spec.task != "upscale":
        raise ReconError(f"{model.name} is made to {model.spec.task}, not to upscale.", "Choose another model.")
    config = cast(GANConfig, model.config)
    if not 0 <= fidelity <= 1:
        raise ReconError(f"The fidelity cannot be {fidelity}.", "It goes from 0 (sharp) to 1 (faithful).")
    if fidelity < 1 and not config.perceptual:
        raise ReconError(
            f"{model.name or 'This model'} has no perceptual weights, only faithful ones.",
            "Use fidelity=1, or a model trained with perceptual=True.",
        )
    return config


def model_at(model: TrainedModel, fidelity: float) -> TrainedModel:
    """Return an upscaler that has only the weights of a fidelity; raises `ReconError` when it has none."""
    config = _checked(model, fidelity)
    if not config.perceptual:
        return model
    single, weights = at_fidelity(config, model.weights, fidelity)
    return dataclasses.replace(model, config=single, weights=weights, _network=None)


def enlarged(source: Image, pixels: Any, scale: int, name: str, record: dict[str, Any]) -> Image:
    """Make an image of `scale` times the pixels over the same part of the world.

    Positions are those of pixel centres: the first small pixel lies half a large one less half a small one further out.
    """
    sizes = tuple(s / scale if axis in "YX" else s for s, axis in zip(source.scale, source.axes, strict=True))
    places = zip(source.translate, source.scale, sizes, strict=True)
    return source.with_array(
        pixels,
        name=name,
        scale=sizes,
        translate=tuple(t - (old - new) / 2 for t, old, new in places),
        metadata={**source.metadata, "napari_recon": record},
    )
