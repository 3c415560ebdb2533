"""The live layer: what is on screen first, never waiting, and in the end what the button would have given."""

import gc
import weakref

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_recon import api, read_image

from .conftest import PATIENCE, noisy_image, wait_for_job

NAME = "cells [live]"


@pytest.fixture
def cells(viewer):
    return viewer.add_image(noisy_image((6, 96, 96)), name="cells", scale=(2, 0.5, 0.5), translate=(1, 2, 3))


@pytest.fixture
def panel(cells, open_panel, tiny_model):
    panel = open_panel("Denoise")
    panel.model.select(tiny_model)
    return panel


def switch(panel, qtbot):
    qtbot.mouseClick(panel.live_layer.button, Qt.MouseButton.LeftButton)


def wait_until_done(panel, qtbot):
    qtbot.waitUntil(panel.live_layer.done, timeout=PATIENCE)


def live(panel, qtbot):
    """Switch it on, and wait for the plane on screen."""
    switch(panel, qtbot)
    wait_until_done(panel, qtbot)
    return panel.live_layer.layer


def shown(layer):
    """Pixels that napari draws."""
    return np.asarray(layer._slice.image.raw)


def test_shows_the_source_at_once_and_then_the_result(viewer, cells, panel, tiny_model, qtbot):
    viewer.dims.set_current_step(0, 2)
    switch(panel, qtbot)
    layer = viewer.layers[NAME]
    np.testing.assert_array_equal(shown(layer), cells.data[2])
    np.testing.assert_allclose(layer.data_to_world((2, 0, 0)), cells.data_to_world((2, 0, 0)))
    assert layer.data.dtype == cells.data.dtype
    assert viewer.layers.selection.active is cells
    assert panel.layer.layer() is cells
    wait_until_done(panel, qtbot)
    expected = api.denoise(cells.data, tiny_model, keep_dtype=True)
    qtbot.waitUntil(lambda: np.array_equal(shown(layer), expected[2]), timeout=PATIENCE)
    viewer.dims.set_current_step(0, 5)
    qtbot.waitUntil(lambda: np.array_equal(shown(layer), expected[5]), timeout=PATIENCE)
    assert panel.controls.line.text() == "Live: what is shown is done"


def test_equals_what_the_button_gives(viewer, cells, panel, qtbot):
    layer = live(panel, qtbot)
    panel.controls.run()
    wait_for_job(qtbot, panel)
    np.testing.assert_array_equal(np.asarray(layer.data), viewer.layers["cells [denoised]"].data)
    record = layer.metadata["napari_recon"]
    pressed = viewer.layers["cells [denoised]"].metadata["napari_recon"]
    for key in ("verb", "model", "model_hash", "strength", "tile_size", "device", "precision", "version"):
        assert record[key] == pressed[key]


def test_saving_it_saves_all_of_it(viewer, cells, panel, tiny_model, qtbot, tmp_path):
    layer = live(panel, qtbot)
    path = tmp_path / "live.tif"
    layer.save(str(path))
    expected = api.denoise(cells.data, tiny_model, keep_dtype=True)
    np.testing.assert_array_equal(read_image(path).array, expected)


def test_a_script_that_takes_its_data_gets_all_of_it(viewer, cells, panel, tiny_model, qtbot):
    layer = live(panel, qtbot)
    twice = api.denoise(layer.data, tiny_model, axes="TYX")
    expected = api.denoise(api.denoise(cells.data, tiny_model, keep_dtype=True), tiny_model, axes="TYX")
    np.testing.assert_array_equal(twice, expected)


def test_follows_the_strength(viewer, cells, panel, tiny_model, qtbot):
    layer = live(panel, qtbot)
    panel.strength.setValue(0.4)
    expected = api.denoise(cells.data, tiny_model, keep_dtype=True, strength=0.4)
    qtbot.waitUntil(lambda: np.array_equal(shown(layer), expected[viewer.dims.current_step[0]]), timeout=PATIENCE)
    assert panel.live_layer.layer is layer
    assert layer.metadata["napari_recon"]["strength"] == 0.4
    panel.keep_dtype.setChecked(False)
    wait_until_done(panel, qtbot)
    assert viewer.layers[NAME].data.dtype == np.float32


def test_follows_the_model_and_the_pixels(viewer, cells, panel, tiny_model, qtbot):
    live(panel, qtbot)
    panel.model.combo.setCurrentIndex(0)
    expected = api.denoise(cells.data, "universal", keep_dtype=True)
    step = viewer.dims.current_step[0]
    qtbot.waitUntil(lambda: np.array_equal(shown(viewer.layers[NAME]), expected[step]), timeout=PATIENCE)
    panel.model.select(tiny_model)
    cells.data = cells.data[::-1].copy()
    expected = api.denoise(cells.data, tiny_model, keep_dtype=True)
    qtbot.waitUntil(lambda: np.array_equal(shown(viewer.layers[NAME]), expected[step]), timeout=PATIENCE)


