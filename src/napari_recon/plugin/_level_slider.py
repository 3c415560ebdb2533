"""A slider with its number beside it that can be moved by keys too."""

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QSlider
from superqt import QLabeledDoubleSlider

from napari_recon.plugin._forms import without_wheel

STEP, PAGE = 0.05, 0.25
STEPS = {
    Qt.Key.Key_Left: -STEP,
    Qt.Key.Key_Down: -STEP,
    Qt.Key.Key_Right: STEP,
    Qt.Key.Key_Up: STEP,
    Qt.Key.Key_PageDown: -PAGE,
    Qt.Key.Key_PageUp: PAGE,
}


class LevelSlider(QLabeledDoubleSlider):
    """From 0 to `top`; stands at 1. superqt's sliders of numbers know no keys, and have a part for each focus."""

    def __init__(self, top: float, help: str = "") -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self.setRange(0.0, top)
        self.setDecimals(2)
        self.setValue(1.0)
        self.setToolTip(help)
        without_wheel(self)
        handle = self.findChild(QSlider)
        assert handle is not None, "it is made of a slider and a number"
        without_wheel(handle)
        handle.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        handle.setFocusProxy(self)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Move by the keys that move any slider."""
        ends = {Qt.Key.Key_Home: self.minimum(), Qt.Key.Key_End: self.maximum()}
        key = Qt.Key(event.key())
        if key in STEPS:
            value = self.value() + STEPS[key]
        elif key in ends:
            value = ends[key]
        else:
            super().keyPressEvent(event)
            return
        self.setValue(min(max(value, self.minimum()), self.maximum()))
