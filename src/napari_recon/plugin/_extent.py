"""How much of a layer a panel works on: everything, the plane shown, or what the canvas shows of it."""

from typing import Any

from qtpy.QtWidgets import QAbstractButton, QButtonGroup, QHBoxLayout, QRadioButton, QWidget

from napari_recon.plugin._layers import Snapshot, snapshot
from napari_recon.plugin._view import current_plane, visible_region

EVERYTHING, PLANE, REGION = "everything", "this plane", "region"


class ExtentChooser(QWidget):
    """Three radio buttons; `verb` is what the panel does, for their tooltips."""

    def __init__(self, verb: str) -> None:
        super().__init__()
        layout = side_by_side(self)
        self._group = QButtonGroup(self)
        help_texts = {
            EVERYTHING: f"{verb} the whole layer.",
            PLANE: f"{verb} only the plane shown now; the result lies at its place in the stack.",
            REGION: f"{verb} only what the canvas shows now, to see quickly what comes out.",
        }
        for name, help_text in help_texts.items():
            button = QRadioButton(name)
            button.setToolTip(help_text)
            self._group.addButton(button)
            layout.addWidget(button)
        layout.addStretch(1)
        self.buttons()[0].setChecked(True)

    def buttons(self) -> list[QAbstractButton]:
        """Return the three, in the order in which they are shown."""
        return self._group.buttons()

    def cut(self, viewer: Any, layer: Any, axes: str | None) -> Snapshot:
        """Take the chosen part of a layer; raises `ReconError` where the axes do not fit."""
        whole = snapshot(layer, axes)
        chosen = next(b.text() for b in self.buttons() if b.isChecked())
        slices = {}
        if chosen == PLANE:
            slices = current_plane(viewer, layer, whole.image.axes)
        elif chosen == REGION:
            slices = visible_region(viewer, layer, whole.image.axes)
        return snapshot(layer, whole.image.axes, slices) if slices else whole


def side_by_side(parent: QWidget, *widgets: QWidget) -> QHBoxLayout:
    """Lay widgets out in a line, without margins."""
    layout = QHBoxLayout(parent)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    for widget in widgets:
        layout.addWidget(widget)
    return layout


def line_of(*widgets: QWidget) -> QWidget:
    """Make a line of widgets, to the left of what is free."""
    line = QWidget()
    side_by_side(line, *widgets).addStretch(1)
    return line
