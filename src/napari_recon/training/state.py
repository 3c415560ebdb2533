"""Saving and loading the state of an unfinished training, whole or not at all."""

import os
from pathlib import Path
from typing import Any

import torch

from napari_recon.errors import ReconError


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write to a temporary name beside `path` and rename: a crash never leaves half a file.

    Raises
    ------
    ReconError
        When the folder cannot be written to, or the disk is full.
    """
    temporary = path.with_name(path.name + f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, temporary)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError when its zip writer meets a full disk
        temporary.unlink(missing_ok=True)
        raise ReconError(f"The training state cannot be saved to {path}: {error}.", "Free some space or choose another folder.") from error  # fmt: skip


def load_state(path: Path) -> dict[str, Any]:
    """Read a state; only tensors and plain values are accepted, no code runs.

    Raises
    ------
    ReconError
        When the file is damaged or is not a training state.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds for damaged files
        raise ReconError(f"{path} is not a readable training state.", "Delete it and start the training anew.") from error
    if not isinstance(state, dict) or "history" not in state:
        raise ReconError(f"{path} is not a training state of napari-recon.", "Start without resume.")
    return state
