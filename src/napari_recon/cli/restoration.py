"""Commands that work on images."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from napari_recon.cli._common import (
    Axes,
    Device,
    Progress,
    Scheduler,
    check_attention,
    check_output,
    is_streamed,
    print_json,
    stop_on_interrupt,
    write_attention,
)
from napari_recon.io._files import check_distinct


def denoise(
    input: Path,
    output: Path,
    /,
    *,
    model: str = "universal",
    axes: Axes = None,
    strength: float = 1.0,
    adapt: Annotated[bool, Parameter(negative=())] = False,
    plane_by_plane: Annotated[bool, Parameter(negative=())] = False,
    attention: Path | None = None,
    keep_dtype: Annotated[bool, Parameter(negative=())] = False,
    tile_size: int | None = None,
    device: Device = "auto",
    scheduler: Scheduler = None,
) -> None:
    """Denoise an image file. Into OME-Zarr, tile by tile: a run that was interrupted goes on where it stopped.

    Parameters
    ----------
    input
        Image file (OME-Zarr, TIFF, OME-TIFF, PNG, JPEG).
    output
        Image file for the result; its suffix chooses the format.
    model
        A model file, or a name that `napari-recon models` lists.
    strength
        0 to 1.5; 1 removes the noise that was measured.
    adapt
        First train the model on this image for 20 seconds; kept only when clearly better on a held-out part.
    plane_by_plane
        Look at each plane of a stack or movie alone, not at what it shares with its neighbours.
    attention
        File for the map of which regions drove the result; for models trained with --attention.
    keep_dtype
        Round to the pixel type of the input.
    tile_size
        Side of a tile in pixels; chosen from the free memory when left out.
    """
    from napari_recon import api
    from napari_recon.io import check_format

    check_distinct(output, attention)
    check_output(output, input, keep_dtype)
    check_attention(attention, input, model)
    image = api.read_image(input, axes=axes)
    check_format(output, image, image.dtype if keep_dtype else "float32")
    streamed = is_streamed(output)
    with stop_on_interrupt() as cancel, Progress() as progress:
        result = api.denoise(
            image,
            model,
            strength=strength,
            adapt=adapt,
            plane_by_plane=plane_by_plane,
            keep_dtype=keep_dtype,
            out=output if streamed else None,
            scheduler=scheduler,
            tile_size=tile_size,
            device=device,
            on_progress=progress,
            cancel=cancel,
        )
        write_attention(attention, image, model, tile_size=tile_size, device=device, on_progress=progress)
    if not streamed:
        api.write_image(output, result)
    print_json({"output": str(output), "axes": result.axes, "shape": result.shape, **result.metadata["napari_recon"]})


def evaluate(reference: Path, image: Path, /, *, data_range: float | None = None, axes: Axes = None) -> None:
    """Compare an image with its reference: psnr, si_psnr, ssim, nrmse as JSON.

    Parameters
    ----------
    reference
        Image file.
    image
        Image file of the same shape.
    data_range
        Largest possible difference of pixel values; max - min of the reference when left out.
    """
    from napari_recon.io import read_image
    from napari_recon.quality.metrics import evaluate as compare

    first, second = read_image(reference, axes=axes), read_image(image, axes=axes)
    print_json(compare(first, second, data_range=data_range))


def noise(image: Path, /, *, axes: Axes = None) -> None:
    """Measure the noise of an image: gain, read noise, correlation and what follows, as JSON for each channel.

    Parameters
    ----------
    image
        Image file.
    """
    from napari_recon import api

    print_json([r.to_json() for r in api.measure_noise(api.read_image(image, axes=axes))])
