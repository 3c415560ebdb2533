"""Before and after at the press of a key."""

import weakref
from typing import Any

from napari_recon.plugin._layers import is_passing
from napari_recon.plugin._panel import Panel

# napari has it for labels and shapes layers only, and there it keeps its meaning: the active layer comes first.
COMPARE_KEY = "B"


class BeforeAfter:
    """Shows by turns the last result, or a preview, and what it was made from, for as long as the panel lives."""

    def __init__(self, panel: Panel) -> None:
        self._viewer = panel.viewer
        self._pair: tuple[weakref.ref[Any], weakref.ref[Any]] | None = None
        itself = weakref.ref(self)

        def pressed(_: Any) -> None:
            alive = itself()
            if alive is not None:
                alive.toggle()

        self._pressed = pressed
        self._theirs = self._viewer.bind_key(COMPARE_KEY, pressed, overwrite=True)

    def close(self) -> None:
        """Give the key back to whoever had it."""
        bound = self._viewer.bind_key(COMPARE_KEY, None)
        others = self._theirs if bound is self._pressed else bound
        if others is not None:
            self._viewer.bind_key(COMPARE_KEY, others)

    def remember(self, result: Any, source: Any) -> None:
        """Compare these two from now on."""
        self._pair = None if source is None else (weakref.ref(result), weakref.ref(source))

    def toggle(self) -> None:
        """Show the other one."""
        layers = self._viewer.layers
        preview = next((layer for layer in layers if is_passing(layer)), None)
        if preview is not None:
            preview.visible = not preview.visible
            return
        result, source = (r() for r in self._pair) if self._pair is not None else (None, None)
        if result is None or source is None or result not in layers or source not in layers:
            return
        result.visible = not result.visible
        # Below a result that covers only a part, the rest of the source stays.
        source.visible = not result.visible or result.data.shape != source.data.shape
