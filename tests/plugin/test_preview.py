"""What a change of strength shows before Denoise is pressed, and before and after at a key."""

import numpy as np
import pytest
from napari.utils.key_bindings import coerce_keybinding
from qtpy.QtCore import Qt

from napari_recon.errors import ReconError
from napari_recon.plugin._layers import snapshot

from .conftest import PATIENCE, SIZE, noisy_image, wait_for_job

NAME = "cells [preview]"


@pytest.fixture
def cells(viewer):
    return viewer.add_image(noisy_image((4, 96, 96)), name="cells", scale=(2, 0.5, 0.5), translate=(1, 2, 3))


@pytest.fixture
def panel(cells, open_panel, qtbot):
    panel = open_panel("Denoise")
    qtbot.waitUntil(lambda: panel.noise.found is not None, timeout=PATIENCE)
    return panel


def wait_for_preview(qtbot, panel, strength):
    def shown():
        layer = panel.preview.layer()
        return layer is not None and layer.metadata["napari_recon"]["strength"] == strength

    qtbot.waitUntil(shown, timeout=PATIENCE)
    return panel.preview.layer()


def settle(qtbot, panel):
    qtbot.waitUntil(lambda: not panel.preview.expected(), timeout=PATIENCE)


def assert_same(result, previewed):
    """Tell results from those of other settings, but not by how bfloat16 rounds."""
    np.testing.assert_allclose(result, previewed, rtol=1e-2)
    assert np.abs(result - previewed).mean() < 0.3


def press(viewer, key):
    viewer.keymap[coerce_keybinding(key)](viewer)


def test_strength_previews_the_plane_shown(viewer, cells, panel, qtbot):
    assert len(viewer.layers) == 1  # nothing before something is changed
    viewer.dims.set_current_step(0, 2)
    panel.strength.setValue(0.8)
    layer = wait_for_preview(qtbot, panel, 0.8)
    assert layer.name == NAME
    np.testing.assert_allclose(layer.data_to_world((0, 0, 0)), cells.data_to_world((2, 0, 0)))
    assert layer.data.shape == (1, 96, 96)
    assert np.std(layer.data - cells.data[2]) > 1
    assert panel.layer.layer() is cells
    assert viewer.layers.selection.active is cells


@pytest.mark.parametrize("plane", [0, 2, 3])
def test_preview_equals_the_result(viewer, cells, panel, qtbot, plane):
    viewer.dims.set_current_step(0, plane)
    panel.strength.setValue(0.8)
    previewed = wait_for_preview(qtbot, panel, 0.8).data
    panel.keep_dtype.setChecked(False)
    panel.controls.run()
    wait_for_job(qtbot, panel)
    assert_same(viewer.layers["cells [denoised]"].data[plane], previewed[0])


def test_what_planes_are_looked_at_is_previewed_and_done(viewer, cells, panel, qtbot):
    viewer.dims.set_current_step(0, 2)
    panel.strength.setValue(0.8)
    before = wait_for_preview(qtbot, panel, 0.8).data.copy()
    panel.advanced.button.click()
    panel.advanced.content._editors["plane_by_plane"].click()
    qtbot.waitUntil(lambda: not np.array_equal(panel.preview.layer().data, before), timeout=PATIENCE)
    previewed = panel.preview.layer().data
    assert np.abs(before - previewed).mean() > 1
    panel.keep_dtype.setChecked(False)
    panel.controls.run()
    wait_for_job(qtbot, panel)
    done = viewer.layers["cells [denoised]"]
    assert_same(done.data[2], previewed[0])
    assert done.metadata["napari_recon"]["plane_by_plane"]
    assert "plane_by_plane=True" in done.metadata["napari_recon"]["python"]


def test_preview_is_replaced_not_stacked(viewer, cells, panel, qtbot):
    panel.strength.setValue(0.5)
    first = wait_for_preview(qtbot, panel, 0.5)
    weak = first.data
    panel.strength.setValue(1.4)
    second = wait_for_preview(qtbot, panel, 1.4)
    assert second is first
    assert not np.array_equal(second.data, weak)
    assert len(viewer.layers) == 2


def test_preview_follows_the_plane(viewer, cells, panel, qtbot):
    viewer.dims.set_current_step(0, 0)
    panel.strength.setValue(0.5)
    layer = wait_for_preview(qtbot, panel, 0.5)
    viewer.dims.set_current_step(0, 3)
    qtbot.waitUntil(lambda: layer.data_to_world((0, 0, 0))[0] == cells.data_to_world((3, 0, 0))[0], timeout=PATIENCE)


