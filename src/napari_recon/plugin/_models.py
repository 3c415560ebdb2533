"""Choose a model: the shipped ones, those of this sitting, those saved, or any file."""

from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QToolButton, QWidget

from napari_recon.errors import ReconError
from napari_recon.library import list_models, read_description
from napari_recon.models import MODELS, ModelSpec
from napari_recon.plugin._forms import narrow
from napari_recon.plugin._session import session

Entry = tuple[str, Any]
SHIPPED_NOTE = "(no training)"


class ModelChooser(QWidget):
    """A combo box of models that serve a verb, and a button to open a model file.

    Parameters
    ----------
    verb : str
        Only models that do this are listed.
    first : list of (str, object)
        Entries that are no models, before all others.
    """

    changed = Signal()

    def __init__(self, verb: str, first: list[Entry] | None = None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._verb = verb
        self._first = first or []
        self._opened: list[Path] = []
        self.combo = narrow(QComboBox())
        self.button = QToolButton()
        self.button.setText("...")
        self.button.setFixedWidth(22)
        self.button.setToolTip("Open a model file (.safetensors) that is not in the list.")
        self.button.clicked.connect(self._ask_for_file)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.combo, 1)
        layout.addWidget(self.button)
        session().models_changed.connect(self.refresh)
        self.combo.currentIndexChanged.connect(lambda _: self.changed.emit())
        self.refresh()

    def setToolTip(self, text: str) -> None:  # both parts explain themselves
        """Set the tooltip of the list."""
        super().setToolTip(text)
        self.combo.setToolTip(text)

    def serve(self, verb: str) -> None:
        """List the models of another verb from now on."""
        self._verb = verb
        self.refresh()

    def reference(self) -> Any:
        """Return what `napari_recon.api` takes as a model: a `TrainedModel` or a path; or a first entry's value."""
        return self.combo.currentData()

    def label(self) -> str:
        """Name of the model for people."""
        return self.combo.currentText().removesuffix(SHIPPED_NOTE).strip()

    def spec(self) -> ModelSpec | None:
        """Describe the chosen model, None when there is none."""
        family, config = self._described()
        return None if family is None else MODELS[family].spec(config)

    def option(self, name: str) -> Any:
        """Value of an option of the chosen model's config, None where it has no such option."""
        return getattr(self._described()[1], name, None)

    def channels(self) -> int:
        """Count the channels that the chosen model takes one by one; 1 where it makes no difference between them."""
        reference, spec = self.reference(), self.spec()
        if spec is None or spec.channels > 1:
            return 1
        if isinstance(reference, Path):
            measured = (read_description(reference) or {}).get("normalization")
            return len(measured["mean"]) if measured else 1
        return reference.normalization.channels if reference.normalization else 1

    def _described(self) -> tuple[str | None, Any]:
        """Family and config of the chosen model."""
        reference = self.reference()
        if not isinstance(reference, Path):
            return getattr(reference, "family", None), getattr(reference, "config", None)
        try:
            description = read_description(reference) or {}
            return description["family"], MODELS[description["family"]].config.from_json(description["config"])
        except (KeyError, TypeError, ReconError):
            return None, None  # an unreadable file says so when it is used

    def select(self, reference: Any) -> None:
        """Choose a model, a file that is not listed included."""
        if self._index(reference) < 0 and isinstance(reference, Path):
            self._opened.append(reference)
            self.refresh()
        self.combo.setCurrentIndex(max(self._index(reference), 0))

    def refresh(self) -> None:
        """List the models anew; the choice stays."""
        known = list_models()
        sitting = [(m.name, path or m) for m, path in session().trained if MODELS[m.family].verb == self._verb]
        fresh = {path for _, path in sitting}
        fitting = [i for i in known if i.family in MODELS and MODELS[i.family].verb == self._verb]
        shipped = [(f"{i.name.capitalize()} {SHIPPED_NOTE}", i.path) for i in fitting if i.shipped]
        saved = [(i.name, i.path) for i in fitting if not i.shipped and i.path not in fresh]
        opened = [(p.stem, p) for p in self._opened]
        entries = [*self._first, *sitting, *shipped, *saved, *opened]
        chosen = self.reference() if self.combo.count() else object()  # None can be an entry's value
        self.combo.blockSignals(True)
        self.combo.clear()
        uses = {i.path: i.use for i in fitting if i.use}
        for text, reference in entries:
            self.combo.addItem(text, reference)
            use = uses.get(reference) if isinstance(reference, Path) else None
            tooltip = f"{text}: {use}" if use else text
            self.combo.setItemData(self.combo.count() - 1, tooltip, Qt.ItemDataRole.ToolTipRole)
        if not entries:
            self.combo.addItem("none yet: train one", None)
        default = self._first or shipped or sitting or saved
        wanted = chosen if self._index(chosen) >= 0 else (default[0][1] if default else None)
        self.combo.setCurrentIndex(max(self._index(wanted), 0))
        self.combo.blockSignals(False)
        self.changed.emit()

    def _index(self, reference: Any) -> int:
        return next((i for i in range(self.combo.count()) if _same(self.combo.itemData(i), reference)), -1)

    def _ask_for_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open a model", "", "Models (*.safetensors)")
        if path:
            self.select(Path(path))


def _same(a: Any, b: Any) -> bool:
    return a is b or (isinstance(a, str | Path) and a == b)
