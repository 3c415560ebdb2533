"""The reliability plot of a model: predicted standard deviation against the error that was measured."""

from typing import Any

import pyqtgraph as pg
from qtpy.QtWidgets import QDialog, QLabel, QVBoxLayout, QWidget

from napari_recon.plugin._calibration import summary
from napari_recon.plugin._loss_plot import COLOURS

WIDTH, PLOT_HEIGHT = 400, 260
LABEL_MARGIN = 6  # pixels; pyqtgraph puts the label of an axis five of them too low


class Reliability(QDialog):
    """Stays open beside the work, and follows the model that is chosen."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setModal(False)
        self.setMinimumWidth(WIDTH)
        self.setWindowTitle("Reliability of the standard deviation")
        self.plot = pg.PlotWidget()
        self.plot.setFixedHeight(PLOT_HEIGHT)
        self.plot.setMenuEnabled(False)
        self.plot.hideButtons()
        self.plot.setMouseEnabled(False, False)
        self.plot.setToolTip("Each point: pixels of alike standard deviation. On the dashed line both would agree.")
        self.plot.getPlotItem().setContentsMargins(0, 0, 4, LABEL_MARGIN)
        self.ideal = self.plot.plot()
        self.measured = self.plot.plot(
            pen=pg.mkPen(COLOURS["train"], width=2), symbol="o", symbolSize=6, symbolPen=None,
            symbolBrush=COLOURS["train"],
        )  # fmt: skip
        self.text = QLabel()
        self.text.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.addWidget(self.plot)
        layout.addWidget(self.text)

    def show_calibration(self, found: dict[str, Any], theme: Any) -> None:
        """Draw what was measured, in the colours of a theme."""
        points = found["reliability"]
        limit = 1.05 * max((value for point in points for value in point), default=1.0)
        self.plot.setBackground(theme.background.as_hex())
        for side, label in (("bottom", "predicted std (of the noise)"), ("left", "error (of the noise)")):
            axis = self.plot.getAxis(side)
            axis.enableAutoSIPrefix(False)
            axis.setLabel(label, color=theme.text.as_hex())
            axis.setPen(theme.secondary.as_hex())
            axis.setTextPen(theme.text.as_hex())
        self.ideal.setData([0, limit], [0, limit])
        self.ideal.setPen(pg.mkPen(theme.secondary.as_hex(), width=1, dash=[4, 4]))
        self.measured.setData([p[0] for p in points], [p[1] for p in points])
        self.plot.setRange(xRange=(0, limit), yRange=(0, limit), padding=0)
        pixels = found.get("pixels")
        self.text.setText(
            f"Nominal {summary(found)} of the pixels. The standard deviation of the samples is multiplied by "
            f"{found['factor']:.3g}, as measured" + (f" on {pixels:,} held-out pixels." if pixels else ".")
        )
