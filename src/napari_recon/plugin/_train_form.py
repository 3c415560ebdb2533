"""The upper part of the Train panel: what to train, on what, and for how long."""

from typing import Any

from napari.layers import Shapes
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_recon.config import Config
from napari_recon.errors import ReconError
from napari_recon.image import Image
from napari_recon.models import MODELS
from napari_recon.plugin._device_badge import DeviceBadge
from napari_recon.plugin._forms import ConfigForm, add_row, compact_form, narrow, show_row, without_wheel
from napari_recon.plugin._layer_chooser import DataLine, LayerCombo, watch_layers
from napari_recon.plugin._layers import snapshot
from napari_recon.plugin._models import ModelChooser
from napari_recon.plugin._panel import Panel
from napari_recon.plugin._requests import TrainRequest
from napari_recon.plugin._sources import LAYERS, SourceChooser
from napari_recon.plugin._view import preview_region
from napari_recon.training.config import PRESETS, TrainConfig

PRESET, MINUTES, STEPS = "as the quality says", "minutes", "steps"
# Set elsewhere in the panel, or of no use in a window: several processes cannot be started from one.
HIDDEN = ("steps", "minutes", "devices", "nodes")


class TrainForm(QWidget):
    """Everything that is decided before training starts."""

    changed = Signal()

    def __init__(self, panel: Panel) -> None:
        super().__init__()
        self.viewer = panel.viewer
        self._rows = rows = compact_form(self)
        self._make_choosers(panel)
        self._make_budget()
        self.device = DeviceBadge()
        add_row(rows, "Train a", self.family)
        add_row(rows, "From", self.sources)
        rows.addRow(self.data)
        add_row(rows, "Target", self.target)
        add_row(rows, "Start from", self.start_from)
        add_row(rows, "Quality", self.quality)
        add_row(rows, "Budget", self.budget_row)
        add_row(rows, "Watch", self.region)
        add_row(rows, "Device", self.device)
        for signal in (self.sources.changed, self.data.axes_changed, self.presets.buttonClicked):
            signal.connect(self._changed)
        self.budget.currentIndexChanged.connect(self._changed)
        self.amount.valueChanged.connect(self._changed)
        self.target.currentIndexChanged.connect(self._changed)
        self.family.currentIndexChanged.connect(self._family_changed)
        self._changed()

    def _make_choosers(self, panel: Panel) -> None:
        self.family = narrow(QComboBox())
        for name, family in MODELS.items():
            self.family.addItem(family.label, name)
        self.family.setToolTip("Which kind of model, and what it will do to a layer.")
        self.sources = SourceChooser(panel)
        self.sources.setToolTip("What to learn from; noisy images suffice.")
        self.data = DataLine()
        self.target = LayerCombo(panel, first="none: learn from the noise")
        self.target.setToolTip(
            "What the image should become: a second noisy take or a long exposure of the same field."
        )
        self.start_from = ModelChooser(self.verb(), [("automatic", "auto"), ("fresh weights", None)])
        self.start_from.setToolTip(
            "Which weights to begin with. Automatic: those of the universal denoiser where they fit the network."
        )
        self.region = _RegionChooser(panel)

    def _make_budget(self) -> None:
        self.presets = QButtonGroup(self)
        self.quality = QWidget()
        self.quality.setToolTip("How long to train; longer is better.")
        line = QHBoxLayout(self.quality)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(2)
        for name, values in PRESETS.items():
            button = QPushButton(f"{name}\n{_minutes(float(values['minutes']))}")
            button.setCheckable(True)
            button.setToolTip(f"Train for {_minutes(float(values['minutes']))} on this machine.")
            button.setProperty("preset", name)
            self.presets.addButton(button)
            line.addWidget(button, len(name))
        self.presets.buttons()[0].setChecked(True)
        self.budget = narrow(QComboBox())
        self.budget.addItems([PRESET, MINUTES, STEPS])
        self.budget.setToolTip("Give a time or a number of steps of your own instead of the quality's.")
        self.amount = QDoubleSpinBox()
        self.amount.setToolTip("Minutes or steps to train for.")
        self.amount.setKeyboardTracking(False)
        self.amount.setFixedWidth(86)
        without_wheel(self.amount)
        self.budget_row = QWidget()
        self.budget_row.setToolTip(self.budget.toolTip())
        row = QHBoxLayout(self.budget_row)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.budget, 1)
        row.addWidget(self.amount)
        self.budget.currentTextChanged.connect(self._show_budget)
        self._show_budget(PRESET)

    def choose(self, family: str, layer: Any) -> None:
        """Choose a family, and a layer to learn from."""
        self.family.setCurrentIndex(self.family.findData(family))
        self.sources.kind.setCurrentText(LAYERS)
        self.sources.layers.check([layer])

    def layer(self) -> Any:
        """Return the first of the layers to learn from, None without any."""
        layers = self.sources.layers.layers() if self.sources.from_layers() else []
        return layers[0] if layers else None

    def advanced(self) -> "AdvancedForm":
        """Make the folded part for the family chosen."""
        return AdvancedForm(MODELS[self.family.currentData()].config)

    def request(self, *parts: Any) -> TrainRequest:
        """Read the form, and the `changes` of further parts of the panel; those that are None were never unfolded.

        Raises
        ------
        ReconError
            When nothing is chosen to train on, or what was typed does not fit.
        """
        options: dict[str, Any] = {"preset": self._preset()}
        if self.budget.currentText() == MINUTES:
            options["minutes"] = self.amount.value()
        elif self.budget.currentText() == STEPS:
            options["steps"] = int(self.amount.value())
        for part in parts:
            options |= part.changes() if part is not None else {}
        options |= {"start_from": self.start_from.reference(), "device": self.device.device()}
        family = self.family.currentData()
        if not self.sources.from_layers():
            return TrainRequest(family, files=self.sources.files(), options=options)
        layers = self.sources.layers.layers()
        if not layers:
            raise ReconError("No layer was chosen to train on.", "Check one under From, or choose files.")
        axes = self.data.axes() if len(layers) == 1 else None
        target = self.target.layer() if self._takes_target() else None
        if target is not None and len(layers) > 1:
            raise ReconError("A target belongs to one layer.", "Check only one layer under From, or take no target.")
        return TrainRequest(
            family,
            tuple(snapshot(layer, axes) for layer in layers),
            target=None if target is None else snapshot(target, axes),
            preview=self._preview(layers[0], axes),
            options=options,
        )

    def _preset(self) -> str:
        return next(b.property("preset") for b in self.presets.buttons() if b.isChecked())

    def _preview(self, layer: Any, axes: str | None) -> Image:
        axes = snapshot(layer, axes).image.axes
        return snapshot(layer, axes, preview_region(self.viewer, layer, axes, self.region.box(layer))).image

    def verb(self) -> str:
        """What the model will do to a layer."""
        return MODELS[self.family.currentData()].verb

    def _takes_target(self) -> bool:
        """Whether a layer can be the target; the other families learn from images alone."""
        return self.verb() == "denoise"

    def _family_changed(self, *_: Any) -> None:
        self.start_from.serve(self.verb())
        show_row(self._rows, self.target, self._takes_target())
        self._changed()

    def _show_budget(self, kind: str) -> None:
        self.amount.setVisible(kind != PRESET)
        steps = kind == STEPS
        self.amount.setDecimals(0 if steps else 1)
        self.amount.setRange(1 if steps else 0.1, 10_000_000 if steps else 100_000)
        self.amount.setValue(2000 if steps else 3)
        for button in self.presets.buttons():
            button.setEnabled(kind == PRESET)

    def _changed(self, *_: Any) -> None:
        layers = self.sources.layers.layers() if self.sources.from_layers() else []
        note = f"{len(layers)} layers" if layers else "axes as the files say"
        if self.sources.from_layers() and not layers:
            note = "Open an image to begin."
        self.data.show_layer(layers[0] if len(layers) == 1 else None, note=note)
        self.changed.emit()


