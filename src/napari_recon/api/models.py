"""Models by name or by file."""

from pathlib import Path

from napari_recon.checkpoint import TrainedModel
from napari_recon.errors import ReconError
from napari_recon.library import find_model, models_folder

Model = TrainedModel | str | Path

DEFAULTS = {"denoise": "universal", "upscale": "upscale-x2"}
"""The model of each verb that has one of its own."""


def load_model(model: Model) -> TrainedModel:
    """Load a model by its name in `list_models`, or from a file; a loaded model is returned as it is.

    Raises
    ------
    ReconError
        When there is no such model, or its file cannot be read.
    """
    return model if isinstance(model, TrainedModel) else TrainedModel.load(find_model(model))


def model_for(verb: str, model: Model | None) -> TrainedModel:
    """Load a model, or the verb's own when none is given; raises `ReconError` where there is none."""
    chosen = DEFAULTS.get(verb) if model is None else model
    if chosen is None:
        raise ReconError(f"There is no model to {verb} with.", "Train one, or name its file.")
    return load_model(chosen)


def save_model(model: TrainedModel, name: str) -> Path:
    """Save a model under a name in the user's folder, where every panel finds it; returns its path."""
    if not name.strip() or any(c in name for c in '/\\:*?"<>|') or name.startswith("."):
        raise ReconError(f"{name!r} cannot be the name of a model.", "Use letters, digits, spaces and dashes.")
    model.name = name.strip()
    return model.save(models_folder() / f"{model.name}.safetensors")
