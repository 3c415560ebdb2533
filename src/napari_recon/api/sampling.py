"""Sample what a noisy image may show, and make new images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_recon._version import __version__
from napari_recon.api.models import Model, load_model
from napari_recon.api.streaming import check_out, stream_samples
from napari_recon.checkpoint import TrainedModel
from napari_recon.errors import ReconError
from napari_recon.image import Image, as_image
from napari_recon.inference.generation import generate_pixels
from napari_recon.inference.guide import make_guide
from napari_recon.inference.sampling import OUTPUTS, SampleRunner
from napari_recon.inference.texture import texture_pixels
from napari_recon.progress import CancelToken, ProgressCallback, Reporter

MOST_SAMPLES = 10_000


class Samples(NamedTuple):
    """What `sample` made; None for what was not asked for.

    Each is an `Image` for an `Image`, else an array; float32, in the units of the image.

    Parameters
    ----------
    samples
        Images that may have been there, along a new first axis (S); their deviations from the mean take
        the calibrated factor of the model, so that they differ from it as much as it errs.
    mean
        The best single guess.
    median, std
        Of the samples, pixel by pixel.
    variation
        `std` over the mean above the camera's offset.
    """

    samples: Any = None
    mean: Any = None
    median: Any = None
    std: Any = None
    variation: Any = None


def sample(
    image: Any,
    model: Model,
    n: int = 16,
    *,
    outputs: Sequence[str] = ("samples", "mean", "std"),
    mean_of_samples: bool = False,
    axes: str | None = None,
    seed: int = 0,
    out: Mapping[str, str | Path] | None = None,
    scheduler: str | None = None,
    tile_size: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    on_progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Samples:
    """Sample the clean images that a noisy image may show.

    Parameters
    ----------
    image : Image, numpy, dask, zarr or xarray array
        Any axes and any real pixel type.
    model : TrainedModel, str or path
        Of the VAE family, trained on this image or on images like it.
    n : int
        Number of samples, 2 or more where a standard deviation or a median is asked for.
    outputs : sequence of str
        What to make: any of samples, mean, median, std, variation. Without samples, memory does not grow with `n`.
    mean_of_samples : bool
        Whether the mean is that of samples before calibration; else the direct head gives it in one pass.
    axes : str, optional
        Axes of an array that does not know its own, such as ``"ZYX"``.
    seed : int
        The same seed gives the same samples, however the image is tiled.
    out : mapping of str to path, optional
        Write these outputs, instead of `outputs`, into OME-Zarr stores, tile by tile, such as
        ``{"mean": "mean.ome.zarr", "std": "std.ome.zarr"}``: image and results may be larger than the memory. A run
        that was interrupted goes on where it stopped.
    scheduler : str, optional
        Address of a dask.distributed scheduler whose workers do the tiles; needs `out`.
    tile_size : int, optional
        Chosen from the free memory and the network when left out.
    device, precision : str
        ``"auto"`` chooses the fastest.
    on_progress, cancel
        Receives events; stops the run.

    Returns
    -------
    Samples
        Results of an `Image` carry in ``metadata["napari_recon"]`` how they were made. With `out` each is an `Image`,
        whose pixels stay on disk.

    Raises
    ------
    ReconError
        When model and image do not fit together, or the numbers make no sense.
    Cancelled
        When stopped.
    """
    source = as_image(image, axes)
    loaded = load_sampler(model, source)
    if out is None and not outputs:
        raise ReconError("No output was asked for.", f"Choose of: {', '.join(OUTPUTS)}.")
    wanted = outputs if out is None else list(out)
    _check(n, seed, wanted, mean_of_samples)
    if "samples" in wanted and (out or isinstance(image, Image)):
        check_sample_axis(source)
    if out or scheduler is not None:
        run = {"tile_size": tile_size, "device": device, "precision": precision, "scheduler": scheduler}
        events = {"on_progress": on_progress, "cancel": cancel}
        for path in out.values() if out else [None]:
            check_out(source, path, scheduler)
        spread = calibrated_spread(loaded)
        return Samples(**stream_samples(source, loaded, out or {}, n, seed, mean_of_samples, spread, {**run, **events}))
    guide = None
    if loaded.spec.guided:
        noise = loaded.normalization.noise if loaded.normalization else None
        guide = make_guide(
            source, noise=noise, device=device, precision=precision, on_progress=on_progress, cancel=cancel
        )
    runner = SampleRunner(
        loaded,
        source,
        guide=guide,
        count=n,
        seed=seed,
        wanted=outputs,
        mean_of_samples=mean_of_samples,
        spread=calibrated_spread(loaded),
        tile_size=tile_size,
        device=device,
        precision=precision,
    )
    arrays = runner.run(Reporter(on_progress, "sample"), cancel or CancelToken())
    done = runner.prediction(arrays[0])
    record = make_record(
        "sample",
        loaded,
        n=n,
        seed=seed,
        mean_of_samples=mean_of_samples,
        calibration=calibrated_spread(loaded),
        tile_size=done.tile_size,
        device=done.device,
        precision=done.precision,
        notes=done.notes,
    )
    return _sorted(arrays, outputs, n, source if isinstance(image, Image) else None, record)


def generate(
    model: Model,
    shape: Sequence[int] = (256, 256),
    n: int = 1,
    *,
    channel: int = 0,
    temperature: float = 1.0,
    noise: bool = False,
    tileable: bool = False,
    seed: int = 0,
    device: str = "auto",
    on_progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> NDArray[np.float32]:
    """Make new images like those that a model was trained on: from the prior of a VAE, or texture.

    Parameters
    ----------
    model : TrainedModel, str or path
        Of the VAE or the texture family.
    shape : sequence of int
        (Y, X) of each image, or (Z, Y, X) for a 3D model; any size.
    n : int
        Number of images.
    channel : int
        Which channel, for a model that takes them one by one.
    temperature : float
        Standard deviation of the latents, 0 to 2: below 1 the images are plainer, above 1 more varied than the data.
    noise : bool
        Whether to add the noise that a VAE measured on the training data; a texture has it already.
    tileable : bool
        Whether a texture shall go on without a seam where it is laid beside itself.
    seed : int
        The same seed gives the same images.
    device : str
        ``"auto"`` chooses the fastest.
    on_progress, cancel
        Receives events; stops the run.

    Returns
    -------
    numpy.ndarray
        float32 (n, *shape), or (n, C, *shape) for joint channels, in the units of the training data.

    Raises
    ------
    ReconError
        When the numbers make no sense, or the images do not fit into memory.
    Cancelled
        When stopped.
    """
    loaded = load_model(model)
    texture = loaded.spec.task == "generate"
    if not texture:
        loaded = load_sampler(loaded)
    _check(n, seed, (), False)
    sides = tuple(int(s) for s in shape)
    if len(sides) != len(loaded.spec.axes) or min(sides) < 1:
        raise ReconError(
            f"{loaded.name} cannot make an image of {' x '.join(map(str, sides))} pixels.",
            f"Give {len(loaded.spec.axes)} numbers above 0, one for each of {loaded.spec.axes}, such as "
            f"{','.join(['256'] * len(loaded.spec.axes))}.",
        )
    if not 0 <= temperature <= 2:
        raise ReconError(f"The temperature cannot be {temperature}.", "It goes from 0 to 2; 1 is as trained.")
    if texture and noise:
        raise ReconError("A texture has its noise already.", "Leave noise out.")
    if tileable and not texture:
        raise ReconError(f"{loaded.name} cannot make images without a seam.", "Train a texture, or leave tileable out.")
    make = texture_pixels if texture else generate_pixels
    switch = tileable if texture else noise
    reporter = Reporter(on_progress, "generate", total=n)
    return make(loaded, sides, n, channel, temperature, switch, seed, device, reporter, cancel or CancelToken())


def load_sampler(model: Model, *images: Image) -> TrainedModel:
    """Load a model that samples; raises `ReconError` for one of another family, or not for these images."""
    loaded = load_model(model)
    if loaded.spec.task != "sample":
        raise ReconError(
            f"{loaded.name} is made to {loaded.spec.task}, not to sample.",
            "Choose a VAE, or train one: napari_recon.train('vae', image).",
        )
    if loaded.normalization is not None:
        for image in images:  # before the work on their guides
            loaded.normalization.check_channels(image.size("C"))
    return loaded


def _check(n: int, seed: int, outputs: Sequence[str], mean_of_samples: bool) -> None:
    unknown = set(outputs) - set(OUTPUTS)
    if unknown:
        raise ReconError(f"There is no output {', '.join(sorted(unknown))}.", f"Choose of: {', '.join(OUTPUTS)}.")
    least = 2 if mean_of_samples or set(outputs) & {"median", "std", "variation"} else 1
    if not least <= n <= MOST_SAMPLES:
        raise ReconError(f"{n} samples cannot be drawn.", f"Give {least} to {MOST_SAMPLES}.")
    if not 0 <= seed < 2**63:
        raise ReconError(f"The seed cannot be {seed}.", "Give a whole number of 0 or more.")


def check_sample_axis(image: Image) -> None:
    """Raise `ReconError` for an image that has the axis already along which samples of it are to lie."""
    if "S" in image.axes:
        raise ReconError(
            f"The image {image.axes} has an axis S already, along which its samples would lie.",
            f"Call that axis T: {image.axes.replace('S', 'T')}; or leave the samples out."
            if "T" not in image.axes
            else "Take one of its images, or leave the samples out.",
        )


def calibrated_spread(model: TrainedModel) -> float:
    """Return what the standard deviation of a model's samples is multiplied by."""
    return float((model.provenance.get("calibration") or {}).get("factor", 1.0))


