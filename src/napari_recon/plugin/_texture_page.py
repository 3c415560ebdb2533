"""The Texture page of the Upscale panel: new texture like that which a model was trained on."""

from typing import Any

from qtpy.QtWidgets import QCheckBox, QLabel, QPushButton, QWidget

from napari_recon.errors import ReconError
from napari_recon.plugin._forms import add_row, compact_form, row, show_row
from napari_recon.plugin._models import ModelChooser
from napari_recon.plugin._sample_pages import LARGEST_SIDE, add_generated, number
from napari_recon.plugin._sample_requests import GenerateRequest, Made

NO_MODEL = "There is no texture yet. Train one on a layer that shows it."


class TexturePage(QWidget):
    """Which texture, how large, how many, and whether it shall go on without a seam."""

    title, verb = "Texture", "generate"
    label, help = "Generate", "Make new texture like that which the model was trained on."

    def __init__(self, panel: Any) -> None:
        super().__init__()
        self._panel = panel
        self.model = ModelChooser(self.verb)
        self.model.setToolTip("The texture: a model trained on an image that shows it.")
        self.train = QPushButton("Train one on this layer...")
        self.train.setToolTip("Open the Train panel with this layer and the right family.")
        self.train.clicked.connect(lambda: panel.open_train("texture"))
        self.sides = {a: number(1, LARGEST_SIDE, 512, f"Pixels along {a} of each image.") for a in "YX"}
        self.channel = number(0, 0, 0, "Which of the channels that the model was trained on, from 0.")
        self.count = number(1, 1000, 1, "How many images.")
        self.seed = number(0, 2**31 - 1, 0, "The same seed gives the same texture.")
        self.tileable = QCheckBox("without a seam")
        self.tileable.setToolTip("Let each image go on without a seam where it is laid beside itself.")
        sizes = row(QLabel("Size"), *self.sides.values())
        sizes.setToolTip("Size of each image in pixels, Y and X.")
        self._rows = rows = compact_form(self)
        rows.setContentsMargins(4, 4, 4, 4)
        add_row(rows, "Model", self.model)
        rows.addRow(self.train)
        rows.addRow(sizes)
        add_row(rows, "Channel", self.channel)
        add_row(rows, "Number", self.count)
        add_row(rows, "Seed", self.seed)
        rows.addRow(self.tileable)
        self.model.changed.connect(self._follow)
        self._follow()

    def request(self) -> GenerateRequest:
        """Read the page; raises `ReconError` without a model."""
        model = self.model.reference()
        if model is None:
            raise ReconError(NO_MODEL, "Plugins > Train, family Texture; or open a model file.")
        options = {
            "shape": tuple(side.value() for side in self.sides.values()),
            "n": self.count.value(),
            "channel": self.channel.value(),
            "seed": self.seed.value(),
            "tileable": self.tileable.isChecked(),
            "device": self._panel.device.device(),
        }
        return GenerateRequest(model, options)

    def show_made(self, made: Made) -> str:
        """Add the layer, and say what was done."""
        return add_generated(self._panel.viewer, made)

    def _follow(self) -> None:
        """Offer a training where there is no model, and a channel where there are several."""
        channels = self.model.channels()
        self.channel.setMaximum(channels - 1)
        show_row(self._rows, self.channel, channels > 1)
        show_row(self._rows, self.train, self.model.reference() is None)
