"""The noise of a layer in full: numbers, what they mean, and what to do."""

from typing import Any

import pyqtgraph as pg
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QDialog, QGridLayout, QLabel, QPushButton, QTabWidget, QVBoxLayout, QWidget

from napari_recon.data.noise_report import NoiseReport
from napari_recon.plugin._loss_plot import COLOURS
from napari_recon.plugin._noise_line import Measured

WIDTH, PLOT_HEIGHT = 440, 180
LABEL_MARGIN = 6  # pixels; pyqtgraph puts the label of an axis five of them too low
COLUMNS = 2


class NoiseDetails(QDialog):
    """Stays open beside the work, and follows the layer that is chosen."""

    wanted = Signal(object)  # training options that follow from the noise

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setModal(False)
        self.setMinimumWidth(WIDTH)
        self.tabs = QTabWidget()
        self.tabs.setToolTip("One page for each channel.")
        self.tabs.tabBar().setAutoHide(True)
        self.note = QLabel()
        self.note.setObjectName("grey")
        self.use = QPushButton("Use in Train")
        self.use.setToolTip("Open the Train panel with this layer and the options that suit its noise.")
        self.use.clicked.connect(self._use)
        layout = QVBoxLayout(self)
        for widget in (self.tabs, self.note, self.use):
            layout.addWidget(widget)
        self._reports: list[NoiseReport] = []

    def show_measured(self, found: Measured, theme: Any) -> None:
        """Fill the pages, in the colours of a theme."""
        self.setWindowTitle(f"Noise of {found.name}")
        self._reports = found.reports
        pages = [self.tabs.widget(i) for i in range(self.tabs.count())]
        self.tabs.clear()  # which does not delete them
        for page in filter(None, pages):
            page.deleteLater()
        for report in found.reports:
            self.tabs.addTab(_page(report, found.low, found.high, theme), f"Channel {report.channel + 1}")
        self.note.setText("" if found.whole else "Measured in the middle of the plane that was shown.")
        self.note.setVisible(not found.whole)
        self.resize(WIDTH, self.heightForWidth(WIDTH))

    def _use(self) -> None:
        report = self._reports[self.tabs.currentIndex()]
        self.wanted.emit({**report.options, **report.vae_options})


def _page(report: NoiseReport, low: float, high: float, theme: Any) -> QWidget:
    page = QWidget()
    layout = QVBoxLayout(page)
    layout.addLayout(_numbers(report))
    layout.addWidget(_plot(report, low, high, theme))
    layout.addWidget(_text("\n".join(f"• {finding}" for finding in report.findings)))
    advice = _text(report.advice)
    advice.setStyleSheet("font-weight: bold;")
    layout.addWidget(advice)
    layout.addStretch(1)
    return page


def _numbers(report: NoiseReport) -> QGridLayout:
    e = report.estimate
    values = {
        "gain": (f"{e.gain:.3g}", "Grey values that one photo-electron adds."),
        "read noise": (f"{e.read_noise:.3g}", "Standard deviation of the noise where it is darkest."),
        "offset": (f"{e.offset:.4g}", "Grey value of the darkest regions."),
        "SNR": (f"{e.snr:.1f}", "How many times more the specimen varies than its noise."),
        "correlation": ("Y {:.2f}, X {:.2f}".format(*e.correlation), "Of the noise of neighbours; 0 for white noise."),
        "confidence": (f"{e.confidence:.0%}", "Share of the image that agrees with these numbers."),
        "saturated": (f"{e.saturated:.1%}", "Pixels piled up at the highest value."),
        "clipped": (f"{e.clipped:.1%}", "Pixels piled up at the lowest value."),
    }
    grid = QGridLayout()
    for i, (name, (value, explanation)) in enumerate(values.items()):
        row, column = divmod(i, COLUMNS)
        title = QLabel(name)
        title.setObjectName("grey")
        for j, label in enumerate((title, QLabel(value))):
            label.setToolTip(explanation)
            grid.addWidget(label, row, 2 * column + j)
            grid.setColumnStretch(2 * column + j, 1)
    return grid


def _plot(report: NoiseReport, low: float, high: float, theme: Any) -> QWidget:
    """Variance of the noise against brightness."""
    e = report.estimate
    plot = pg.PlotWidget(background=theme.background.as_hex())
    plot.setFixedHeight(PLOT_HEIGHT)
    plot.setMenuEnabled(False)
    plot.hideButtons()
    plot.setMouseEnabled(False, False)
    plot.setToolTip(
        "Points: measured at each brightness. Line: what is used. Shot noise rises with the brightness; read noise is "
        "the same everywhere."
    )
    darkest = min(max(low, e.offset), high)
    plot.plot(
        [darkest, high], [max(e.variance(x), 0.0) for x in (darkest, high)], pen=pg.mkPen(COLOURS["train"], width=2)
    )
    if e.curve:
        brightness, variance = zip(*e.curve, strict=True)
        plot.plot(brightness, variance, pen=None, symbol="o", symbolSize=6, symbolBrush=COLOURS["validation"])
    plot.setYRange(0, max(e.variance(high), e.variance(darkest), *(y for _, y in e.curve)) * 1.1)
    plot.getPlotItem().setContentsMargins(0, 0, 4, LABEL_MARGIN)
    for side, label in (("bottom", "brightness (grey values)"), ("left", "noise variance")):
        axis = plot.getAxis(side)
        axis.enableAutoSIPrefix(False)
        axis.setLabel(label, color=theme.text.as_hex())
        axis.setPen(theme.secondary.as_hex())
        axis.setTextPen(theme.text.as_hex())
    return plot


def _text(text: str) -> QLabel:
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label
