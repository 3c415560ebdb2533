"""The Complete page of the Upscale panel: fill what a labels or shapes layer marks."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Labels, Shapes
from qtpy.QtWidgets import QComboBox, QLabel, QWidget

from napari_recon.errors import ReconError
from napari_recon.plugin._as_python import arguments, chosen, model_text, script
from napari_recon.plugin._forms import add_row, compact_form, narrow, show_row
from napari_recon.plugin._layer_chooser import watch_layers
from napari_recon.plugin._layers import Snapshot, add_result, refuse_labels, snapshot
from napari_recon.plugin._models import ModelChooser
from napari_recon.plugin._sample_pages import number
from napari_recon.plugin._sample_requests import Made
from napari_recon.progress import CancelToken, ProgressCallback

A_GUESS = "What is filled in is a guess from the surroundings: not to be measured."


@dataclass(frozen=True)
class CompleteRequest:
    """One run of Complete.

    Parameters
    ----------
    source : Snapshot
        What to fill.
    mask : numpy.ndarray
        Not zero where to fill.
    marks : str
        The line of Python that makes it.
    model : TrainedModel, Path or None
        With what; None trains on the rest of the image.
    options : dict
        Keyword arguments of `napari_recon.api.complete`.
    """

    source: Snapshot
    mask: np.ndarray
    marks: str
    model: Any
    options: dict[str, Any]

    @property
    def title(self) -> str:
        """What is done, for people."""
        return f"Complete {self.source.name}"

    def run(self, on_progress: ProgressCallback, cancel: CancelToken) -> Made:
        """Do it. Runs on any thread."""
        from napari_recon import api

        start = time.monotonic()
        image = self.source.image
        done = api.complete(image, self.mask, self.model, on_progress=on_progress, cancel=cancel, **self.options)
        record = {**done.metadata["napari_recon"], "parameters": dict(self.options), "python": self.as_python()}
        return Made(self, {"completed": done.array}, record, time.monotonic() - start)

    def as_python(self) -> str:
        """Write lines that do the same."""
        model = "" if self.model is None else model_text(self.model)
        call = f"completed = complete({arguments('image', 'mask', model, **chosen(self.options))})"
        return script(["complete"], self.source, self.marks, call)


class CompletePage(QWidget):
    """Which marks to fill, and with which model."""

    title, verb = "Complete", "complete"
    label, help = "Complete", "Fill what is marked; all other pixels stay exactly as they are."

    def __init__(self, panel: Any) -> None:
        super().__init__()
        self._panel = panel
        self.marks = MaskCombo(panel)
        self.model = ModelChooser(self.verb, [("train on this image", None)])
        self.model.setToolTip("What fills: a network trained on this image at once, or a completion trained before.")
        self.minutes = number(1, 600, 1, "Minutes to train on the rest of the image; large holes need more.")
        self.note = QLabel(A_GUESS)
        self.note.setObjectName("grey")
        self.note.setWordWrap(True)
        self._rows = rows = compact_form(self)
        rows.setContentsMargins(4, 4, 4, 4)
        add_row(rows, "Mask", self.marks)
        add_row(rows, "Model", self.model)
        add_row(rows, "Minutes", self.minutes)
        rows.addRow(self.note)
        self.model.changed.connect(self._follow)

    def request(self) -> CompleteRequest:
        """Read the page; raises `ReconError` when something is missing or does not fit."""
        panel = self._panel
        layer, marks = panel.layer.layer(), self.marks.layer()
        if layer is None:
            refuse_labels(panel.viewer.layers.selection.active)
            raise ReconError("There is no image to complete.", "Open one, or try File > Open Sample > Reconstruct.")
        if marks is None:
            raise ReconError("Nothing is marked.", "Add a labels or shapes layer and mark what to fill.")
        source = snapshot(layer, panel.data.axes())
        model = self.model.reference()
        options = {"device": panel.device.device()}
        if model is None:
            options["minutes"] = float(self.minutes.value())
        return CompleteRequest(source, marked(marks, layer), _line(marks), model, options)

    def show_made(self, made: Made) -> str:
        """Add the layer, and say what was done."""
        panel, source, record = self._panel, made.request.source, made.record
        layer = add_result(panel.viewer, source, made.pixels["completed"], "completed", record)
        panel.viewer.layers.selection.active = layer
        before = source.layer_in(panel.viewer)
        panel.layer.choose(before)
        panel.compare.remember(layer, before)
        notes = "".join(f" · {note}" for note in record["notes"])
        return f"Filled {record['filled']:,} pixels in {made.seconds:.1f} s{notes}"

    def _follow(self) -> None:
        show_row(self._rows, self.minutes, self.model.reference() is None)


class MaskCombo(QComboBox):
    """The labels and shapes layers of the viewer."""

    def __init__(self, panel: Any) -> None:
        super().__init__()
        narrow(self)
        self.setToolTip("Labels or shapes layer that marks what to fill, on all planes where it has only one.")
        self._viewer = panel.viewer
        watch_layers(panel, self.refresh)
        self.refresh()

    def layer(self) -> Any:
        """Return the chosen layer, None when there is none."""
        return self.currentData()

    def refresh(self, event: Any = None) -> None:
        """List the layers anew; the choice stays, a new layer is chosen where there was none."""
        before = self.layer()
        self.clear()
        for layer in self._viewer.layers:
            if isinstance(layer, Labels | Shapes):
                self.addItem(layer.name, layer)
        if not self.count():
            self.addItem("none yet: add a labels or shapes layer", None)
        self.setCurrentIndex(next((i for i in range(self.count()) if self.itemData(i) is before), self.count() - 1))


def marked(marks: Any, layer: Any) -> np.ndarray:
    """Pixels of an image layer that a labels layer marks, or a shapes layer, which marks all planes alike."""
    if isinstance(marks, Labels):
        return np.asarray(marks.data[0] if marks.multiscale else marks.data) != 0
    if not marks.nshapes:
        raise ReconError(f"{marks.name} is empty: nothing is marked.", "Draw shapes around what to fill.")
    outlines = [np.array([_in_plane(point, marks, layer) for point in shape]) for shape in marks.data]
    shape = (layer.data[0] if layer.multiscale else layer.data).shape
    plane = shape[layer.ndim - 2 : layer.ndim]
    return Shapes(outlines, shape_type=list(marks.shape_type)).to_labels(plane) != 0


def _in_plane(point: np.ndarray, marks: Any, layer: Any) -> np.ndarray:
    """The last two coordinates, in pixels of the image, of a point of a shape."""
    world = np.asarray(marks.data_to_world(point))[-layer.ndim :]
    return np.asarray(layer.world_to_data(np.pad(world, (layer.ndim - len(world), 0))))[-2:]


def _line(marks: Any) -> str:
    """Line of Python that makes the mask, in napari's console."""
    layer = f"viewer.layers[{marks.name!r}]"
    return f"mask = {layer}.data" if isinstance(marks, Labels) else f"mask = {layer}.to_labels(image.shape[-2:])"
