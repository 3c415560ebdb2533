"""Show which regions drove a result."""

from __future__ import annotations

from typing import Any

from napari_recon._version import __version__
from napari_recon.api.models import Model, load_model
from napari_recon.api.upscaling import enlarged, model_at
from napari_recon.checkpoint import TrainedModel
from napari_recon.errors import ReconError
from napari_recon.image import Image, as_image
from napari_recon.inference.attention import AttentionRunner
from napari_recon.progress import CancelToken, ProgressCallback, Reporter


def attention_map(
    image: Any,
    model: Model,
    *,
    axes: str | None = None,
    fidelity: float = 1.0,
    tile_size: int | None = None,
    tile_overlap: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    on_progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Any:
    """Map which regions drove what a model makes of an image.

    Parameters
    ----------
    image : Image, numpy, dask, zarr or xarray array
        What the model is applied to.
    model : TrainedModel, str or path
        Trained with ``attention=True``: an autoencoder with a U-Net, or an upscaler.
    axes : str, optional
        Axes of an array that does not know its own, such as ``"ZYX"``.
    fidelity : float
        Which weights of an upscaler; see `upscale`.
    tile_size, tile_overlap : int, optional
        Chosen from the free memory and the network when left out.
    device, precision : str
        ``"auto"`` chooses the fastest.
    on_progress, cancel
        Receives events; stops the run.

    Returns
    -------
    Image or numpy.ndarray
        An `Image` for an `Image`, else an array. float32 of the size of the model's result, on which it lies exactly;
        0 where the gates let nothing through, 1 where they let everything through: their mean over the network.

    Raises
    ------
    ReconError
        When the model has no attention gates, or does not fit the image.
    Cancelled
        When stopped.

    Notes
    -----
    The gates are those of Oktay et al., "Attention U-Net" (MIDL 2018), and of Woo et al., "CBAM" (ECCV 2018). They tell
    where the network took features from, not whether it was right to.
    """
    source, loaded = as_image(image, axes), attention_model(model)
    single = model_at(loaded, fidelity) if loaded.spec.task == "upscale" else loaded
    options: dict[str, Any] = {"tile_size": tile_size, "tile_overlap": tile_overlap, "device": device}
    runner = AttentionRunner(single, source, precision=precision, **options)
    (pixels,) = runner.run(Reporter(on_progress, "attention"), cancel or CancelToken())
    if not isinstance(image, Image):
        return pixels
    done = runner.prediction(pixels)
    record = {
        "verb": "attention_map",
        "model": loaded.name,
        "model_hash": loaded.hash,
        "fidelity": fidelity,
        "tile_size": done.tile_size,
        "device": done.device,
        "precision": done.precision,
        "notes": done.notes,
        "version": __version__,
    }
    return enlarged(source, pixels, loaded.spec.scale, f"{source.name} [attention]", record)


def attention_model(model: Model) -> TrainedModel:
    """Load a model that has attention gates; raises `ReconError` for one that has none."""
    loaded = load_model(model)
    if not loaded.spec.attention:
        raise ReconError(
            f"{loaded.name or 'This model'} has no attention gates to show.", "Train one with attention=True."
        )
    return loaded
