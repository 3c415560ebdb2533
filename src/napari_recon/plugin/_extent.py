"""How much of a layer to work on: all of it, the plane shown, or what is visible."""

from typing import Any

from qtpy.QtWidgets import QAbstractButton, QButtonGroup, QHBoxLayout, QRadioButton, QWidget

from napari_recon.plugin._layers import Snapshot, snapshot
from napari_recon.plugin._view import current_plane, visible_region

EVERYTHING, PLANE, REGION = "everything", "this plane", "region"
HELP = {
    EVERYTHING: "{} the whole layer.",
    PLANE: "{} only the plane shown now; the result lies at its place in the stack.",
    REGION: "{} only what the canvas shows now, to see quickly what comes out.",
}


class ExtentChooser(QWidget):
    """Three choices in a row; `verb` begins their tooltips."""

    def __init__(self, verb: str) -> None:
        super().__init__()
        self._group = QButtonGroup(self)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for name, text in HELP.items():
            button = QRadioButton(name)
            button.setToolTip(text.format(verb))
            self._group.addButton(button)
            layout.addWidget(button)
        layout.addStretch(1)
        self.buttons()[0].setChecked(True)

    def buttons(self) -> list[QAbstractButton]:
        """Return the choices: everything, this plane, region."""
        return self._group.buttons()

    def take(self, viewer: Any, layer: Any, axes: str | None) -> Snapshot:
        """Take the chosen part of a layer as it is now; raises `ReconError` when its axes do not fit."""
        whole = snapshot(layer, axes)
        chosen = next(b.text() for b in self.buttons() if b.isChecked())
        if chosen == EVERYTHING:
            return whole
        cut = current_plane if chosen == PLANE else visible_region
        slices = cut(viewer, layer, whole.image.axes)
        return snapshot(layer, whole.image.axes, slices) if slices else whole