def test_preview_moves_with_its_source(viewer, cells, panel, qtbot):
    panel.strength.setValue(0.5)
    preview = wait_for_preview(qtbot, panel, 0.5)
    cells.scale = 2 * np.asarray(cells.scale)
    qtbot.waitUntil(lambda: np.allclose(preview.scale[-2:], cells.scale[-2:]), timeout=PATIENCE)


def test_preview_goes_along_to_another_layer(viewer, cells, panel, qtbot):
    panel.strength.setValue(0.5)
    wait_for_preview(qtbot, panel, 0.5)
    viewer.add_image(noisy_image((SIZE, SIZE)), name="other")
    qtbot.waitUntil(lambda: "other [preview]" in viewer.layers, timeout=PATIENCE)
    assert NAME not in viewer.layers


def test_denoise_takes_the_place_of_the_preview(viewer, cells, panel, qtbot):
    panel.strength.setValue(0.5)
    wait_for_preview(qtbot, panel, 0.5)
    panel.controls.run()
    assert NAME not in viewer.layers
    panel.strength.setValue(0.9)  # not while a job runs
    assert not panel.preview.expected()
    wait_for_job(qtbot, panel)
    assert [layer.name for layer in viewer.layers] == ["cells", "cells [denoised]"]


@pytest.mark.parametrize("how", ["box", "panel"])
def test_preview_ends_with_its_box_and_with_the_panel(viewer, cells, panel, qtbot, how):
    panel.strength.setValue(0.5)
    wait_for_preview(qtbot, panel, 0.5)
    if how == "box":
        panel.preview.box.setChecked(False)
        panel.strength.setValue(0.7)
        assert not panel.preview.expected()
    else:
        viewer.window.remove_dock_widget(panel)
    assert [layer.name for layer in viewer.layers] == ["cells"]


def test_a_newer_request_wins(viewer, cells, panel, qtbot):
    for strength in (0.2, 0.4, 0.6):
        panel.strength.setValue(strength)
        qtbot.waitUntil(lambda: panel.preview.running(), timeout=PATIENCE)
    wait_for_preview(qtbot, panel, 0.6)
    settle(qtbot, panel)
    assert len(viewer.layers) == 2


def test_removing_the_layer_while_its_preview_is_made_is_safe(viewer, cells, panel, qtbot, problems):
    panel.strength.setValue(0.5)
    qtbot.waitUntil(lambda: panel.preview.running(), timeout=PATIENCE)
    viewer.layers.remove(cells)
    settle(qtbot, panel)
    assert len(viewer.layers) == 0
    assert problems == []


def test_models_that_ignore_the_noise_are_not_previewed(viewer, cells, tiny_model, open_panel):
    panel = open_panel("Denoise")
    panel.model.select(tiny_model)
    assert not panel.preview.box.isEnabled()
    panel.strength.setValue(0.5)
    assert not panel.preview.expected()


def test_key_shows_before_and_after(viewer, cells, panel, qtbot):
    panel.controls.run()
    wait_for_job(qtbot, panel)
    assert "B: before/after" in panel.controls.line.text()
    result = viewer.layers["cells [denoised]"]
    press(viewer, "B")
    assert (result.visible, cells.visible) == (False, True)
    press(viewer, "B")
    assert (result.visible, cells.visible) == (True, False)
    viewer.layers.remove(result)
    press(viewer, "B")


def test_key_is_given_back(viewer, open_panel):
    def mine(viewer):
        pass

    viewer.bind_key("B", mine)
    panel = open_panel("Denoise")
    assert viewer.keymap[coerce_keybinding("B")] is not mine
    viewer.window.remove_dock_widget(panel)
    assert viewer.keymap[coerce_keybinding("B")] is mine


def test_labels_are_not_offered_and_refused(viewer, cells, panel, problems, qtbot):
    labels = viewer.add_labels(np.zeros((SIZE, SIZE), int), name="nuclei")
    assert panel.layer.findText("nuclei") < 0
    with pytest.raises(ReconError, match="labels"):
        snapshot(labels)
    mask = viewer.add_image(noisy_image((SIZE, SIZE)) > 300, name="mask")
    assert panel.layer.layer() is mask
    qtbot.mouseClick(panel.controls.button, Qt.MouseButton.LeftButton)
    assert "Choose an image layer" in problems[0].message


def test_only_labels_are_explained(viewer, open_panel, problems):
    viewer.add_labels(np.zeros((SIZE, SIZE), int), name="nuclei")
    open_panel("Denoise").controls.run()
    assert "nuclei holds labels" in problems[0].message
