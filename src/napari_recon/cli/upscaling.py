"""The command that upscales."""

from pathlib import Path
from typing import Annotated, Any

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
from napari_recon.errors import ReconError
from napari_recon.io._files import check_distinct


def upscale(
    input: Path,
    output: Path,
    /,
    *,
    scale: int | None = None,
    model: str | None = None,
    fidelity: float = 1.0,
    trust: Path | None = None,
    attention: Path | None = None,
    axes: Axes = None,
    keep_dtype: Annotated[bool, Parameter(negative=())] = False,
    tile_size: int | None = None,
    device: Device = "auto",
    scheduler: Scheduler = None,
) -> None:
    """Upscale an image file. Into OME-Zarr, tile by tile: a run that was interrupted goes on where it stopped.

    Parameters
    ----------
    input
        Image file (OME-Zarr, TIFF, OME-TIFF, PNG, JPEG).
    output
        Image file for the result; its suffix chooses the format.
    scale
        Which of the shipped models: 2 (when left out) or 4. A model that is given has its own scale.
    model
        A model file, or a name that `napari-recon models` lists.
    fidelity
        1: faithful weights. 0: those that look sharp and invent texture. Between them: interpolated.
    trust
        File for the map of how far each pixel can be trusted; OME-Zarr where the output is.
    attention
        File for the map of which regions drove the result; for models trained with --attention.
    keep_dtype
        Round to the pixel type of the input.
    tile_size
        Side of a tile in pixels; chosen from the free memory when left out.
    """
    from napari_recon import api
    from napari_recon.io import check_format

    check_distinct(output, trust, attention)
    check_output(output, input, keep_dtype)
    if trust is not None:
        check_output(trust, input, keep_dtype=False)
    loaded = api.load_model(model) if model is not None else api.shipped_upscaler(2 if scale is None else scale)
    if scale is not None and loaded.spec.scale != scale:
        raise ReconError(f"{loaded.name} upscales by {loaded.spec.scale}, not by {scale}.", "Leave one of them out.")
    check_attention(attention, input, loaded)
    image = api.read_image(input, axes=axes)
    check_format(output, image, image.dtype if keep_dtype else "float32")
    options: dict[str, Any] = {"fidelity": fidelity, "tile_size": tile_size, "device": device}
    streamed = is_streamed(output)
    with stop_on_interrupt() as cancel, Progress() as progress:
        made = api.upscale(
            image,
            loaded,
            return_trust=not streamed,
            keep_dtype=keep_dtype,
            out=output if streamed else None,
            trust_out=trust if streamed else None,
            scheduler=scheduler,
            on_progress=progress,
            cancel=cancel,
            **options,
        )
        write_attention(attention, image, loaded, on_progress=progress, **options)
    result = made if streamed else made[0]
    if not streamed:
        api.write_image(output, result)
        if trust is not None:
            api.write_image(trust, made[1])
    print_json({"output": str(output), "axes": result.axes, "shape": result.shape, **result.metadata["napari_recon"]})
