"""Commands of models that sample: `sample`, `generate`, `encode`, `decode`."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from napari_recon.cli._common import (
    Axes,
    Device,
    Progress,
    Scheduler,
    check_output,
    is_streamed,
    print_json,
    stop_on_interrupt,
)
from napari_recon.errors import ReconError
from napari_recon.io._files import check_distinct, check_writable

More = Annotated[Path | None, Parameter(help="Image file for it, beside the samples.")]


def sample(
    input: Path,
    output: Path | None = None,
    /,
    *,
    model: str,
    n: Annotated[int, Parameter(name=("-n", "--number"), help="Number of samples.")] = 16,
    mean: More = None,
    median: More = None,
    std: More = None,
    variation: More = None,
    mean_of_samples: Annotated[bool, Parameter(negative=())] = False,
    seed: int = 0,
    axes: Axes = None,
    tile_size: int | None = None,
    device: Device = "auto",
    scheduler: Scheduler = None,
) -> None:
    """Sample the clean images that a noisy image may show.

    When all outputs are OME-Zarr, tile by tile: a run that was interrupted goes on where it stopped.

    Parameters
    ----------
    input
        Image file.
    output
        Image file for the samples, along a new first axis; may be left out.
    model
        A model file of the VAE family, or a name that `napari-recon models` lists.
    mean_of_samples
        Make the mean from the samples instead of in one pass.
    seed
        The same seed gives the same samples.
    tile_size
        Side of a tile in pixels; chosen from the free memory when left out.
    """
    from napari_recon import api

    files = {"samples": output, "mean": mean, "median": median, "std": std, "variation": variation}
    paths = {name: path for name, path in files.items() if path is not None}
    for path in paths.values():
        check_output(path, input, keep_dtype=False)
    check_distinct(*paths.values())
    if not paths:
        raise ReconError("There is nothing to write.", "Name an output file, or give --mean FILE or --std FILE.")
    image = api.read_image(input, axes=axes)
    streamed = all(is_streamed(p) for p in paths.values())
    with stop_on_interrupt() as cancel, Progress() as progress:
        made = api.sample(
            image,
            model,
            n,
            outputs=tuple(paths),
            mean_of_samples=mean_of_samples,
            seed=seed,
            out=paths if streamed else None,
            scheduler=scheduler,
            tile_size=tile_size,
            device=device,
            on_progress=progress,
            cancel=cancel,
        )
    if not streamed:
        for name, path in paths.items():
            api.write_image(path, getattr(made, name))
    record = getattr(made, next(iter(paths))).metadata["napari_recon"]
    print_json({"outputs": {k: str(p) for k, p in paths.items()}, **record})


def generate(
    output: Path,
    /,
    *,
    model: str,
    shape: Annotated[str, Parameter(help="Y,X of each image, or Z,Y,X for a 3D model.")] = "256,256",
    n: Annotated[int, Parameter(name=("-n", "--number"), help="Number of images.")] = 1,
    channel: int = 0,
    temperature: float = 1.0,
    noise: Annotated[bool, Parameter(negative=())] = False,
    tileable: Annotated[bool, Parameter(negative=())] = False,
    seed: int = 0,
    device: Device = "auto",
) -> None:
    """Make new images like those that a model was trained on.

    Parameters
    ----------
    output
        Image file for all of them, along a first axis.
    model
        A model file of the VAE or the texture family, or a name that `napari-recon models` lists.
    channel
        Which channel, for a model that takes them one by one.
    temperature
        0 to 2; below 1 the images are plainer.
    noise
        Add the noise that a VAE measured on the training data.
    tileable
        Make a texture that goes on without a seam where it is laid beside itself.
    seed
        The same seed gives the same images.
    """
    from napari_recon import api
    from napari_recon.image import Image

    check_output(output, None, keep_dtype=False)
    sides = _numbers(shape)
    with Progress() as progress:
        pixels = api.generate(
            model,
            sides,
            n,
            channel=channel,
            temperature=temperature,
            noise=noise,
            tileable=tileable,
            seed=seed,
            device=device,
            on_progress=progress,
        )
    spatial = "YX" if len(sides) == 2 else "ZYX"
    image = Image(pixels, ("SC" if pixels.ndim > len(sides) + 1 else "S") + spatial, name=output.stem)
    api.write_image(output, image)
    print_json({"output": str(output), "axes": image.axes, "shape": image.shape, "model": model, "seed": seed})


def encode(input: Path, output: Path, /, *, model: str, step: float = 0.5, axes: Axes = None) -> None:
    """Store an image as the latents of a model: a small file, with loss. Prints ratio and PSNR.

    Parameters
    ----------
    input
        Image file.
    output
        File for the latents; gets the suffix .latents.
    model
        A model of the VAE family, or an autoencoder with a bottleneck.
    step
        How coarsely latents are rounded: smaller is truer and larger.
    """
    from napari_recon import api

    check_writable(output)
    image = api.read_image(input, axes=axes)
    with Progress() as progress:
        encoded = api.encode(image, model, step=step, on_progress=progress)
    path = encoded.save(output)
    psnr = _psnr(image, api.decode(encoded, model))
    print_json({"output": str(path), "ratio": encoded.ratio, "psnr": psnr, **_origin(encoded.about)})


def decode(input: Path, output: Path, /, *, model: str) -> None:
    """Make an image of stored latents.

    Parameters
    ----------
    input
        File that `encode` wrote.
    output
        Image file.
    model
        The model that encoded it.
    """
    from napari_recon import api

    check_output(output, input, keep_dtype=False)
    with Progress() as progress:
        image = api.decode(input, model, on_progress=progress)
    api.write_image(output, image)
    print_json({"output": str(output), "axes": image.axes, "shape": image.shape})


def _psnr(image: Any, decoded: Any) -> float | None:
    """None for an image that has none, constant or with pixels that are not finite: it was stored all the same."""
    from napari_recon.quality.metrics import psnr

    try:
        return psnr(image, decoded)
    except ReconError:
        return None


def _origin(about: dict[str, Any]) -> dict[str, Any]:
    return {k: about[k] for k in ("model", "model_hash", "step")}


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ReconError(f"{text!r} is not a shape.", "Give whole numbers, such as 256,256.") from error
