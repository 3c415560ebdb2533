"""Live curves of the training and validation loss."""

import math
from typing import Any

import pyqtgraph as pg
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QGridLayout, QWidget

from napari_recon.progress import ProgressEvent

COLOURS = {"train": "#4a90d9", "validation": "#e8912d"}  # told apart in both themes and by the colour-blind
HEIGHT = 120
MOST_POINTS = 2000  # then every other one is dropped: a long training would fill the memory and slow the drawing


class LossPlot(QWidget):
    """Grows with the events of a training."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._points: dict[str, list[tuple[int, float]]] = {name: [] for name in COLOURS}
        self.plot = pg.PlotWidget()
        self.plot.setFixedHeight(HEIGHT)
        self.plot.setToolTip(
            "Loss over steps: training blue, held-out validation orange. Drag to move, right-click for more."
        )
        self.plot.setMenuEnabled(False)
        self.plot.hideButtons()
        self.plot.getPlotItem().setContentsMargins(0, 0, 4, 0)
        self.curves = {name: self.plot.plot(pen=pg.mkPen(colour, width=2)) for name, colour in COLOURS.items()}
        self.plot.setMinimumWidth(0)
        self.log = QCheckBox("log")
        self.log.setToolTip("Show the loss on a logarithmic scale.")
        self.log.toggled.connect(lambda on: self.plot.setLogMode(y=on))
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.plot, 0, 0)
        # In the corner of the plot, where falling curves leave room.
        layout.addWidget(self.log, 0, 0, Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignRight)

    def add(self, event: ProgressEvent) -> None:
        """Add the losses of an event, if it has any."""
        for name, curve in self.curves.items():
            value = event.values.get(name, math.nan)
            points = self._points[name]
            # Together with a validation comes the mean since the last one, which would draw a spike.
            mean = name == "train" and "validation" in event.values
            if (mean and points) or not math.isfinite(value):
                continue
            points.append((event.done, value))
            if len(points) > MOST_POINTS:
                del points[1::2]
            curve.setData(*zip(*points, strict=True))

    def clear(self) -> None:
        """Begin anew."""
        for name, curve in self.curves.items():
            self._points[name].clear()
            curve.setData([], [])

    def set_theme(self, theme: Any) -> None:
        """Take over napari's colours."""
        self.plot.setBackground(theme.background.as_hex())
        for side in ("left", "bottom"):
            axis = self.plot.getAxis(side)
            axis.setPen(theme.secondary.as_hex())
            axis.setTextPen(theme.text.as_hex())