class AdvancedForm(QWidget):
    """Every option of the family and of training that has no part of its own, made from their dataclasses."""

    def __init__(self, config: type[Config]) -> None:
        super().__init__()
        self.forms = [
            ConfigForm(config, [o.name for o in config.options() if o.group]),
            ConfigForm(TrainConfig, HIDDEN),
        ]
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for form in self.forms:
            layout.addWidget(form)

    def changes(self) -> dict[str, Any]:
        """Return the values that differ from the defaults."""
        return {name: value for form in self.forms for name, value in form.changes().items()}

    def set_values(self, values: dict[str, Any]) -> None:
        """Fill in values of options."""
        for form in self.forms:
            form.set_values(values)

    def mark(self, error: ReconError | None) -> None:
        """Mark the field that an error names."""
        for form in self.forms:
            form.mark(error)


class _RegionChooser(QComboBox):
    """Which region to watch while training: what is visible, or a box in a shapes layer."""

    def __init__(self, panel: Panel) -> None:
        super().__init__()
        narrow(self)
        self.setToolTip("Region that is shown denoised while it trains: what you see now, or a box of a shapes layer.")
        self._viewer = panel.viewer
        watch_layers(panel, self.refresh)
        self.refresh()

    def refresh(self, event: Any = None) -> None:
        """List the shapes layers anew."""
        chosen = self.currentData()
        self.clear()
        self.addItem("visible region", None)
        for layer in self._viewer.layers:
            if isinstance(layer, Shapes):
                self.addItem(f"box in {layer.name}", layer)
        self.setCurrentIndex(next((i for i in range(self.count()) if self.itemData(i) is chosen), 0))

    def box(self, layer: Any) -> Any:
        """Corners of the last shape, in pixels of `layer`; None for the visible region."""
        import numpy as np

        shapes = self.currentData()
        if shapes is None or not shapes.nshapes:
            return None
        return np.array([layer.world_to_data(shapes.data_to_world(p)[-layer.ndim :]) for p in shapes.data[-1]])


def _minutes(minutes: float) -> str:
    return f"{minutes:g} min" if minutes < 60 else f"{minutes / 60:g} h"
