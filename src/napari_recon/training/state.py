"""Saving and loading the state of an unfinished training, whole or not at all."""

from pathlib import Path
from typing import Any

import torch

from napari_recon.errors import ReconError
from napari_recon.io._files import make_folder, replacing


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write to a temporary name beside `path` and rename: a crash never leaves half a file.

    Raises
    ------
    ReconError
        When the folder cannot be written to, or the disk is full.
    """
    make_folder(path.parent)
    with replacing(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # what torch's zip writer raises on a full disk
            raise OSError(str(error)) from error


def load_state(path: Path) -> dict[str, Any]:
    """Read a state; only tensors and plain values are accepted, no code runs.

    Raises
    ------
    ReconError
        When the file is missing or damaged, or is not a training state.
    """
    if not path.exists():
        raise ReconError(f"There is no interrupted training to resume: {path} is not there.", "Start without resume.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds for damaged files
        raise ReconError(
            f"{path} is not a readable training state.", "Delete it and start the training anew."
        ) from error
    if not isinstance(state, dict) or not state.keys() >= {"history", "precision", "rngs"}:
        raise ReconError(f"{path} is not a training state of napari-recon.", "Start without resume.")
    return state
