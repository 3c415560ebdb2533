"""A model that is dropped on napari, or opened with File > Open, is no image: the panel that uses it opens instead."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari

from napari_recon.errors import ReconError
from napari_recon.library import read_description
from napari_recon.models import MODELS
from napari_recon.plugin._run_controls import show_problem
from napari_recon.plugin._use_model import use_in_panel

NO_LAYER: list[tuple[Any, ...]] = [(None,)]  # what npe2 takes for a file read that gives no layer


def get_reader(path: str | list[str]) -> Callable[[Any], list[tuple[Any, ...]]] | None:
    """Return what opens one model."""
    return read if isinstance(path, str) else None


def read(path: str) -> list[tuple[Any, ...]]:
    """Choose a model in its panel; what is wrong is told here, for napari would write a page around an exception."""
    family = MODELS.get((read_description(Path(path)) or {}).get("family", ""))
    viewer = napari.current_viewer()
    if family is None:
        name = Path(path).name
        show_problem(ReconError(f"{name} is no model that Reconstruct knows.", "Open one that Train has saved."))
    elif viewer is not None:
        use_in_panel(viewer, family.verb, Path(path))
    return NO_LAYER
