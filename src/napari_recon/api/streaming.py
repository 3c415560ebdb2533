"""The verbs on images of any size: tile by tile into OME-Zarr, in this process or on the workers of a cluster."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_recon._version import __version__
from napari_recon.checkpoint import TrainedModel
from napari_recon.data.noise_estimate import NoiseEstimate
from napari_recon.data.normalization import Normalization
from napari_recon.errors import ReconError
from napari_recon.image import Image
from napari_recon.inference.runner import TileRunner
from napari_recon.inference.sampling import SampleRunner
from napari_recon.inference.streaming import Make, Target, here, like, stream
from napari_recon.io import FORMATS, read_image
from napari_recon.io._files import alone, check_distinct, check_local
from napari_recon.io.ome_zarr import stores_of
from napari_recon.library import find_model

FLOAT = np.dtype(np.float32)
GUIDE = ".guide.zarr"
Run = Mapping[str, Any]  # tile_size, device, precision, scheduler, on_progress, cancel


def stream_restored(
    verb: str,
    source: Image,
    model: TrainedModel,
    target: Target,
    settings: Mapping[str, Any],
    run: Run,
    *,
    strength: float = 1.0,
    noise: Sequence[NoiseEstimate] | None = None,
    tile_overlap: int | None = None,
    neighbours: bool = False,
    origin: str | None = None,
) -> Image:
    """Fill a store with what a model makes of an image; return it, lazily.

    Parameters
    ----------
    verb, settings
        For the record, besides what holds of all verbs.
    source, model, strength, noise, tile_overlap, neighbours
        See `napari_recon.inference.predict.predict`.
    target : Target
        The store.
    run : mapping
        tile_size, device, precision, scheduler, on_progress and cancel, as for the verbs.
    origin : str, optional
        Hash of what `model` was adapted from: a run goes on only from the same.
    """
    model = dataclasses.replace(model, _network=None)
    make = partial(_restorer, model, source, strength, noise, tile_overlap, neighbours, run["device"], run["precision"])
    more = {"overlap": tile_overlap, "noise": [n.to_json() for n in noise or ()], "adapted from": origin}
    return _stores(verb, make, source, model, [target], {"verb": verb, **settings}, more, run)[0]


def stream_samples(
    source: Image,
    model: TrainedModel,
    out: Mapping[str, str | Path],
    n: int,
    seed: int,
    mean_of_samples: bool,
    spread: float,
    run: Run,
) -> dict[str, Image]:
    """Fill a store for each output of `napari_recon.sample`; return them by name, lazily."""
    paths = {name: Path(path).expanduser() for name, path in out.items()}
    model = dataclasses.replace(model, _network=None)
    guide = _guide(source, model, next(iter(paths.values())), run) if model.spec.guided else None
    pixels = guide.array if guide is not None else None
    more = {"count": n, "seed": seed, "wanted": list(paths), "mean_of_samples": mean_of_samples, "spread": spread}
    make = partial(_sampler, model, source, pixels, more, run["device"], run["precision"])
    targets, first = [], 0
    for name, path in paths.items():
        result = like(source, FLOAT, name=f"{source.name} [{name}]")
        many = n if name == "samples" else 0
        targets.append(Target(path, _along_samples(result, n) if many else result, first, many))
        first += many or 1
    settings = {"verb": "sample", "n": n, "seed": seed, "mean_of_samples": mean_of_samples, "calibration": spread}
    made = _stores("sample", make, source, model, targets, settings, {"outputs": list(paths)}, run)
    shutil.rmtree(_guide_path(next(iter(paths.values()))), ignore_errors=True)
    return dict(zip(paths, made, strict=True))


def check_out(source: Image, path: str | Path | None, scheduler: str | None = None) -> None:
    """Raise when what is made of `source` cannot go there tile by tile."""
    if path is None and scheduler is not None:
        raise ReconError("A scheduler needs a store that its tiles go into.", "Give out='NAME.ome.zarr' too.")
    if path is not None and not any(f.folder for s, f in FORMATS.items() if str(path).lower().endswith(s)):
        raise ReconError(f"Tiles cannot go into {path}.", "Give a name that ends in .ome.zarr.")
    if path is not None:
        check_local(Path(path))
        store = Path(path).expanduser().resolve()
        if any(store in (folder, *folder.parents) for folder in stores_of(source.array)):
            raise ReconError(f"{path} is the input image itself.", "Give the result another name.")


def _stores(
    verb: str,
    make: Make,
    source: Image,
    model: TrainedModel,
    targets: Sequence[Target],
    settings: Mapping[str, Any],
    more: Mapping[str, Any],
    run: Run,
) -> list[Image]:
    check_distinct(*(target.path for target in targets))

    def record(runner: TileRunner, notes: list[str]) -> dict[str, Any]:
        noise = [n.to_json() for n in runner.normalization.noise]
        done = runner.prediction(np.empty(0, np.float32))
        how = {"tile_size": done.tile_size, "device": done.device, "precision": done.precision, "noise": noise}
        names = {"model": model.name, "model_hash": model.hash}
        return {**names, **settings, **how, "notes": notes, "version": __version__}

    with ExitStack() as held:
        for target in targets:
            held.enter_context(alone(target.path.expanduser()))
        stream(
            make,
            source,
            targets,
            {**settings, **more, "model": model.hash, "precision": run["precision"]},
            record,
            tile_size=run["tile_size"],
            workers=_workers(run["scheduler"]),
            keep=run.get("keep", False),
            on_progress=run["on_progress"],
            cancel=run["cancel"],
        )
    return [read_image(t.path) for t in targets]


def _workers(scheduler: str | None) -> Any:
    if scheduler is None:
        return here
    from napari_recon.inference.cluster import on_cluster

    return on_cluster(scheduler)


def _guide(source: Image, model: TrainedModel, beside: Path, run: Run) -> Image:
    """What the universal denoiser makes of the image, in a store of its own that a run which goes on finds again."""
    universal = TrainedModel.load(find_model("universal"))
    noise = model.normalization.noise if model.normalization else None
    path = _guide_path(beside)
    target = Target(path, like(source, FLOAT))
    return stream_restored(
        "guide", source, universal, target, {}, {**run, "tile_size": None, "keep": True}, noise=noise
    )


def _guide_path(beside: Path) -> Path:
    return beside.with_name(beside.name + GUIDE)


def _along_samples(image: Image, count: int) -> Image:
    return Image(
        np.broadcast_to(image.array[None], (count, *image.shape)),
        "S" + image.axes,
        scale=(1.0, *image.scale),
        translate=(0.0, *image.translate),
        units=(None, *image.units),
        name=image.name,
        channel_names=image.channel_names,
        metadata=image.metadata,
    )


def _with(model: TrainedModel, normalization: Normalization | None) -> TrainedModel:
    return model if normalization is None else dataclasses.replace(model, normalization=normalization)


def _restorer(
    model: TrainedModel,
    image: Image,
    strength: float,
    noise: Sequence[NoiseEstimate] | None,
    tile_overlap: int | None,
    neighbours: bool,
    device: str,
    wanted: str,
    *,
    normalization: Normalization | None,
    tile_size: int | None,
    precision: str | None,
) -> TileRunner:
    model = _with(model, normalization)
    how = tile_size, tile_overlap, device, precision or wanted
    return TileRunner(model, image, strength, noise, [], *how, neighbours=neighbours)


def _sampler(
    model: TrainedModel,
    image: Image,
    guide: Any,
    options: Mapping[str, Any],
    device: str,
    wanted: str,
    *,
    normalization: Normalization | None,
    tile_size: int | None,
    precision: str | None,
) -> TileRunner:
    model = _with(model, normalization)
    return SampleRunner(
        model, image, guide=guide, tile_size=tile_size, device=device, precision=precision or wanted, **options
    )
