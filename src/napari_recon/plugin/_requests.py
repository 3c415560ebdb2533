"""What a panel asks of `napari_recon.api`: made on the main thread, run on a job's, and written as Python."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_recon.errors import ReconError
from napari_recon.image import Image
from napari_recon.library import models_folder
from napari_recon.plugin._as_python import arguments, chosen, compose, load_line, model_text, script
from napari_recon.plugin._layers import Snapshot
from napari_recon.progress import CancelToken, ProgressCallback

if TYPE_CHECKING:
    from napari_recon.checkpoint import TrainedModel
    from napari_recon.data.noise_estimate import NoiseEstimate

Load = Callable[[Any], Any]

# api is imported inside the functions that run on a job's thread: it imports torch, which takes seconds.


MAPPED = ("fidelity", "tile_size", "tile_overlap", "device", "precision")  # options that an attention map takes too


def as_it_is(model: Any) -> Any:
    """Leave loading a model to the verb."""
    return model


def unknown(image: Image) -> None:
    """Leave measuring the noise to the verb."""


@dataclass(frozen=True)
class Denoised:
    """Result of a `DenoiseRequest`; what was not wanted is None."""

    image: Image
    residual: Any
    attention: Any
    record: dict[str, Any]
    seconds: float


@dataclass(frozen=True)
class DenoiseRequest:
    """One run of Denoise.

    Parameters
    ----------
    source : Snapshot
        What to denoise.
    model : TrainedModel or Path
        With what.
    options : dict
        Keyword arguments of `napari_recon.api.denoise`.
    residual : bool
        Whether the part that was removed is wanted too.
    attention : bool
        Whether the map of the network's attention is wanted too.
    known_noise : callable
        Returns the noise of an image if that was measured, else None.
    """

    source: Snapshot
    model: Any
    options: dict[str, Any]
    residual: bool = False
    attention: bool = False
    known_noise: Callable[[Image], "list[NoiseEstimate] | None"] = unknown

    def run(self, on_progress: ProgressCallback, cancel: CancelToken, load: Load = as_it_is) -> Denoised:
        """Do it, with the model that `load` returns for the chosen one. Runs on any thread."""
        from napari_recon import api

        start = time.monotonic()
        noisy = self.source.image
        model = load(self.model)
        # A model that was trained on images of its own knows what noise to expect.
        noise = None if getattr(model, "normalization", None) else self.known_noise(noisy)
        image = api.denoise(noisy, model, noise=noise, on_progress=on_progress, cancel=cancel, **self.options)
        record = {**image.metadata["napari_recon"], "parameters": dict(self.options), "python": self.as_python()}
        residual = np.subtract(noisy.array, image.array, dtype=np.float32) if self.residual else None
        attention = attention_of(self, on_progress, cancel)
        return Denoised(image, residual, attention, record, time.monotonic() - start)

    def as_python(self) -> str:
        """Write lines that do the same."""
        given = arguments(model_text(self.model), **chosen(self.options))
        return attentive_script("denoise", self, f"denoised = denoise(image, {given})")


@dataclass(frozen=True)
class Upscaled:
    """Result of an `UpscaleRequest`; what was not wanted is None."""

    image: Image
    trust: Any
    attention: Any
    record: dict[str, Any]
    seconds: float


@dataclass(frozen=True)
class UpscaleRequest:
    """One run of Upscale.

    Parameters
    ----------
    source : Snapshot
        What to upscale.
    model : TrainedModel or Path
        With what.
    options : dict
        Keyword arguments of `napari_recon.api.upscale`.
    trust : bool
        Whether the map of trust is wanted too.
    attention : bool
        Whether the map of the network's attention is wanted too.
    """

    source: Snapshot
    model: Any
    options: dict[str, Any]
    trust: bool = False
    attention: bool = False

    def run(self, on_progress: ProgressCallback, cancel: CancelToken, load: Load = as_it_is) -> Upscaled:
        """Do it, with the model that `load` returns for the chosen one. Runs on any thread."""
        from napari_recon import api

        start = time.monotonic()
        model = load(self.model)
        image, trust = api.upscale(
            self.source.image, model, return_trust=True, on_progress=on_progress, cancel=cancel, **self.options
        )
        record = {**image.metadata["napari_recon"], "parameters": dict(self.options), "python": self.as_python()}
        attention = attention_of(self, on_progress, cancel)
        return Upscaled(image, trust.array if self.trust else None, attention, record, time.monotonic() - start)

    def as_python(self) -> str:
        """Write lines that do the same."""
        wanted = {"return_trust": True} if self.trust else {}
        given = arguments(model_text(self.model), **chosen(self.options), **wanted)
        names = "upscaled, trust" if self.trust else "upscaled"
        return attentive_script("upscale", self, f"{names} = upscale(image, {given})")


def attention_of(request: DenoiseRequest | UpscaleRequest, on_progress: ProgressCallback, cancel: CancelToken) -> Any:
    """Make the map of attention of a request, None where it is not wanted."""
    if not request.attention:
        return None
    from napari_recon import api

    options = {k: v for k, v in request.options.items() if k in MAPPED}
    return api.attention_map(
        request.source.image, request.model, on_progress=on_progress, cancel=cancel, **options
    ).array


def attentive_script(verb: str, request: DenoiseRequest | UpscaleRequest, line: str) -> str:
    """Write a script of one verb, and of the map of attention where it is wanted."""
    if not request.attention:
        return script([verb], request.source, line)
    options = {k: v for k, v in chosen(request.options).items() if k in MAPPED}
    given = arguments(model_text(request.model), **options)
    return script([verb, "attention_map"], request.source, line, f"attention = attention_map(image, {given})")


@dataclass(frozen=True)
class Trained:
    """Result of a `TrainRequest`; `path` is None when the model could not be saved."""

    model: "TrainedModel"
    path: Path | None
    problem: ReconError | None = None


@dataclass(frozen=True)
class TrainRequest:
    """One training.

    Parameters
    ----------
    sources : tuple of Snapshot
        Layers to learn from.
    files : tuple of Path
        Files to learn from instead; read when it runs.
    target : Snapshot or None
        What the only source should become.
    preview : Image or None
        Small region to watch.
    psf : Snapshot or None
        Layer that shows the PSF.
    options : dict
        Keyword arguments of `napari_recon.api.train`.
    """

    family: str
    sources: tuple[Snapshot, ...] = ()
    files: tuple[Path, ...] = ()
    axes: str | None = None
    target: Snapshot | None = None
    preview: Image | None = None
    psf: Snapshot | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it learns from, for people."""
        first = self.sources[0].name if self.sources else self.files[0].stem
        more = max(len(self.sources), len(self.files)) - 1
        return f"{first} and {more} more" if more else first

    @property
    def state_path(self) -> Path:
        """File of the unfinished state from which this training can go on."""
        return models_folder().parent / "unfinished" / f"{self.family} {_file_name(self.name)}.state"

    def images(self) -> list[Image]:
        """Return the images, read from files where there are files."""
        from napari_recon.io import read_image

        return [s.image for s in self.sources] or [read_image(p, self.axes) for p in self.files]

    def run(self, on_progress: ProgressCallback, cancel: CancelToken, resume: bool = False) -> Trained:
        """Train, and save the model, so that no hour of training is lost by closing a window."""
        from napari_recon import api

        self.state_path.parent.mkdir(parents=True, exist_ok=True)
        model = api.train(
            self.family,
            self.images(),
            self.target and self.target.image,
            preview=self.preview,
            checkpoint=self.state_path,
            resume=resume,
            on_progress=on_progress,
            cancel=cancel,
            **{**self.options, **self._measured()},
        )
        name = _free_name(_file_name(self.name))
        try:
            return Trained(model, api.save_model(model, name))
        except ReconError as error:
            model.name = name
            return Trained(model, None, error)

    def _measured(self) -> dict[str, str]:
        """Write the measured PSF into a file, and return the option that names it."""
        if self.psf is None:
            return {}
        from napari_recon.io import write_image

        path = self.state_path.with_suffix(".psf.tif")
        write_image(path, self.psf.image)
        return {"psf_file": str(path)}

    def estimate(self, on_progress: ProgressCallback, cancel: CancelToken) -> dict[str, float]:
        """Estimate time and memory."""
        from napari_recon import api

        options = {k: v for k, v in self.options.items() if k not in ("device", "start_from")}
        return api.training_estimate(self.family, self.images(), **options)

    def as_python(self) -> str:
        """Write lines that do the same."""
        options = chosen(self.options)
        if self.options.get("start_from", "auto") != "auto":
            origin = self.options["start_from"]  # None means fresh weights, which is not the default
            options["start_from"] = getattr(origin, "name", None) if not isinstance(origin, Path) else origin
        files = ", ".join(repr(str(p)) for p in self.files)
        target = "target" if self.target else ""
        if self.psf is not None:
            options["psf_file"] = "psf.tif"
        call = f"model = train({arguments(repr(self.family), 'images' if files else 'image', target, **options)})"
        save = f'model.save("{_file_name(self.name)}.safetensors")'
        lines = [load_line(self.target, "target"), call] if self.target else [call]
        verbs = ["train"]
        if self.psf is not None:
            verbs.append("write_image")
            lines = [load_line(self.psf, "psf"), 'write_image("psf.tif", psf)', *lines]
        if files:
            read = f"images = [read_image(path, axes={self.axes!r}) for path in ({files},)]"
            return compose(verbs, read, *lines, save)
        return script(verbs, self.sources[0], *lines, save)


def _free_name(name: str) -> str:
    """Name of a model that is not there yet: with the first free number."""
    taken = {path.stem for path in models_folder().glob("*.safetensors")}
    return next(f"{name} {n}" for n in count(1) if f"{name} {n}" not in taken)


def _file_name(name: str) -> str:
    kept = "".join(c if c.isalnum() or c in " -_,." else " " for c in name)
    return " ".join(kept.split()).strip(" .") or "image"
