"""Choose one layer or several; below it one line says what the data are."""

import weakref
from collections.abc import Callable
from typing import Any

from napari.layers import Image as ImageLayer
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLineEdit, QListWidget, QListWidgetItem, QWidget

from napari_recon.errors import ReconError
from napari_recon.plugin._forms import WrappedText, mark, narrow
from napari_recon.plugin._layers import KEY, describe, is_passing, layer_axes, snapshot
from napari_recon.plugin._panel import Panel

SMALL = 56  # width of the axes field
ROWS_HEIGHT = 52  # three layers


class LayerCombo(QComboBox):
    """The image layers of the viewer; follows the active one unless `first` offers an entry that is no layer."""

    def __init__(self, panel: Panel, first: str | None = None) -> None:
        super().__init__()
        narrow(self)
        self._viewer = panel.viewer
        self._first = first
        self._contents = Contents(panel, self.refresh)
        watch_layers(panel, self.refresh)
        self.refresh()
        if first is None:
            panel.subscribe(self._viewer.layers.selection.events.active, self._follow)
            self._follow()

    def layer(self) -> ImageLayer | None:
        """Return the chosen layer."""
        return self.currentData()

    def choose(self, layer: ImageLayer | None) -> None:
        """Choose a layer, if it is listed."""
        for i in range(self.count()):
            if layer is not None and self.itemData(i) is layer:
                self.setCurrentIndex(i)

    def refresh(self, event: Any = None) -> None:
        """List the layers anew; the choice stays."""
        chosen = self.layer()
        self.blockSignals(True)
        self.clear()
        if self._first is not None:
            self.addItem(self._first, None)
        for layer in image_layers(self._viewer):
            self.addItem(layer.name, layer)
            self._contents.watch(layer)
        index = next((i for i in range(self.count()) if self.itemData(i) is chosen), 0)
        self.setCurrentIndex(index)
        self.blockSignals(False)
        self.currentIndexChanged.emit(self.currentIndex())

    def _follow(self, event: Any = None) -> None:
        self.choose(self._viewer.layers.selection.active)


class LayerList(QListWidget):
    """The image layers of the viewer, to check one or more; the active one is checked until the user chooses."""

    chosen = Signal()

    def __init__(self, panel: Panel) -> None:
        super().__init__()
        self._viewer = panel.viewer
        self._touched = False
        self._layers: list[ImageLayer] = []
        self._contents = Contents(panel, self.refresh)
        self.setFixedHeight(ROWS_HEIGHT)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        watch_layers(panel, self.refresh)
        panel.subscribe(self._viewer.layers.selection.events.active, self._follow)
        self.itemChanged.connect(self._changed)
        self.refresh()

    def layers(self) -> list[ImageLayer]:
        """Return the checked layers."""
        return [layer for i, layer in enumerate(self._layers) if self.item(i).checkState() == Qt.CheckState.Checked]

    def check(self, layers: list[ImageLayer]) -> None:
        """Check these layers and no others."""
        self.blockSignals(True)
        for i, layer in enumerate(self._layers):
            on = any(layer is other for other in layers)
            self.item(i).setCheckState(Qt.CheckState.Checked if on else Qt.CheckState.Unchecked)
        self.blockSignals(False)
        self.chosen.emit()

    def refresh(self, event: Any = None) -> None:
        """List the layers anew; the checks stay."""
        checked = self.layers()
        self.blockSignals(True)
        self.clear()
        self._layers = image_layers(self._viewer)
        for layer in self._layers:
            item = QListWidgetItem(layer.name)
            item.setToolTip(f"Check to train on {layer.name}.")
            item.setCheckState(Qt.CheckState.Unchecked)
            self.addItem(item)
            self._contents.watch(layer)
        self.blockSignals(False)
        self.check(checked)
        if not self.layers():
            self._touched = False
            self._follow()

    def _follow(self, event: Any = None) -> None:
        active = self._viewer.layers.selection.active
        own = [layer for layer in self._layers if KEY not in layer.metadata]  # no results of this plugin
        if self._touched or not own:
            return
        if any(layer is active for layer in own):
            self.check([active])
        elif not self.layers():
            self.check(own[-1:])

    def _changed(self, item: QListWidgetItem) -> None:
        self._touched = True
        self.chosen.emit()


class DataLine(QWidget):
    """Says in one grey line what a layer is and how it will run; its axes can be edited."""

    axes_changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._layer: ImageLayer | None = None
        self._own = ""  # axes that the layer itself has
        self._spatial = "YX"
        self.axes_edit = QLineEdit()
        self.axes_edit.setFixedWidth(SMALL)
        self.axes_edit.setToolTip(
            "Axes of the layer in order: T time, Z depth, C channel, Y, X, S other samples. Correct them here."
        )
        self.axes_edit.editingFinished.connect(self._edited)
        self.text = WrappedText()
        self.text.setObjectName("grey")
        self.text.setToolTip("Size, pixel type, pixel size, and how the network will go through it.")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.axes_edit, 0, Qt.AlignmentFlag.AlignTop)
        layout.addWidget(self.text, 1)

    def axes(self) -> str | None:
        """Return the axes as edited, None without a layer."""
        return self.axes_edit.text().strip().upper() or None

    def show_layer(self, layer: ImageLayer | None, spatial: str = "YX", note: str = "") -> None:
        """Describe a layer; `note` is shown when there is none. Edited axes stay until it has others of its own."""
        own = "" if layer is None else layer_axes(layer)
        if layer is not self._layer or own != self._own:
            self._layer, self._own = layer, own
            self.axes_edit.setText(own)
        self.axes_edit.setVisible(layer is not None)
        self._spatial = spatial
        if layer is None:
            self.text.setText(note)
        else:
            self._describe()

    def _edited(self) -> None:
        if self._layer is not None and not self.axes():
            self.axes_edit.setText(layer_axes(self._layer))
        self._describe()
        self.axes_changed.emit()

    def _describe(self) -> None:
        if self._layer is None:
            return
        try:
            self.text.setText(describe(snapshot(self._layer, self.axes()).image, self._spatial))
            mark(self.axes_edit, False)
        except ReconError as error:
            self.text.setText(str(error))
            mark(self.axes_edit, True)


class Contents:
    """Calls `slot` when a layer gets other pixels, axes or pixel sizes, for as long as the panel lives."""

    def __init__(self, panel: Panel, slot: Callable) -> None:
        self._panel = weakref.ref(panel)  # the panel owns who is called
        self._slot = weakref.WeakMethod(slot)
        self._watched: weakref.WeakSet[Any] = weakref.WeakSet()

    def watch(self, layer: ImageLayer) -> None:
        """Listen to a layer, unless that is done."""
        panel, slot = self._panel(), self._slot()
        if panel is None or slot is None or layer in self._watched:
            return
        self._watched.add(layer)
        for emitter in (layer.events.data, layer.events.axis_labels, layer.events.scale, layer.events.units):
            panel.subscribe(emitter, slot)


def image_layers(viewer: Any) -> list[ImageLayer]:
    """Image layers of a viewer, from the bottom to the top; those that pass are left out."""
    return [layer for layer in viewer.layers if isinstance(layer, ImageLayer) and not is_passing(layer)]


def watch_layers(panel: Panel, slot: Callable) -> None:
    """Call `slot` when layers come, go, move or are renamed."""
    events = panel.viewer.layers.events
    for emitter in (events.inserted, events.removed, events.reordered, events.renamed):
        panel.subscribe(emitter, slot)
