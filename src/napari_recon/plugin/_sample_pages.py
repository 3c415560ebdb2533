"""The Samples and Generate pages of the Sample panel: what is asked, and how the results are shown."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from qtpy.QtWidgets import QCheckBox, QGridLayout, QLabel, QSpinBox, QWidget

from napari_recon.config import option
from napari_recon.errors import ReconError
from napari_recon.plugin._extent import ExtentChooser
from napari_recon.plugin._forms import add_row, compact_form, row, show_row, without_wheel
from napari_recon.plugin._layer_chooser import image_layers
from napari_recon.plugin._layers import KEY, SAMPLE, add_result, count_planes
from napari_recon.plugin._level_slider import LevelSlider
from napari_recon.plugin._sample_requests import GenerateRequest, Made, SampleRequest
from napari_recon.plugin._tile_options import TileOptions

# What can be added to the viewer: the name in the api, the label, whether it is at first, and what it is.
OUTPUTS = (
    ("mean", "mean", True, "Mean of the samples: the best single guess."),
    ("std", "std", True, "Standard deviation of the samples, calibrated: where they disagree, and by how much."),
    ("samples", "samples", True, "The samples themselves, as one layer with a slider through them."),
    ("median", "median", False, "Median of the samples, pixel by pixel."),
    ("variation", "overlay", False, "Standard deviation over signal, laid over the image: bright where it is unsure."),
)
# Later ones end up below, right above the source: what covers everything else is added first.
TOP_DOWN = ("variation", "std", "samples", "median", "mean")
BY_INTEREST = ("samples", "mean", "median", "std", "variation")
# Perceptually uniform, and black where there is nothing, so that they can be added to what lies below.
SPREAD_LOOK = {"colormap": "magma", "gamma": 1.0, "rgb": False}
OVERLAY_LOOK = {"colormap": "inferno", "gamma": 1.0, "rgb": False, "blending": "additive", "opacity": 0.6}
BRIGHTEST = 99.8  # percentile that is shown brightest
LOOKED_AT = 2**20  # pixels that tell it
LARGEST_SIDE = 16384
NARROWEST = 40  # pixels; holds five digits between the buttons


@dataclass(frozen=True)
class SampleOptions(TileOptions):
    """What is folded away; the fields are arguments of `napari_recon.api.sample`."""

    seed: int = option(0, "Seed", "The same seed gives the same samples.", minimum=0)
    mean_of_samples: bool = option(
        False, "Averaged mean", "The mean is that of the samples; else one pass gives it, which is as good."
    )


class SamplesPage(QWidget):
    """How many samples, and what to add of them."""

    title = "Samples"
    label, help = "Sample", "Draw images that the noisy layer may show."

    def __init__(self, panel: Any) -> None:
        super().__init__()
        self._panel = panel
        self.count = number(1, 1000, 16, "How many samples; more make std and median surer, and take longer.")
        self.outputs = {}
        boxes = QWidget()
        boxes.setToolTip("Layers that are added.")
        grid = QGridLayout(boxes)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(2)
        for i, (name, text, checked, help_text) in enumerate(OUTPUTS):
            box = QCheckBox(text)
            box.setChecked(checked)
            box.setToolTip(help_text)
            self.outputs[name] = box
            grid.addWidget(box, *divmod(i, 3))
        self.extent = ExtentChooser("Sample")
        rows = compact_form(self)
        rows.setContentsMargins(4, 4, 4, 4)
        add_row(rows, "Samples", self.count)
        rows.addRow(boxes)
        rows.addRow(self.extent)

    def request(self) -> SampleRequest:
        """Read the page; raises `ReconError` when something is missing."""
        panel = self._panel
        layer, model, options = panel.chosen_layer(), panel.chosen_model(), self.options()
        return SampleRequest(self.extent.take(panel.viewer, layer, panel.data.axes()), model, options)

    def options(self) -> dict[str, Any]:
        """Return the options of sampling; raises `ReconError` when nothing was chosen to add."""
        wanted = tuple(name for name, box in self.outputs.items() if box.isChecked())
        if not wanted:
            raise ReconError("Nothing was chosen to add.", "Check mean, std or samples.")
        options = {"n": self.count.value(), "outputs": wanted, "device": self._panel.device.device()}
        return {**options, **self._panel.advanced.values()}

    def show_made(self, made: Made) -> str:
        """Add the layers, and say what was done."""
        viewer, source = self._panel.viewer, made.request.source
        alone = not {"samples", "mean", "median"} & made.pixels.keys()
        added = {}
        for name in TOP_DOWN:
            if name not in made.pixels:
                continue
            pixels, look = made.pixels[name], {}
            if name in ("std", "variation"):
                # The overlay lets the image through; the std would cover it.
                look = dict(OVERLAY_LOOK) if name == "variation" else {**SPREAD_LOOK, "visible": alone}
                look["contrast_limits"] = (0.0, _brightest(pixels))
            added[name] = add_result(viewer, source, pixels, name, {**made.record, "output": name}, **look)
        viewer.layers.selection.active = next(added[name] for name in BY_INTEREST if name in added)
        record = made.record
        notes = "".join(f" · {note}" for note in record["notes"])
        hidden = " · std: click its eye" if "std" in added and not alone else ""
        how = f"tile {record['tile_size']}, {record['precision']}"
        return (
            f"Sampled {count_planes(source.image)} {record['n']} times in {made.seconds:.1f} s · {how}{notes}{hidden}"
        )


class GeneratePage(QWidget):
    """How large the new images shall be, how many, and how varied."""

    title = "Generate"
    label, help = "Generate", "Make new images like those the model was trained on."

    def __init__(self, panel: Any) -> None:
        super().__init__()
        self._panel = panel
        self.sides = {
            axis: number(1, LARGEST_SIDE, size, f"Pixels along {axis} of each image.")
            for axis, size in (("Z", 16), ("Y", 256), ("X", 256))
        }
        self.channel = number(0, 0, 0, "Which of the channels that the model was trained on, from 0.")
        self.count = number(1, 1000, 4, "How many images.")
        self.seed = number(0, 2**31 - 1, 0, "The same seed gives the same images.")
        help_text = "Below 1 the images are plainer, above 1 more varied than what was trained on."
        self.temperature = LevelSlider(2.0, help_text)
        self.noise = QCheckBox("add the camera's noise")
        self.noise.setToolTip("Add noise as it was measured in the training data; else the images are clean.")
        sizes = row(QLabel("Size"), *self.sides.values())
        sizes.setToolTip("Size of each image in pixels: Y and X, for a 3D model Z before them.")
        self._rows = rows = compact_form(self)
        rows.setContentsMargins(4, 4, 4, 4)
        rows.addRow(sizes)
        add_row(rows, "Channel", self.channel)
        add_row(rows, "Number", self.count)
        add_row(rows, "Temperature", self.temperature)
        add_row(rows, "Seed", self.seed)
        rows.addRow(self.noise)
        self.follow()

    def follow(self) -> None:
        """Ask for a depth and a channel where the model needs them."""
        self.sides["Z"].setVisible(self._panel.spatial() == "ZYX")
        channels = self._panel.model.channels()
        self.channel.setMaximum(channels - 1)
        show_row(self._rows, self.channel, channels > 1)

    def request(self) -> GenerateRequest:
        """Read the page; raises `ReconError` without a model."""
        panel = self._panel
        options = {
            "shape": tuple(self.sides[axis].value() for axis in panel.spatial()),
            "n": self.count.value(),
            "channel": self.channel.value(),
            "temperature": round(self.temperature.value(), 2),
            "noise": self.noise.isChecked(),
            "seed": self.seed.value(),
            "device": panel.device.device(),
        }
        return GenerateRequest(panel.chosen_model(), options)

    def show_made(self, made: Made) -> str:
        """Add the layer, and say what was done."""
        return add_generated(self._panel.viewer, made)


def add_generated(viewer: Any, made: Made) -> str:
    """Add a layer of what a `GenerateRequest` made, and say what was done."""
    pixels, record = made.pixels["generated"], made.record
    axes = ("z", "y", "x")[-len(made.request.options["shape"]) :]
    labels = (SAMPLE, *(("c",) if pixels.ndim > len(axes) + 1 else ()), *axes)
    look: dict[str, Any] = {}
    # A model knows no pixel size; the layer that it was trained on does, while it is open.
    origin = next((layer for layer in image_layers(viewer) if layer.name in record["trained_on"]), None)
    if origin is not None and not origin.rgb:
        ones = len(labels) - len(axes)
        look = {"colormap": origin.colormap, "contrast_limits": origin.contrast_limits, "gamma": origin.gamma}
        if origin.ndim >= len(axes):
            look["scale"] = (*(1.0 for _ in range(ones)), *origin.scale[-len(axes) :])
            look["units"] = (*("pixel" for _ in range(ones)), *origin.units[-len(axes) :])
    name = f"{record['model']} [generated]"
    layer = viewer.add_image(pixels, name=name, rgb=False, axis_labels=labels, metadata={KEY: record}, **look)
    viewer.layers.selection.active = layer
    size = " x ".join(map(str, made.request.options["shape"]))
    return f"Generated {len(pixels)} image{'s' * (len(pixels) > 1)} of {size} in {made.seconds:.1f} s"


def number(low: int, high: int, value: int, help: str) -> QSpinBox:
    """Make a field for a whole number."""
    spin = QSpinBox()
    spin.setRange(low, high)
    spin.setValue(value)
    spin.setToolTip(help)
    spin.setStyleSheet(f"min-width: {NARROWEST}px;")  # napari's is too wide for three in a row
    spin.setKeyboardTracking(False)
    without_wheel(spin)
    return spin


def _brightest(pixels: np.ndarray) -> float:
    """Value to show brightest; never 0, for a range needs two ends."""
    step = max(pixels.size // LOOKED_AT, 1)
    return float(np.nanpercentile(pixels.ravel()[::step], BRIGHTEST)) or 1.0
