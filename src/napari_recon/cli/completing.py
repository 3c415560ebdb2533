"""The command that fills marked parts."""

from pathlib import Path

from napari_recon.cli._common import Axes, Device, Progress, check_output, print_json, stop_on_interrupt


def complete(
    input: Path,
    mask: Path,
    output: Path,
    /,
    *,
    model: str | None = None,
    minutes: float = 1.0,
    seed: int = 0,
    axes: Axes = None,
    tile_size: int | None = None,
    device: Device = "auto",
) -> None:
    """Fill the marked parts of an image file; all else stays as it is, bit for bit.

    Parameters
    ----------
    input
        Image file.
    mask
        Image file that is not zero where to fill; of the shape of the input, or of one plane of it.
    output
        Image file for the result, which has the pixel type of the input.
    model
        A model file, or a name that `napari-recon models` lists. Without it one is trained on the rest of the input.
    minutes
        How long to train that one.
    seed
        Of that training: the same seed gives the same model.
    tile_size
        Side of a tile in pixels; chosen from the free memory when left out.
    """
    from napari_recon import api
    from napari_recon.io import check_format

    for source in (input, mask):
        check_output(output, source, keep_dtype=True)
    image = api.read_image(input, axes=axes)
    check_format(output, image, image.dtype)
    marked = api.read_image(mask).array
    with stop_on_interrupt() as cancel, Progress() as progress:
        result = api.complete(
            image,
            marked,
            model,
            minutes=minutes,
            seed=seed,
            tile_size=tile_size,
            device=device,
            on_progress=progress,
            cancel=cancel,
        )
    api.write_image(output, result)
    print_json({"output": str(output), "axes": result.axes, "shape": result.shape, **result.metadata["napari_recon"]})
