"""The model that a panel used last, so that not every run loads it anew."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_recon.checkpoint import TrainedModel

SIDE = 16  # pixels that show a network what is to come


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

    def warm_up(self, reference: Any) -> None:
        """Load a model, build its network and let it see a few pixels, so that its first run does not wait for that."""
        import torch

        from napari_recon.device import choose_device

        model = self.load(reference)
        device = choose_device()
        channels, side = model.spec.channels, max(model.spec.size_multiple, SIDE)
        pixels = torch.zeros(1, channels, *(side,) * len(model.spec.axes), device=device)
        if not model.spec.guided:
            with torch.inference_mode():
                model.network(device)(pixels)

    def forget(self) -> None:
        """Let go of the model."""
        with self._lock:
            self._kept = None
