"""Store an image as the latents of a model, and make it of them again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from napari_recon.api.models import Model, load_model
from napari_recon.axes import from_batch, to_batch
from napari_recon.checkpoint import TrainedModel
from napari_recon.data.float32 import as_float32
from napari_recon.errors import ReconError
from napari_recon.image import Image, as_image
from napari_recon.inference.compression import check_size, code_shapes, from_codes, pack, to_codes, unpack
from napari_recon.inference.guide import make_guide
from napari_recon.inference.tiling import padded_shape
from napari_recon.io._files import make_folder, replacing
from napari_recon.progress import CancelToken, ProgressCallback, Reporter

FORMAT = 1
KEY = "napari-recon-latents"
PHYSICS = {"scale", "translate", "units", "channel_names"}
_IMPOSSIBLE = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class Encoded:
    """An image as packed latents.

    Parameters
    ----------
    packed : dict of str to numpy.ndarray
        Compressed codes, ``"plane.channel.level"`` to bytes.
    about : dict
        What is needed to make the image again: axes, shape, pixel type and physics of the image, and of which model
        with which step they are.
    """

    packed: dict[str, NDArray[np.uint8]]
    about: dict[str, Any]

    @property
    def ratio(self) -> float:
        """Bytes of the image over bytes of the codes."""
        image = np.dtype(self.about["dtype"]).itemsize * float(np.prod(self.about["shape"], dtype=float))
        return float(image / max(sum(p.nbytes for p in self.packed.values()), 1))

    def save(self, path: str | Path) -> Path:
        """Write to a file, whole or not at all; returns its path, with the suffix ``.latents``."""
        path = Path(path).expanduser()
        path = path if path.suffix == ".latents" else path.with_name(path.name + ".latents")
        make_folder(path.parent)
        with replacing(path) as temporary:
            try:
                save_file(self.packed, temporary, metadata={KEY: json.dumps({"format": FORMAT, **self.about})})
            except SafetensorError as error:  # its way to report what the file system refused
                raise OSError(str(error)) from error
        return path

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file that `save` wrote; raises `ReconError` on any other."""
        path = Path(path).expanduser()
        if not path.is_file():
            raise ReconError(f"There is no file {path}.", "Check its name and folder.")
        try:
            with safe_open(path, framework="numpy") as file:
                text = (file.metadata() or {}).get(KEY)
                packed = {k: np.array(file.get_tensor(k)) for k in file.keys()}  # noqa: SIM118 (not a mapping)
            about = json.loads(text or "")
            if about.pop("format") > FORMAT:
                raise ReconError(f"{path} was saved by a newer napari-recon.", "Update napari-recon to use it.")
            if not {"name", "model", "model_hash"} <= set(about):
                raise ValueError("something is missing")
            # Of a pixel that takes no memory: its physics are looked at.
            pixel = np.zeros((), np.dtype(about["dtype"]))
            Image(np.broadcast_to(pixel, about["shape"]), about["axes"], **{k: about[k] for k in PHYSICS})
            if not 0 < float(about["step"]) < 1e6:
                raise ValueError("impossible step")
        except (SafetensorError, OSError, *_IMPOSSIBLE) as error:
            raise ReconError(f"{path} is damaged or holds no latents.", "Get or make it again.") from error
        return cls(packed, about)


