"""The Explore page of the Sample panel: what a latent does, and the way from one layer to another."""

import weakref
from typing import Any

import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QLabel, QRadioButton, QSlider, QWidget

from napari_recon.errors import ReconError
from napari_recon.plugin._forms import add_row, compact_form, row, without_wheel
from napari_recon.plugin._latent_chooser import LatentChooser, explored_region
from napari_recon.plugin._layer_chooser import LayerCombo
from napari_recon.plugin._layers import KEY, add_result, result_place, snapshot
from napari_recon.plugin._sample_pages import number
from napari_recon.plugin._sample_requests import InterpolateRequest, Made, TraverseRequest

DELAY = 300  # milliseconds without another change
LABEL_WIDTH = 50


class ExplorePage(QWidget):
    """Makes a series of images of the visible region, and moves through it."""

    title = "Explore"

    def __init__(self, panel: Any) -> None:
        super().__init__()
        self._panel = panel
        self._made: Made | None = None
        self._layer: weakref.ref[Any] | None = None
        self._again = False
        self._make_controls()
        self._redraw_soon = QTimer(self)
        self._redraw_soon.setSingleShot(True)
        self._redraw_soon.setInterval(DELAY)
        self._redraw_soon.timeout.connect(self._redraw)
        for signal in (self.latent.currentIndexChanged, self.steps.valueChanged, self.span.valueChanged):
            signal.connect(self._changed)
        panel.subscribe(panel.viewer.dims.events.point, self._moved)
        self._show_mode()

    def _make_controls(self) -> None:
        self.traverse, self.interpolate = QRadioButton("move one latent"), QRadioButton("go to a layer")
        self.traverse.setToolTip("Show what one latent of the model does to the visible region.")
        self.interpolate.setToolTip("Go from the layer to another one through the latents.")
        self.traverse.setChecked(True)
        self.traverse.toggled.connect(self._show_mode)
        self.latent = LatentChooser(self._panel)
        self.other = LayerCombo(self._panel, first="choose a layer")
        self.other.setToolTip("Where to go: a layer of the same size.")
        self.steps = number(2, 101, 9, "How many images from one end to the other.")
        self.span = QDoubleSpinBox()
        self.span.setRange(0.1, 20)
        self.span.setValue(3)
        self.span.setDecimals(1)
        self.span.setPrefix("± ")
        self.span.setSuffix(" σ")
        self.span.setToolTip("How far the latent is moved each way, in standard deviations of its prior.")
        self.span.setKeyboardTracking(False)
        without_wheel(self.span)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setToolTip("Which of the images is shown; the same as napari's slider.")
        self.slider.setEnabled(False)
        without_wheel(self.slider)
        self.slider.valueChanged.connect(self._show_step)
        self.place = QLabel()
        self.place.setFixedWidth(LABEL_WIDTH)
        steps = row(self.steps, self.span)
        steps.setToolTip("How many images, and how far.")
        shown = QWidget()
        line = QHBoxLayout(shown)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.slider, 1)
        line.addWidget(self.place)
        shown.setToolTip(self.slider.toolTip())
        rows = compact_form(self)
        rows.setContentsMargins(4, 4, 4, 4)
        rows.addRow(row(self.traverse, self.interpolate))
        add_row(rows, "Latent", self.latent)
        add_row(rows, "To", self.other)
        add_row(rows, "Steps", steps)
        add_row(rows, "Show", shown)

    @property
    def label(self) -> str:
        """What the panel's button does."""
        return "Traverse" if self.traverse.isChecked() else "Interpolate"

    @property
    def help(self) -> str:
        """What the panel's button does, in a sentence."""
        if self.traverse.isChecked():
            return "Make a series of the visible region; then it follows the choices above."
        return "Make a series from the visible region of the layer to that of the other."

    def follow(self) -> None:
        """Take notice of another layer or model, or of the page being shown."""
        self.latent.follow()

    def request(self) -> TraverseRequest | InterpolateRequest:
        """Read the page; raises `ReconError` when something is missing."""
        panel = self._panel
        layer, model = panel.chosen_layer(), panel.chosen_model()
        source, device = explored_region(panel, layer), panel.device.device()
        if self.traverse.isChecked():
            factor = self.latent.factor() or 0  # the most telling, as long as they are not listed
            return TraverseRequest(source, model, factor, self.steps.value(), self.span.value(), device)
        other = self.other.layer()
        if other is None or other is layer:
            raise ReconError("There is no other layer to go to.", "Choose one beside To.")
        target = snapshot(other, source.image.axes, source.slices)
        return InterpolateRequest(source, target, model, self.steps.value(), device)

    def show_made(self, made: Made) -> str:
        """Show the series, in the place of the last of its kind, and say what was done."""
        viewer, source = self._panel.viewer, made.request.source
        ((name, pixels),) = made.pixels.items()
        layer = self.layer()
        ndim = pixels.ndim - source.rgb
        last = (self._made.request.source.name, *self._made.pixels) if self._made is not None else None
        if layer is None or last != (source.name, name) or layer.ndim != ndim:
            layer = add_result(viewer, source, pixels, name, made.record)
            viewer.layers.move(viewer.layers.index(layer), len(viewer.layers))  # other results would hide it
            viewer.layers.selection.active = layer
            self._layer = weakref.ref(layer)
        else:
            layer.data = pixels
            layer.translate = result_place(source, ndim)["translate"]
            layer.metadata = {**layer.metadata, KEY: made.record}
        before = self._made.request.steps if self._made is not None else 0
        self._made = made
        steps = len(pixels)
        self.slider.setEnabled(True)
        self.slider.setRange(0, steps - 1)
        if before != steps:
            self.slider.setValue(steps // 2)
        self._show_step()
        return f"{steps} images in {made.seconds:.1f} s"

    def layer(self) -> Any:
        """Return the layer of the series, None when there is none."""
        layer = self._layer() if self._layer is not None else None
        return layer if layer in self._panel.viewer.layers else None

    def ended(self) -> None:
        """Draw again what was changed during the run."""
        if self._again:
            self._again = False
            self._panel.controls.run()

    def _show_mode(self) -> None:
        moves = self.traverse.isChecked()
        for editor in (self.latent, self.span):
            editor.setEnabled(moves)
        self.other.setEnabled(not moves)
        self._panel.show_action()

    def _changed(self, *_: Any) -> None:
        if self.layer() is not None and self._made is not None and isinstance(self._made.request, TraverseRequest):
            self._redraw_soon.start()

    def _redraw(self) -> None:
        """Make the series anew for another latent, another number of steps or another span."""
        if (
            self._panel.tabs.currentWidget() is not self
            or not self.traverse.isChecked()
            or self.latent.factor() is None
        ):
            return
        job = self._panel.controls.job
        if job is None:
            self._panel.controls.run()
        elif isinstance(self._panel.running, TraverseRequest):
            self._again = True
            job.token.cancel()

    def _show_step(self, *_: Any) -> None:
        layer, dims = self.layer(), self._panel.viewer.dims
        if layer is None or self._made is None:
            return
        dims.set_point(dims.ndim - layer.ndim, self.slider.value())
        request, share = self._made.request, self.slider.value() / max(self.slider.maximum(), 1)
        if isinstance(request, TraverseRequest):
            self.place.setText(f"{(2 * share - 1) * request.span:+.1f} σ")
        else:
            self.place.setText(f"{share:.0%}")

    def _moved(self, event: Any = None) -> None:
        layer, dims = self.layer(), self._panel.viewer.dims
        if layer is not None:
            self.slider.setValue(int(np.clip(round(dims.point[dims.ndim - layer.ndim]), 0, self.slider.maximum())))
