"""Every entry of File > Open Sample opens real images that ship with the plugin."""

import numpy as np
import pytest
from napari.layers import Image
from npe2 import PluginManifest

from napari_recon.plugin import sample_data

MANIFEST = PluginManifest.from_distribution("napari-recon")
SAMPLES = {sample.key: sample for sample in MANIFEST.contributions.sample_data}
COMMANDS = {command.id: command.python_name for command in MANIFEST.contributions.commands}


def open_sample(key: str) -> list[Image]:
    function = getattr(sample_data, COMMANDS[SAMPLES[key].command].partition(":")[2])
    return [Image(data, **attributes) for data, attributes, kind in function() if kind == "image"]


@pytest.mark.parametrize("key", sorted(SAMPLES))
def test_sample_opens_as_named_layers_with_axes_and_licence(key):
    layers = open_sample(key)
    assert layers
    for layer in layers:
        assert layer.name
        assert np.ptp(layer.data) > 0
        assert layer.axis_labels == ("z", "y", "x")[-layer.ndim :]
        assert layer.metadata["sample"]["licence"] in {"CC0-1.0", "BSD-3-Clause"}


@pytest.mark.parametrize("key", ["nucleus", "mitochondria", "membrane"])
def test_noisy_sample_lies_on_top_of_its_long_exposure(key):
    clean, noisy = open_sample(key)
    assert noisy.visible
    assert not clean.visible
    assert noisy.data.shape == clean.data.shape
    # Noise of one pixel does not know its neighbour: the noisy image differs more between neighbours.
    assert _roughness(noisy.data) > 1.3 * _roughness(clean.data)


def test_channels_open_as_one_layer_each():
    layers = open_sample("cell_painting")
    assert [layer.data.shape for layer in layers] == [(395, 695)] * 3
    assert len({layer.colormap.name for layer in layers}) == 3


def test_known_pixel_size_is_in_the_layer():
    (layer,) = open_sample("phase")
    assert layer.scale == pytest.approx([0.107, 0.107])
    assert [str(unit) for unit in layer.units] == ["micrometer", "micrometer"]


def _roughness(image: np.ndarray) -> float:
    image = image.astype(float)
    return float(np.abs(np.diff(image, axis=1)).mean() / image.std())
