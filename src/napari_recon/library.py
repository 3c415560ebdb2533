"""The models at hand: those that ship with the package and those in the user's folder. Does not import torch."""

import difflib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_recon.errors import ReconError

SHIPPED = Path(__file__).parent / "pretrained"
KEY = "napari-recon"
LARGEST_HEADER = 10_000_000


@dataclass(frozen=True)
class ModelInfo:
    """What a list of models shows.

    Parameters
    ----------
    name, family : str
        As in the model file.
    path : Path
        Where it is.
    shipped : bool
        Whether it came with napari-recon.
    created : str
        Date and time, ISO 8601; empty when unknown.
    use : str
        Which images it is for, in words; empty when it does not say.
    """

    name: str
    family: str
    path: Path
    shipped: bool
    created: str
    use: str


def models_folder() -> Path:
    """Folder of the user's models; the environment variable NAPARI_RECON_HOME moves it."""
    home = os.environ.get("NAPARI_RECON_HOME")
    if home:
        return Path(home) / "models"
    try:
        import platformdirs
    except ImportError:  # as on a cluster that has the numerical packages alone
        return Path.home() / ".local" / "share" / "napari-recon" / "models"
    return platformdirs.user_data_path("napari-recon") / "models"


def list_models() -> list[ModelInfo]:
    """List shipped models, then the user's, the newest first; files that are not models are left out."""
    # is_file() leaves out links to files that are gone, which have no time.
    saved = [p for p in models_folder().glob("*.safetensors") if p.is_file()]
    saved.sort(key=lambda p: -p.stat().st_mtime)
    found = []
    for path in [*sorted(SHIPPED.glob("*.safetensors"), key=lambda p: p.stem), *saved]:
        description = read_description(path)
        if description is not None:
            provenance = description.get("provenance")
            told = provenance if isinstance(provenance, dict) else {}
            created, use = (str(told.get(key) or "") for key in ("created", "use"))
            found.append(ModelInfo(path.stem, description["family"], path, path.parent == SHIPPED, created, use))
    return found


def find_model(name: str | Path) -> Path:
    """Path of a model given by its file or its name in the list.

    Raises
    ------
    ReconError
        When there is none.
    """
    path = Path(name).expanduser()
    if path.suffix == ".safetensors" and path.is_file():
        return path
    known = list_models()
    for info in known:
        if info.name == str(name):
            return info.path
    names = [i.name for i in known]
    near = difflib.get_close_matches(str(name).lower(), names, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise ReconError(
        f"There is no model {str(name)!r}.",
        f"{hint}Give a .safetensors file, or one of: {', '.join(names) or 'none yet'}.",
    )


def read_description(path: Path) -> dict[str, Any] | None:
    """Description in the head of a model file without reading its weights; None when it is not a model file."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= LARGEST_HEADER:
                return None
            text = json.loads(file.read(length))["__metadata__"][KEY]
        description = json.loads(text)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return description if isinstance(description, dict) and isinstance(description.get("family"), str) else None
