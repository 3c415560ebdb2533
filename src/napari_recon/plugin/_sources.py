"""What to train on: layers of the viewer, files, or a folder of them."""

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QToolButton, QVBoxLayout, QWidget

from napari_recon.errors import ReconError
from napari_recon.plugin._forms import PathEdit, narrow
from napari_recon.plugin._layer_chooser import LayerList
from napari_recon.plugin._panel import Panel

LAYERS, FILES, FOLDER = "layers", "files", "folder"


class SourceChooser(QWidget):
    """Layers to check, or files, or a folder."""

    changed = Signal()

    def __init__(self, panel: Panel) -> None:
        super().__init__()
        self.kind = narrow(QComboBox())
        self.kind.addItems([LAYERS, FILES, FOLDER])
        self.kind.setToolTip("Train on layers that are open, on image files, or on all images of a folder.")
        self.kind.currentTextChanged.connect(self._show_kind)
        self.layers = LayerList(panel)
        self.layers.setToolTip("Layers to learn from: check one or more of the same kind.")
        self.layers.chosen.connect(self.changed)
        self.path = PathEdit()
        self.path.setToolTip("Image files, separated by a semicolon, or a folder.")
        self.path.setPlaceholderText("choose ...")
        self.path.editingFinished.connect(self.changed)
        self.browse = QToolButton()
        self.browse.setText("...")
        self.browse.setToolTip("Choose with a file dialog.")
        self.browse.clicked.connect(self._ask)
        self._paths = QWidget()
        line = QHBoxLayout(self._paths)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.path, 1)
        line.addWidget(self.browse)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for widget in (self.kind, self.layers, self._paths):
            layout.addWidget(widget)
        self._show_kind(LAYERS)

    def from_layers(self) -> bool:
        """Whether layers are chosen, not files."""
        return self.kind.currentText() == LAYERS

    def files(self) -> tuple[Path, ...]:
        """Return the chosen files.

        Raises
        ------
        ReconError
            When there are none.
        """
        from napari_recon.io import FORMATS  # imports what reads them

        text = self.path.text().strip()
        if self.kind.currentText() == FOLDER:
            folder = Path(text)
            found = sorted(p for p in folder.glob("*") if p.name.lower().endswith(tuple(FORMATS))) if text else []
        else:
            found = [Path(part.strip()) for part in text.split(";") if part.strip()]
        if not found:
            raise ReconError("No image was chosen to train on.", f"Choose {', '.join(FORMATS)} files or their folder.")
        return tuple(found)

    def _show_kind(self, kind: str) -> None:
        self.layers.setVisible(kind == LAYERS)
        self._paths.setVisible(kind != LAYERS)
        self.path.clear()
        self.changed.emit()

    def _ask(self) -> None:
        from napari_recon.io import FORMATS

        if self.kind.currentText() == FOLDER:
            text = QFileDialog.getExistingDirectory(self, "Folder of images")
        else:
            patterns = " ".join(f"*{suffix}" for suffix in FORMATS)
            text = "; ".join(QFileDialog.getOpenFileNames(self, "Images", "", f"Images ({patterns})")[0])
        if text:
            self.path.setText(text)
            self.changed.emit()
