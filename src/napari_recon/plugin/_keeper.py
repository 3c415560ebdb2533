"""The model that a panel used last, so that not every run loads it anew."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_recon.checkpoint import TrainedModel


class ModelKeeper:
    """Loads the models of one panel; thread-safe. What it keeps goes when the panel does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[Any, TrainedModel] | None = None

    def load(self, reference: Any) -> "TrainedModel":
        """Return a model, given itself or its file; a file is read again only when it changed. Imports torch."""
        from napari_recon import api

        if not isinstance(reference, Path) or not reference.exists():
            return api.load_model(reference)
        key = reference, reference.stat().st_mtime
        with self._lock:
            if self._kept is None or self._kept[0] != key:
                self._kept = key, api.load_model(reference)
            return self._kept[1]

    def forget(self) -> None:
        """Let go of the model."""
        with self._lock:
            self._kept = None
