"""The command line: `napari-recon VERB ...`. Results as JSON on stdout, progress on stderr."""

import dataclasses
import itertools
import json
import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Self

from cyclopts import App, CycloptsError, Parameter

from napari_recon import __version__
from napari_recon.config import Config
from napari_recon.errors import Cancelled, ReconError
from napari_recon.models.autoencoder import AutoencoderConfig
from napari_recon.progress import CancelToken, ProgressEvent
from napari_recon.training.config import TrainConfig

app = App(
    name="napari-recon",
    help="Restore microscopy images: denoise, and train the models that do it.",
    version=__version__,
    result_action="return_value",
)
train_app = App(name="train", help="Train a model on your own images.")
app.command(train_app)


def flags(*configs: type[Config]) -> type:
    """Make a dataclass of optional command-line flags from the options of configs."""
    fields: list[tuple[str, Any, Any]] = []
    for option in itertools.chain.from_iterable(c.options() for c in configs):
        default = "chosen by the preset" if option.name in ("steps", "minutes") else f"default {option.default}"
        choices = f" One of: {', '.join(map(str, option.choices))}." if option.choices else ""
        help_text = f"{option.help}{choices} ({default})"
        hint = option.type | None
        annotated = Annotated[hint, Parameter(help=help_text, negative=())]  # type: ignore[valid-type]
        fields.append((option.name, annotated, dataclasses.field(default=None)))
    # cyclopts takes apart only classes that belong to a module of their own.
    return dataclasses.make_dataclass("Options", fields, frozen=True, namespace={"__module__": __name__})


AutoencoderFlags = flags(TrainConfig, AutoencoderConfig)

Axes = Annotated[str | None, Parameter(help="Axes of the input, such as ZYX, when the file does not say.")]
Device = Annotated[str, Parameter(help="auto, cpu, cuda, cuda:1 or mps.")]


@train_app.command(name="autoencoder")
def train_autoencoder(
    noisy: list[Path],
    /,
    *,
    out: Path,
    target: Annotated[list[Path] | None, Parameter(consume_multiple=True, negative=())] = None,
    preset: str = "fast",
    start_from: Annotated[
        str, Parameter(help="Model to go on from; auto: the universal denoiser where it fits; none: fresh weights.")
    ] = "auto",
    axes: Axes = None,
    device: Device = "auto",
    resume: Annotated[bool, Parameter(help="Go on with a training that was interrupted.", negative=())] = False,
    options: Annotated[AutoencoderFlags | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
) -> None:
    """Train an autoencoder to denoise, on noisy images alone or with clean targets.

    Parameters
    ----------
    noisy
        Images to learn from.
    out
        Model file to write.
    target
        What each image should become: a clean or a second noisy take of it, in the same order.
    preset
        fast (2 minutes), balanced (15) or best (120).
    """
    from lightning_fabric.utilities import rank_zero_only

    from napari_recon import api

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it logs how it starts, at every start
    _check_writable(out)
    out = out if out.suffix == ".safetensors" else out.with_name(out.name + ".safetensors")
    _check_writable(out)
    with _stop_on_interrupt() as cancel, Progress() as progress:
        model = api.train(
            "autoencoder",
            [api.read_image(p, axes=axes) for p in noisy],
            [api.read_image(p, axes=axes) for p in target] if target else None,
            preset=preset,
            start_from=None if start_from == "none" else start_from,
            checkpoint=out.with_suffix(".resume"),
            resume=resume,
            device=device,
            on_progress=progress,
            cancel=cancel,
            **(dataclasses.asdict(options) if options else {}),
        )
    if getattr(rank_zero_only, "rank", 0):
        return  # one of several processes: the first has the same model and writes it
    model.name = out.stem
    model.save(out)
    _print_json(_summary(model.describe()))
    if model.stopped:
        steps = model.provenance["steps"]
        raise ReconError(f"Stopped after {steps} steps; {out} holds the model so far.", "Go on with --resume.")


@app.command
def denoise(
    input: Path,
    output: Path,
    /,
    *,
    model: str = "universal",
    axes: Axes = None,
    strength: float = 1.0,
    adapt: Annotated[bool, Parameter(negative=())] = False,
    keep_dtype: Annotated[bool, Parameter(negative=())] = False,
    tile_size: int | None = None,
    device: Device = "auto",
) -> None:
    """Denoise an image file.

    Parameters
    ----------
    input, output
        Image files (TIFF, OME-TIFF, PNG, JPEG).
    model
        A model file, or a name that `napari-recon models` lists.
    strength
        0 to 1.5; 1 removes the noise that was measured.
    adapt
        First train the model on this image for 20 seconds; kept only when clearly better on a held-out part.
    keep_dtype
        Round to the pixel type of the input.
    tile_size
        Side of a tile in pixels; chosen from the free memory when left out.
    """
    from napari_recon import api

    _check_output(output, input, keep_dtype)
    image = api.read_image(input, axes=axes)
    with Progress() as progress:
        result = api.denoise(
            image,
            model,
            strength=strength,
            adapt=adapt,
            keep_dtype=keep_dtype,
            tile_size=tile_size,
            device=device,
            on_progress=progress,
        )
    api.write_image(output, result)
    _print_json({"output": str(output), "axes": result.axes, "shape": result.shape, **result.metadata["napari_recon"]})


@app.command
def evaluate(reference: Path, image: Path, /, *, data_range: float | None = None, axes: Axes = None) -> None:
    """Compare an image with its reference: psnr, si_psnr, ssim, nrmse as JSON.

    Parameters
    ----------
    reference, image
        Image files of the same shape.
    data_range
        Largest possible difference of pixel values; max - min of the reference when left out.
    """
    from napari_recon.io import read_image
    from napari_recon.quality.metrics import evaluate as compare

    first, second = read_image(reference, axes=axes), read_image(image, axes=axes)
    _print_json(compare(first, second, data_range=data_range))


@app.command
def noise(image: Path, /, *, axes: Axes = None) -> None:
    """Measure the noise of an image: gain, read noise, correlation and what follows, as JSON for each channel.

    Parameters
    ----------
    image
        Image file.
    """
    from napari_recon import api

    _print_json([r.to_json() for r in api.measure_noise(api.read_image(image, axes=axes))])


@app.command
def info(model: str, /) -> None:
    """Describe a model file: family, config, axes, channels and how it was trained, as JSON."""
    from napari_recon import api

    loaded = api.load_model(model)  # whole, so that a file cut short is not described as if it were sound
    spec = loaded.spec
    _print_json({**loaded.describe(), "axes": spec.axes, "channels": spec.channels, "spec": dataclasses.asdict(spec)})


@app.command
def models() -> None:
    """List the models that ship with napari-recon and those you saved, as JSON."""
    from napari_recon.library import list_models

    _print_json([{**dataclasses.asdict(m), "path": str(m.path)} for m in list_models()])


@app.command
def demo(*, headless: Annotated[bool, Parameter(negative=())] = False, out: Path = Path("demo-output")) -> None:
    """Train on a real noisy micrograph for about a minute and denoise it.

    Parameters
    ----------
    headless
        Without a window, write TIFFs, the model, a picture and the scores to OUT instead.
    out
        Folder for the files of a headless run.
    """
    display = sys.platform in ("win32", "darwin") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not headless and display:
        # The window lives in a process of its own: nothing but the plugin may import napari or Qt.
        os.execv(sys.executable, [sys.executable, "-m", "napari_recon.plugin.demo"])
    from napari_recon.demo import run_headless

    with Progress() as progress:
        scores = run_headless(out, progress)
    _print_json(scores)


class Progress:
    """Shows progress events as a bar on stderr."""

    def __init__(self) -> None:
        self._phase = ""
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, event: ProgressEvent) -> None:
        """Show one event."""
        from tqdm import tqdm

        if self._bar is None or self._phase != event.phase:
            self.__exit__()
            self._phase, self._bar = event.phase, tqdm(desc=event.phase, file=sys.stderr)
        self._bar.total = event.total or None
        self._bar.n = event.done
        self._bar.set_postfix({k: f"{v:.4g}" for k, v in event.values.items()}, refresh=False)
        if event.message:
            self._bar.write(event.message, file=sys.stderr)
        self._bar.refresh()


