"""Commands about models, and the demo."""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from napari_recon.cli._common import Progress, print_json


def info(model: str, /) -> None:
    """Describe a model file: family, config, axes, channels and how it was trained, as JSON.

    Parameters
    ----------
    model
        A model file, or a name that `napari-recon models` lists.
    """
    from napari_recon import api

    loaded = api.load_model(model)  # whole, so that a file cut short is not described as if it were sound
    spec = loaded.spec
    print_json({**loaded.describe(), "axes": spec.axes, "channels": spec.channels, "spec": dataclasses.asdict(spec)})


def models() -> None:
    """List the models that ship with napari-recon and those you saved, as JSON."""
    from napari_recon.library import list_models

    print_json([{**dataclasses.asdict(m), "path": str(m.path)} for m in list_models()])


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
    print_json(scores)
