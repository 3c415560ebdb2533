"""What the Sample panel asks of `napari_recon.api`: made on the main thread, run on a job's, and written as Python."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_recon.image import Image
from napari_recon.plugin._as_python import arguments, chosen, load_line, model_text, script
from napari_recon.plugin._layers import Snapshot
from napari_recon.progress import CancelToken, ProgressCallback

# api is imported inside the functions that run on a job's thread: it imports torch, which takes seconds.

Factor = tuple[int, int]  # level and number of a latent


@dataclass(frozen=True)
class Made:
    """What a request made: pixels by what they are, such as ``"mean"``, and how that was done."""

    request: Any
    pixels: Mapping[str, Any]
    record: dict[str, Any]
    seconds: float


@dataclass(frozen=True)
class SampleRequest:
    """One run of Sample; `options` are keyword arguments of `napari_recon.api.sample`."""

    source: Snapshot
    model: Any
    options: dict[str, Any]

    @property
    def title(self) -> str:
        """What is done, for people."""
        return f"Sample {self.source.name}"

    def run(self, on_progress: ProgressCallback, cancel: CancelToken) -> Made:
        """Do it. Runs on any thread."""
        from napari_recon import api

        start = time.monotonic()
        made = api.sample(self.source.image, self.model, on_progress=on_progress, cancel=cancel, **self.options)
        images = {name: image for name, image in made._asdict().items() if image is not None}
        pixels = {name: _shown(image.array, name, self.source) for name, image in images.items()}
        return Made(self, pixels, _record(next(iter(images.values())), self), time.monotonic() - start)

    def as_python(self) -> str:
        """Write lines that do the same."""
        given = arguments(model_text(self.model), **chosen(self.options))
        return script(["sample"], self.source, f"sampled = sample(image, {given})")


@dataclass(frozen=True)
class GenerateRequest:
    """One run of Generate; `options` are keyword arguments of `napari_recon.api.generate`."""

    model: Any
    options: dict[str, Any]

    @property
    def title(self) -> str:
        """What is done, for people."""
        return "Generate images"

    def run(self, on_progress: ProgressCallback, cancel: CancelToken) -> Made:
        """Do it. Runs on any thread."""
        from napari_recon import api

        start = time.monotonic()
        model = api.load_model(self.model)
        pixels = api.generate(model, on_progress=on_progress, cancel=cancel, **self.options)
        record = {
            "verb": "generate",
            "model": model.name,
            "model_hash": model.hash,
            "trained_on": _trained_on(model),
            "parameters": dict(self.options),
            "python": self.as_python(),
        }
        return Made(self, {"generated": pixels}, record, time.monotonic() - start)

    def as_python(self) -> str:
        """Write lines that do the same."""
        given = arguments(model_text(self.model), **chosen(self.options))
        return f"from napari_recon import generate\n\ngenerated = generate({given})\n"


@dataclass(frozen=True)
class TraverseRequest:
    """Move one latent of a region from -`span` to `span` standard deviations, in `steps` images.

    `factor` is what `napari_recon.api.traverse` takes as `dimension`.
    """

    source: Snapshot
    model: Any
    factor: Factor | int
    steps: int
    span: float
    device: str = "auto"

    @property
    def title(self) -> str:
        """What is done, for people."""
        return f"Traverse {self.source.name}"

    def run(self, on_progress: ProgressCallback, cancel: CancelToken) -> Made:
        """Do it. Runs on any thread."""
        from napari_recon import api

        start = time.monotonic()
        options: dict[str, Any] = {"steps": self.steps, "span": self.span, "device": self.device}
        options |= {"on_progress": on_progress, "cancel": cancel}
        made = api.traverse(self.source.image, self.model, self.factor, **options)
        pixels = {"traversal": _shown(made.array, "traversal", self.source)}
        return Made(self, pixels, _record(made, self), time.monotonic() - start)

    def as_python(self) -> str:
        """Write lines that do the same."""
        options = {"steps": self.steps, "span": self.span, "device": self.device}
        given = arguments(model_text(self.model), repr(self.factor), **chosen(options))
        return script(["traverse"], self.source, f"traversal = traverse(image, {given})")


@dataclass(frozen=True)
class InterpolateRequest:
    """Go from a region to the same region of another layer, in `steps` images."""

    source: Snapshot
    target: Snapshot
    model: Any
    steps: int
    device: str = "auto"

    @property
    def title(self) -> str:
        """What is done, for people."""
        return f"Interpolate {self.source.name}"

    def run(self, on_progress: ProgressCallback, cancel: CancelToken) -> Made:
        """Do it. Runs on any thread."""
        from napari_recon import api

        start = time.monotonic()
        options: dict[str, Any] = {
            "steps": self.steps,
            "device": self.device,
            "on_progress": on_progress,
            "cancel": cancel,
        }
        made = api.interpolate(self.source.image, self.target.image, self.model, **options)
        name = f"to {self.target.name}"
        return Made(self, {name: _shown(made.array, name, self.source)}, _record(made, self), time.monotonic() - start)

    def as_python(self) -> str:
        """Write lines that do the same."""
        given = arguments(model_text(self.model), **chosen({"steps": self.steps, "device": self.device}))
        call = f"path = interpolate(image, target, {given})"
        return script(["interpolate"], self.source, load_line(self.target, "target"), call)


@dataclass(frozen=True)
class Latents:
    """Ask which latents of a model tell most of a region."""

    source: Snapshot
    model: Any

    def run(self, on_progress: ProgressCallback, cancel: CancelToken) -> list[tuple[Factor, float]]:
        """List them, the most telling first. Runs on any thread."""
        from napari_recon import api

        factors: list[tuple[Factor, float]] = api.latent_factors(self.source.image, self.model)
        return factors


def _record(made: Image, request: Any) -> dict[str, Any]:
    return {**made.metadata["napari_recon"], "python": request.as_python()}


def _trained_on(model: Any) -> list[str]:
    return [str(data["name"]) for data in model.provenance.get("data", [])]


def _shown(pixels: np.ndarray, name: str, source: Snapshot) -> np.ndarray:
    """Pixels as napari can show them: colours as integers or in 0 to 1 only, and a spread of colours as one number."""
    if not source.rgb:
        return pixels
    if name in ("std", "variation"):
        return np.sqrt(np.square(pixels).mean(axis=-1))
    dtype = source.image.dtype
    if dtype.kind == "f":
        return np.clip(pixels, 0, 1)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(pixels), limits.min, limits.max).astype(dtype)