def make_record(verb: str, model: TrainedModel, **more: Any) -> dict[str, Any]:
    """Say how a result was made, for its metadata."""
    names = {"verb": verb, "model": model.name, "model_hash": model.hash}
    return {**names, **more, "version": __version__}


def _sorted(
    arrays: list[NDArray[np.float32]], outputs: Sequence[str], n: int, source: Image | None, record: dict[str, Any]
) -> Samples:
    """Give each array its name; for an image, also its physics."""
    made: dict[str, Any] = {}
    rest = list(arrays)
    for name in outputs:
        pixels = np.stack([rest.pop(0) for _ in range(n)]) if name == "samples" else rest.pop(0)
        made[name] = pixels if source is None else with_physics(pixels, name, source, {**record, "output": name})
    return Samples(**made)


def with_physics(pixels: NDArray[np.float32], name: str, source: Image, record: dict[str, Any]) -> Image:
    """Make an image of pixels like the source's, or of several along a new first axis (S)."""
    metadata = {**source.metadata, "napari_recon": record}
    title = f"{source.name} [{name}]"
    if pixels.ndim == source.ndim:
        return source.with_array(pixels, name=title, metadata=metadata)
    return Image(
        pixels,
        "S" + source.axes,
        scale=(1.0, *source.scale),
        translate=(0.0, *source.translate),
        units=(None, *source.units),
        name=title,
        channel_names=source.channel_names,
        metadata=metadata,
    )
