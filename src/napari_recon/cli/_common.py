"""What the commands share: flags, progress on stderr, checks of outputs, JSON on stdout."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Self

from cyclopts import Parameter

from napari_recon.errors import ReconError
from napari_recon.io._files import check_writable
from napari_recon.io._header import finite
from napari_recon.progress import CancelToken, ProgressEvent

Axes = Annotated[str | None, Parameter(help="Axes of the input, such as ZYX, when the file does not say.")]
Scheduler = Annotated[
    str | None, Parameter(help="Address of a dask.distributed scheduler whose workers do the tiles; needs OME-Zarr.")
]
Device = Annotated[str, Parameter(help="auto, cpu, cuda, cuda:1 or mps.")]


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
def stop_on_interrupt() -> Iterator[CancelToken]:
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


def check_output(path: Path, source: Path | None, keep_dtype: bool) -> None:
    from napari_recon.io import FORMATS

    check_writable(path)
    name = path.name.lower()
    if not name.endswith(tuple(FORMATS)):
        raise ReconError(f"{path} has no known image format.", f"Use a name that ends in {', '.join(FORMATS)}.")
    if name.endswith((".png", ".jpg", ".jpeg")) and not keep_dtype:
        raise ReconError(f"{path} cannot hold the fractions of the result.", "Add --keep-dtype, or write a .tif.")
    if source is not None and path.exists() and source.exists() and path.samefile(source):
        raise ReconError(f"{path} is the input image itself.", "Give the result another name.")


def is_streamed(path: Path) -> bool:
    """Whether results go into this file tile by tile."""
    from napari_recon.io import FORMATS

    return any(form.folder for suffix, form in FORMATS.items() if path.name.lower().endswith(suffix))


def check_attention(path: Path | None, source: Path, model: Any) -> None:
    """Fail before the work when a map of attention is wanted but there would be none, or nowhere to write it."""
    if path is not None:
        from napari_recon import api

        check_output(path, source, keep_dtype=False)
        api.attention_model(model)


def write_attention(path: Path | None, image: Any, model: Any, **options: Any) -> None:
    if path is not None:
        from napari_recon import api

        api.write_image(path, api.attention_map(image, model, **options))


def print_json(value: Any) -> None:
    print(json.dumps(finite(value), indent=2, default=str), flush=True)
