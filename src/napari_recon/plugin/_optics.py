"""The optics in the Train panel: what makes a coarse image of a fine one when an upscaler is trained."""

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_recon.config import Config
from napari_recon.data.psf import psf_sigma
from napari_recon.errors import ReconError
from napari_recon.models import MODELS
from napari_recon.models.gan import OPTICS
from napari_recon.plugin._forms import ConfigForm, Foldout, add_row, compact_form
from napari_recon.plugin._layer_chooser import LayerCombo
from napari_recon.plugin._layers import Snapshot, snapshot
from napari_recon.plugin._panel import Panel
from napari_recon.plugin._train_form import TrainForm

HELP = "How the microscope blurs, bins and adds noise: the coarse side of the training is made from it."
PSF_HELP = "A layer that shows a bead in focus, at the pixel size of the fine images; it takes the place of the blur."
LINE_HELP = "What these optics do to the fine images, or what is wrong with them."
PROBLEM_COLOUR = "#d9534f"  # as the frame of a marked field


class OpticsFoldout(Foldout):
    """The optics, folded away, for families whose config has such a group; they follow the layer to learn from."""

    def __init__(self, panel: Panel, form: TrainForm) -> None:
        super().__init__(OPTICS, HELP, self._fresh)
        self._panel, self._form = panel, form
        form.changed.connect(self._follow)
        self._follow()

    def used(self) -> "OpticsForm | None":
        """Return the form when the family has optics and they were unfolded."""
        return None if self.isHidden() else self.content

    def _fresh(self) -> "OpticsForm":
        form = OpticsForm(self._panel, MODELS[self._form.family.currentData()].config)
        form.show_layer(self._form.layer())
        form.changed.connect(self._form.changed)
        return form

    def _follow(self) -> None:
        config = MODELS[self._form.family.currentData()].config
        self.setVisible(any(o.group == OPTICS for o in config.options()))
        if self.content is not None:
            self.content.show_layer(self._form.layer())


class OpticsForm(QWidget):
    """Options of the group, a layer that shows the PSF, and a line that says what comes of them."""

    changed = Signal()

    def __init__(self, panel: Panel, config: type[Config]) -> None:
        super().__init__()
        self._config: Any = config
        self._found: float | None = None  # the pixel size of the layer, as it was filled in
        self.fields = ConfigForm(config, [o.name for o in config.options() if o.group != OPTICS])
        self.psf_layer = LayerCombo(panel, first="none")
        self.psf_layer.setToolTip(PSF_HELP)
        self.line = QLabel()
        self.line.setWordWrap(True)
        self.line.setToolTip(LINE_HELP)
        rows = compact_form()
        add_row(rows, "PSF layer", self.psf_layer)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addWidget(self.fields)
        layout.addLayout(rows)
        layout.addWidget(self.line)
        self.fields.changed.connect(self._changed)
        self.psf_layer.currentIndexChanged.connect(self._changed)
        self._changed()

    def show_layer(self, layer: Any) -> None:
        """Fill in the pixel size of a layer that knows it, unless another was typed."""
        found = None if layer is None else pixel_size_of(layer)
        if found != self._found and self.fields.changes().get("pixel_size") == self._found:
            self._found = found
            self.fields.set_values({"pixel_size": found})

    def changes(self) -> dict[str, Any]:
        """Return the values that differ from the defaults.

        Raises
        ------
        ReconError
            When something typed is not a number; the field is marked.
        """
        values = self.fields.changes()
        alone = "na" not in values and "wavelength" not in values
        if alone and values.get("pixel_size") == self._found:
            values.pop("pixel_size", None)  # nobody typed it, and by itself it says nothing of the blur
        return values

    def psf(self) -> Snapshot | None:
        """Return the layer that shows the PSF, if one is chosen.

        Raises
        ------
        ReconError
            When it is not a single plane.
        """
        layer = self.psf_layer.layer()
        if layer is None:
            return None
        taken = snapshot(layer)
        if taken.image.axes not in ("YX", "XY"):
            raise ReconError(
                f"The PSF layer {layer.name} has axes {taken.image.axes}.",
                "Choose a layer of its plane in focus alone.",
            )
        return taken

    def mark(self, error: ReconError | None) -> None:
        """Mark the fields that an error names."""
        self.fields.mark(error)

    def _changed(self, *_: Any) -> None:
        try:
            text, problem = describe(self._config(**self.changes()), self.psf()), None
        except ReconError as error:
            text, problem = str(error), error
        self.mark(problem)
        self.line.setText(text)
        self.line.setStyleSheet(f"color: {PROBLEM_COLOUR};" if problem else "")
        self.changed.emit()


def describe(config: Any, psf: Snapshot | None) -> str:
    """Write what optics do: ``blurs by 1.29 pixels · 200 photons, read noise 2``."""
    if psf is not None:
        blur = "blurs by {} x {} pixels of {}".format(*psf.image.shape, psf.name)
    elif config.psf_file:
        blur = f"blurs by the PSF in {config.psf_file}"
    else:
        sigma = config.psf_sigma
        if config.na is not None:
            sigma = psf_sigma(config.na, config.wavelength, config.pixel_size)
        blur = f"blurs by {sigma:.3g} pixels (standard deviation)"
    noise = "no noise" if config.photons is None else f"{config.photons:g} photons, read noise {config.read_noise:g}"
    unused = " (read noise needs photons)" if config.photons is None and config.read_noise else ""
    return f"{blur} · {noise}{unused}"


def pixel_size_of(layer: Any) -> float | None:
    """Return the pixel size of a layer along X in nm; None when its unit is no length."""
    axis = -1 if not layer.rgb else layer.ndim - 1
    unit = layer.units[axis]
    if not unit.is_compatible_with("nanometer"):
        return None
    return float(f"{(float(layer.scale[axis]) * unit).to('nanometer').magnitude:g}")  # as it is shown