def test_moves_with_its_source(viewer, cells, panel, qtbot):
    layer = live(panel, qtbot)
    cells.scale, cells.translate, cells.rotate = (2, 0.1, 0.1), (4, 5, 6), (0, 0, 30)
    qtbot.waitUntil(lambda: np.allclose(layer.extent.world, cells.extent.world), timeout=PATIENCE)
    np.testing.assert_allclose(layer.data_to_world((1, 20, 30)), cells.data_to_world((1, 20, 30)))


def test_goes_along_to_another_layer(viewer, cells, panel, qtbot):
    live(panel, qtbot)
    viewer.add_image(noisy_image((64, 64)), name="other")
    qtbot.waitUntil(lambda: "other [live]" in viewer.layers, timeout=PATIENCE)
    assert NAME not in viewer.layers


@pytest.mark.parametrize("how", ["button", "layer", "source", "panel", "window"])
@pytest.mark.parametrize("when", ["at once", "later"])
def test_ends_without_a_trace(viewer, cells, panel, qtbot, problems, how, when):
    switch(panel, qtbot)
    if when == "later":
        wait_until_done(panel, qtbot)
    if how == "button":
        switch(panel, qtbot)
    elif how == "layer":
        viewer.layers.remove(NAME)
        assert not panel.live_layer.on
    elif how == "source":
        viewer.layers.remove(cells)
        qtbot.waitUntil(lambda: len(viewer.layers) == 0, timeout=PATIENCE)
    elif how == "panel":
        viewer.window.remove_dock_widget(panel)
    if how == "window":
        viewer.close()
    else:
        assert NAME not in viewer.layers
    assert problems == []


def test_stands_in_for_the_preview(viewer, cells, open_panel, qtbot):
    panel = open_panel("Denoise")
    assert panel.preview.box.isEnabled()
    live(panel, qtbot)
    assert not panel.preview.box.isEnabled()
    panel.live_layer.off()
    assert panel.preview.box.isEnabled()


def test_a_hidden_layer_computes_nothing(viewer, cells, panel, qtbot):
    layer = live(panel, qtbot)
    layer.visible = False
    viewer.dims.set_current_step(0, 0)
    qtbot.wait(100)
    assert not panel.live_layer.done()
    layer.visible = True
    wait_until_done(panel, qtbot)


def test_a_volume_is_computed_when_it_is_shown(viewer, cells, panel, tiny_model, qtbot):
    layer = live(panel, qtbot)
    viewer.dims.ndisplay = 3
    expected = api.denoise(cells.data, tiny_model, keep_dtype=True)
    qtbot.waitUntil(lambda: np.array_equal(shown(layer), expected), timeout=PATIENCE)
    viewer.dims.ndisplay = 2


def test_what_is_missing_is_told(viewer, open_panel, problems, qtbot):
    panel = open_panel("Denoise")
    switch(panel, qtbot)
    assert not panel.live_layer.on
    assert "no image" in problems[0].message


def test_upscale_lies_on_its_source(viewer, cells, open_panel, qtbot):
    panel = open_panel("Upscale")
    layer = live(panel, qtbot)
    assert layer.data.shape == (6, 192, 192)
    np.testing.assert_allclose(layer.data_to_world((0, 0.5, 0.5)), cells.data_to_world((0, 0, 0)))
    expected = api.upscale(cells.data, keep_dtype=True, trust=False)
    step = viewer.dims.current_step[0]
    qtbot.waitUntil(lambda: np.array_equal(shown(layer), expected[step]), timeout=PATIENCE)


def test_mean_of_samples(viewer, cells, open_panel, qtbot, tmp_path):
    options = {"features": 4, "patch_size": 16, "batch_size": 2, "steps": 2}
    path = api.train("vae", cells.data[0], **options).save(tmp_path / "vae")
    panel = open_panel("Sample")
    panel.model.select(path)
    layer = live(panel, qtbot)
    expected = api.sample(cells.data, path, 1, outputs=["mean"]).mean
    step = viewer.dims.current_step[0]
    qtbot.waitUntil(lambda: np.array_equal(shown(layer), expected[step]), timeout=PATIENCE)
    panel.tabs.setCurrentWidget(panel.generate)
    assert not panel.live_layer.button.isVisible()


def test_colours_stay_colours(viewer, open_panel, tiny_model, qtbot):
    colours = viewer.add_image(noisy_image((3, 64, 64)).transpose(1, 2, 0).clip(0, 255).astype("uint8"), rgb=True)
    panel = open_panel("Denoise")
    layer = live(panel, qtbot)
    assert layer.rgb
    assert layer.data.shape == colours.data.shape


def networks():
    """Networks of the universal model that are alive."""
    from napari_recon.models.universal import UniversalUNet

    gc.collect()
    return weakref.WeakSet(x for x in gc.get_objects() if type(x) is UniversalUNet)


def test_no_network_outlives_the_panel(viewer, cells, open_panel, qtbot):
    panel = open_panel("Denoise")
    live(panel, qtbot)
    panel.live_layer.off()
    panel.controls.run()
    wait_for_job(qtbot, panel)
    panel.strength.setValue(0.5)
    qtbot.waitUntil(lambda: panel.preview.layer() is not None, timeout=PATIENCE)
    assert networks()
    viewer.window.remove_dock_widget(panel)
    qtbot.waitUntil(lambda: not networks(), timeout=PATIENCE)
