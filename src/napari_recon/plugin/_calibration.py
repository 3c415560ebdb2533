"""One line on how far the standard deviations of a model can be trusted."""

import weakref
from pathlib import Path
from typing import Any

from napari.utils.theme import get_theme
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel

from napari_recon.library import read_description
from napari_recon.plugin._device_badge import LINK
from napari_recon.plugin._panel import Panel

UNKNOWN = "calibration: none in this model; its std may be too small or too large"


class CalibrationLine(QLabel):
    """Says what share of the truth the model's 90 % intervals hold; its link opens the reliability plot."""

    def __init__(self, panel: Panel) -> None:
        super().__init__()
        self.setObjectName("grey")
        self.setWordWrap(True)
        self.setToolTip("Measured on pixels that were held out of the training; std is scaled by it.")
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
        self.linkActivated.connect(self.show_details)
        self.details: Any = None
        self._found: dict[str, Any] = {}
        self._panel = weakref.ref(panel)  # the panel owns the line

    def show_model(self, model: Any) -> None:
        """Describe a model, or the file of one; None for no model."""
        self._found = calibration(model)
        self.setVisible(model is not None)
        link = f'<a href="#plot" style="color: {LINK}">plot</a>'
        self.setText(f"calibration: {summary(self._found)} · {link}" if self._found else UNKNOWN)
        if self.details is not None and self.details.isVisible():
            self.show_details() if self._found else self.details.hide()

    def show_details(self, *_: Any) -> None:
        """Open the reliability plot in a window of its own."""
        from napari_recon.plugin._reliability import Reliability  # pyqtgraph takes long to import

        panel = self._panel()
        if not self._found or panel is None:
            return
        if self.details is None:
            self.details = Reliability(self)
        self.details.show_calibration(self._found, get_theme(panel.viewer.theme))
        self.details.show()
        self.details.raise_()


def calibration(model: Any) -> dict[str, Any]:
    """Read the calibration of a model or of its file; empty when it was not measured."""
    if isinstance(model, Path):
        provenance = (read_description(model) or {}).get("provenance")
    else:
        provenance = getattr(model, "provenance", None)
    found = provenance.get("calibration") if isinstance(provenance, dict) else None
    return found if isinstance(found, dict) and {"coverage", "factor", "reliability"} <= found.keys() else {}


def summary(found: dict[str, Any]) -> str:
    """Write ``90 % intervals hold 91 %``."""
    return f"90 % intervals hold {100 * found['coverage']:.0f} %"