@contextmanager
def _stop_on_interrupt() -> Iterator[CancelToken]:
    """Ctrl-C asks the training to stop, which keeps what it has learned; a second one ends it at once."""
    token = CancelToken()

    def stop(*_: object) -> None:
        token.cancel()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield token
    finally:
        signal.signal(signal.SIGINT, before)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 0, 1 (a mistake the user can mend) or 2 (wrong usage)."""
    # tifffile logs what it dislikes about a file; the error that follows says it once.
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    sys.exit(_guarded(lambda: app(arguments, exit_on_error=False, print_error=False)))


def _guarded(run: Callable[[], Any]) -> int:
    try:
        run()
    except CycloptsError as error:
        print(f"napari-recon: {error}", file=sys.stderr)
        return 2
    except ReconError as error:
        print(f"napari-recon: {error}", file=sys.stderr)
        return 1
    except (Cancelled, KeyboardInterrupt):
        print("napari-recon: stopped", file=sys.stderr)
        return 1
    return 0


def _check_writable(path: Path) -> None:
    """Fail before the work, not after it, when the result has nowhere to go."""
    folder = path.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ReconError(f"The folder {folder} does not exist or cannot be written to.", "Make it, or choose another.")
    if path.is_dir():
        raise ReconError(f"{path} is a folder.", "Give the name of a file in it.")


def _check_output(path: Path, source: Path, keep_dtype: bool) -> None:
    from napari_recon.io import FORMATS

    _check_writable(path)
    name = path.name.lower()
    if not name.endswith(tuple(FORMATS)):
        raise ReconError(f"{path} has no known image format.", f"Use a name that ends in {', '.join(FORMATS)}.")
    if name.endswith((".png", ".jpg", ".jpeg")) and not keep_dtype:
        raise ReconError(f"{path} cannot hold the fractions of the result.", "Add --keep-dtype, or write a .tif.")
    if path.exists() and source.exists() and path.samefile(source):
        raise ReconError(f"{path} is the noisy image itself.", "Give the result another name.")


def _summary(description: dict[str, Any]) -> dict[str, Any]:
    """The description of a model without its loss curves."""
    provenance = {k: v for k, v in description["provenance"].items() if not k.endswith("_loss")}
    return {**description, "provenance": provenance}


def _print_json(value: Any) -> None:
    print(json.dumps(_finite(value), indent=2, default=str))


def _finite(value: Any) -> Any:
    """Replace infinity and not-a-number, which JSON lacks, by null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value
