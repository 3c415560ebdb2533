"""Says which device will compute and, when it is a slow one, why; lets one choose another."""

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from napari_recon.plugin._forms import WrappedText, narrow
from napari_recon.plugin._session import session

HELP = "https://pytorch.org/get-started/locally/"
LINK = "#6a8fe0"  # readable on dark and light; Qt's own link blue is not


class DeviceBadge(QWidget):
    """The same in all panels; filled once torch has been imported in the background."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setToolTip("Where it is computed.")
        self.combo = narrow(QComboBox())
        self.combo.setToolTip("Where it is computed; the fastest device comes first.")
        self.note = WrappedText()
        self.note.setObjectName("grey")
        self.note.setToolTip("The link goes to the selector of torch builds; right-click to copy it.")
        self.note.setOpenExternalLinks(True)
        self.note.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
        self.note.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.combo)
        layout.addWidget(self.note)
        self.combo.addItem("looking for devices ...", "auto")
        session().devices_found.connect(self._fill)
        self._fill()

    def device(self) -> str:
        """Name of the device chosen, ``"auto"`` while none is known."""
        return self.combo.currentData()

    def label(self) -> str:
        """Name of the device for people."""
        return self.combo.currentText() if session().devices else "this machine"

    def _fill(self) -> None:
        devices = session().devices
        if not devices:
            return
        self.combo.clear()
        for device in devices:
            self.combo.addItem(device.label, device.name)
        note = devices[0].note
        link = f' · <a href="{HELP}" style="color: {LINK}">fix</a>' if "CUDA" in note else ""
        self.note.setText(f"{note}{link}")
        self.note.setVisible(bool(note))
