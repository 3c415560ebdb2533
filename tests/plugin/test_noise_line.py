"""What the panels say about the noise of a layer."""

from contextlib import suppress

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_recon import api
from napari_recon.errors import ReconError
from napari_recon.image import Image
from napari_recon.plugin._noise_line import Measurement

from .conftest import PATIENCE, SIZE, noisy_image

GAIN = 4


@pytest.fixture
def cells(viewer):
    return viewer.add_image(GAIN * noisy_image((128, 128)), name="cells")


def wait_for_noise(qtbot, panel):
    qtbot.waitUntil(lambda: panel.noise.found is not None, timeout=PATIENCE)


def pages(details):
    return [details.tabs.tabText(i) for i in range(details.tabs.count())]


@pytest.mark.parametrize("name", ["Denoise", "Train"])
def test_noise_is_measured_by_itself(cells, open_panel, qtbot, name):
    panel = open_panel(name)
    assert "measuring" in panel.noise.text()
    wait_for_noise(qtbot, panel)
    assert panel.noise.found.reports[0].estimate.gain == pytest.approx(GAIN, rel=0.4)
    assert "noise: gain" in panel.noise.text()
    assert "white" in panel.noise.text()


def test_noise_follows_layer_and_pixels(viewer, cells, open_panel, qtbot):
    panel = open_panel("Denoise")
    wait_for_noise(qtbot, panel)
    viewer.add_image(noisy_image((2, 64, 64)), name="other")
    assert panel.noise.found is None
    wait_for_noise(qtbot, panel)
    assert panel.noise.found.name == "other"
    panel.layer.choose(cells)
    wait_for_noise(qtbot, panel)
    cells.data = noisy_image((128, 128))
    assert "measuring" in panel.noise.text()
    wait_for_noise(qtbot, panel)
    assert panel.noise.found.reports[0].estimate.gain == pytest.approx(1, rel=0.4)


def test_a_run_takes_over_the_noise_of_the_very_pixels(cells, open_panel, qtbot):
    panel = open_panel("Denoise")
    request = panel.request()  # before it is measured: whoever needs it first measures it
    (known,) = request.known_noise(request.source.image)
    assert known == api.measure_noise(cells.data)[0].estimate
    wait_for_noise(qtbot, panel)
    assert panel.noise.found.reports[0].estimate is known
    assert request.known_noise(request.source.image.crop({"Y": slice(0, 64)})) is None
    cells.data[:64] *= 2  # in place, of which napari tells nobody
    request = panel.request()
    assert request.known_noise(request.source.image) is None


def test_nothing_is_said_without_a_layer_or_for_a_mask(viewer, cells, open_panel, qtbot):
    panel = open_panel("Denoise")
    wait_for_noise(qtbot, panel)
    viewer.layers.remove(cells)
    assert panel.noise.isHidden()
    viewer.add_image(noisy_image((SIZE, SIZE)) > 300, name="mask")
    qtbot.waitUntil(panel.noise.isHidden, timeout=PATIENCE)
    assert "labels" in panel.data.text.text()


def test_of_a_large_layer_a_part_is_measured(viewer, open_panel, qtbot):
    viewer.add_image(np.broadcast_to(noisy_image((128, 128)), (500, 128, 128)), name="movie")
    panel = open_panel("Denoise")
    wait_for_noise(qtbot, panel)
    assert not panel.noise.found.whole
    assert panel.noise.found.reports[0].estimate.gain == pytest.approx(1, rel=0.4)


def test_details_have_a_page_for_each_channel_and_follow_the_layer(viewer, cells, open_panel, qtbot):
    rgb = np.stack([noisy_image((64, 64), "uint8")] * 3, axis=-1)
    viewer.add_image(rgb, rgb=True, name="stain")
    panel = open_panel("Denoise")
    wait_for_noise(qtbot, panel)
    assert "of 3" in panel.noise.text()
    panel.noise.linkActivated.emit("#details")
    details = panel.noise.details
    assert not details.isModal()
    assert pages(details) == ["Channel 1", "Channel 2", "Channel 3"]
    panel.layer.choose(cells)
    wait_for_noise(qtbot, panel)
    assert pages(details) == ["Channel 1"]
    assert "cells" in details.windowTitle()


def test_options_for_correlated_noise_arrive_in_train(viewer, open_panel, qtbot):
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(0).normal(0, 20, (256, 256))
    layer = viewer.add_image((500 + gaussian_filter(noise, 1) * 3).astype("float32"), name="resampled")
    viewer.add_image(noisy_image((SIZE, SIZE)), name="other")
    panel = open_panel("Denoise")
    panel.layer.choose(layer)
    wait_for_noise(qtbot, panel)
    assert "correlated" in panel.noise.text()
    panel.noise.linkActivated.emit("#details")
    qtbot.mouseClick(panel.noise.details.use, Qt.MouseButton.LeftButton)
    train = open_panel("Train")
    request = train.request()
    assert request.sources[0].name == "resampled"
    assert request.options["mask_axis"] == "both"
    train.form.choose("vae", layer)
    qtbot.mouseClick(panel.noise.details.use, Qt.MouseButton.LeftButton)
    assert train.request().options["unconditional"] == 1
    assert "mask_axis" not in train.request().options


def test_details_go_with_the_last_layer(viewer, cells, open_panel, qtbot):
    panel = open_panel("Denoise")
    wait_for_noise(qtbot, panel)
    panel.noise.linkActivated.emit("#details")
    assert panel.noise.details.isVisible()
    viewer.layers.remove(cells)
    assert not panel.noise.details.isVisible()


def test_closing_the_panel_closes_the_details(viewer, cells, open_panel, qtbot):
    panel = open_panel("Denoise")
    wait_for_noise(qtbot, panel)
    panel.noise.linkActivated.emit("#details")
    with qtbot.waitSignal(panel.noise.details.destroyed, timeout=PATIENCE):
        viewer.window.remove_dock_widget(panel)


@pytest.mark.filterwarnings("error")
def test_an_image_without_a_number_gives_no_warning():
    with suppress(ReconError):
        Measurement(Image(np.full((SIZE, SIZE), np.nan, np.float32), "YX"), True).get()
