"""Live curves of a training: the losses, and the game of a generator with its discriminator."""

import math
from typing import Any

import pyqtgraph as pg
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QGridLayout, QWidget

from napari_recon.progress import ProgressEvent

COLOURS = {"train": "#4a90d9", "validation": "#e8912d"}  # told apart in both themes and by the colour-blind
GAME_COLOURS = {"D(real)": COLOURS["train"], "D(fake)": COLOURS["validation"]}
HELP = "Loss over steps: training blue, held-out validation orange. Drag to move, right-click for more."
GAME_HELP = (
    "How real the discriminator finds real images (blue) and generated ones (orange), 0 to 1. Both near 0.5: it cannot "
    "tell them apart. Blue at 1 and orange at 0: it has won."
)
HEIGHT, SHARED_HEIGHT = 120, 60  # of a plot alone, and beside that of the game
MOST_POINTS = 2000  # then every other one is dropped: a long training would fill the memory and slow the drawing


class LossPlot(QWidget):
    """Grows with the events of a training; `game` shows what its discriminator thinks instead of the losses."""

    def __init__(self, game: bool = False) -> None:
        super().__init__()
        colours = GAME_COLOURS if game else COLOURS
        self._points: dict[str, list[tuple[int, float]]] = {name: [] for name in colours}
        self.plot = pg.PlotWidget()
        self.plot.setFixedHeight(SHARED_HEIGHT if game else HEIGHT)
        self.plot.setToolTip(GAME_HELP if game else HELP)
        self.plot.setMenuEnabled(False)
        self.plot.hideButtons()
        self.plot.getPlotItem().setContentsMargins(0, 0, 4, 0)
        self.curves = {name: self.plot.plot(pen=pg.mkPen(colour, width=2)) for name, colour in colours.items()}
        self.plot.setMinimumWidth(0)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.plot, 0, 0)
        if game:
            self.plot.setYRange(0, 1)
            self.plot.getAxis("left").setTicks([[(value, f"{value:g}") for value in (0, 0.5, 1)]])
            return
        self.log = QCheckBox("log")
        self.log.setToolTip("Show the loss on a logarithmic scale.")
        self.log.toggled.connect(lambda on: self.plot.setLogMode(y=on))
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

    def share_height(self, shared: bool) -> None:
        """Be lower to leave room for the other plot."""
        self.plot.setFixedHeight(SHARED_HEIGHT if shared else HEIGHT)

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