def encode(
    image: Any,
    model: Model,
    *,
    step: float = 0.5,
    axes: str | None = None,
    on_progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Encoded:
    """Store an image as the latents of a model; with loss.

    Parameters
    ----------
    image : Image or array
        Any axes and any real pixel type; planes of up to 16 megapixels.
    model : TrainedModel, str or path
        A VAE, or an autoencoder with ``network="bottleneck"``.
    step : float
        How coarsely latents are rounded, in their standard deviations: smaller is truer and larger.
    axes : str, optional
        Axes of an array that does not know its own.
    on_progress, cancel
        Receives events; stops the run.

    Returns
    -------
    Encoded
        With ``ratio``, and ``save(path)``.

    Raises
    ------
    ReconError
        When the model has no latents, does not fit the image, or the step makes no sense.
    """
    source, loaded = as_image(image, axes), _coder(model)
    if not 0.001 <= step <= 100:
        raise ReconError(f"The step cannot be {step}.", "Give a number of 0.001 to 100, such as 0.5.")
    batch = to_batch(source.array, source.axes, loaded.spec.axes)
    assert loaded.normalization is not None
    loaded.normalization.check_channels(batch.shape[1])
    check_size(batch.shape[2:])
    guide = make_guide(source, noise=loaded.normalization.noise, cancel=cancel) if loaded.spec.guided else None
    guides = to_batch(guide, source.axes, loaded.spec.axes) if guide is not None else None
    packed = {}
    units = _units(loaded, batch.shape)
    reporter = Reporter(on_progress, "encode", total=len(units))
    for done, (n, first) in enumerate(units, start=1):
        if cancel is not None:
            cancel.raise_if_cancelled()
        seen = [_normalised(loaded, x, n, first) if x is not None else None for x in (batch, guides)]
        assert seen[0] is not None
        for level, code in enumerate(to_codes(loaded, seen[0], seen[1], step)):
            packed[f"{n}.{first}.{level}"] = pack(code)
        reporter.update(done)
    about = {
        "axes": source.axes,
        "shape": list(source.shape),
        "dtype": str(source.dtype),
        "scale": list(source.scale),
        "translate": list(source.translate),
        "units": list(source.units),
        "name": source.name,
        "channel_names": list(source.channel_names),
        "model": loaded.name,
        "model_hash": loaded.hash,
        "step": step,
    }
    return Encoded(packed, about)


def decode(
    encoded: Encoded | str | Path,
    model: Model,
    *,
    on_progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Image:
    """Make an image of latents.

    Parameters
    ----------
    encoded : Encoded or path
        From `encode`, or the file that it was saved to.
    model : TrainedModel, str or path
        The one that encoded it.
    on_progress, cancel
        Receives events; stops the run.

    Returns
    -------
    Image
        float32, with the physics of the image that was encoded.

    Raises
    ------
    ReconError
        When it was encoded by another model, or the codes are damaged.
    """
    stored = encoded if isinstance(encoded, Encoded) else Encoded.load(encoded)
    about, loaded = stored.about, _coder(model)
    if about["model_hash"] != loaded.hash:
        raise ReconError(f"It was encoded by another model, {about['model']!r}.", "Give that model.")
    shape, axes = tuple(about["shape"]), about["axes"]
    # Of zeros that take no memory: only its shape is asked for.
    like = to_batch(np.broadcast_to(np.float32(0), shape), axes, loaded.spec.axes)
    assert loaded.normalization is not None
    loaded.normalization.check_channels(like.shape[1])
    check_size(like.shape[2:])
    shapes = code_shapes(loaded, like.shape[2:])
    wanted = like.shape[0] * like.shape[1] // loaded.spec.channels * len(shapes)
    if len(stored.packed) != wanted:  # before anything of the size that a damaged file may claim is made
        raise ReconError(f"There are {len(stored.packed)} latents where {wanted} belong.", "Encode the image again.")
    units = _units(loaded, like.shape)
    result = np.empty(like.shape, np.float32)
    padded = padded_shape(like.shape[2:], loaded.spec.size_multiple)
    reporter = Reporter(on_progress, "decode", total=len(units))
    for done, (n, first) in enumerate(units, start=1):
        if cancel is not None:
            cancel.raise_if_cancelled()
        try:
            codes = [unpack(stored.packed[f"{n}.{first}.{level}"], s) for level, s in enumerate(shapes)]
        except (KeyError, ValueError) as error:
            raise ReconError(f"The latents are damaged: {error}.", "Encode the image again.") from error
        plane = from_codes(loaded, codes, padded, about["step"])
        _write(loaded, plane, result, n, first)
        reporter.update(done)
    pixels = from_batch(result, axes, shape, loaded.spec.axes)
    return Image(pixels, axes, name=f"{about['name']} [decoded]", **{k: about[k] for k in PHYSICS})


def _coder(model: Model) -> TrainedModel:
    loaded = load_model(model)
    if loaded.spec.task != "sample" and getattr(loaded.config, "network", "") != "bottleneck":
        raise ReconError(
            f"{loaded.name} has no small latents.", "Use a VAE, or an autoencoder trained with network='bottleneck'."
        )
    return loaded


def _units(model: TrainedModel, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Sample and first channel of everything that is coded on its own."""
    return [(n, c) for n in range(shape[0]) for c in range(0, shape[1], model.spec.channels)]


def _normalised(model: TrainedModel, batch: Any, sample: int, first: int) -> Tensor:
    """Return one unit as (1, C, *sides), mirrored up to a size that suits; what is not finite becomes the mean."""
    assert model.normalization is not None
    raw = [as_float32(batch[sample, first + c]) for c in range(model.spec.channels)]
    normal = np.stack([model.normalization.forward(x, first + c) for c, x in enumerate(raw)])
    normal[~np.isfinite(normal)] = 0
    padded = padded_shape(normal.shape[1:], model.spec.size_multiple)
    beyond = [(0, 0), *((0, p - n) for p, n in zip(padded, normal.shape[1:], strict=True))]
    return torch.from_numpy(np.pad(normal, beyond, mode="symmetric"))[None]


def _write(model: TrainedModel, plane: Tensor, result: NDArray[np.float32], sample: int, first: int) -> None:
    assert model.normalization is not None
    values = plane[0].float().numpy()[(slice(None), *(slice(n) for n in result.shape[2:]))]
    for c, value in enumerate(values):
        result[sample, first + c] = model.normalization.inverse(value, first + c)
