"""Denoise as its user meets it: in a real viewer, with a real (tiny) model."""

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from .conftest import PATIENCE, SIZE, job_threads, noisy_image, wait_for_job


@pytest.fixture
def open_panel(open_panel, tiny_model):
    def open_with_tiny_model(name):
        panel = open_panel(name)
        panel.model.select(tiny_model)
        return panel

    return open_with_tiny_model


def run(qtbot, panel):
    qtbot.mouseClick(panel.controls.button, Qt.MouseButton.LeftButton)
    wait_for_job(qtbot, panel)


def test_result_overlays_its_source(viewer, open_panel, qtbot):
    layer = viewer.add_image(
        noisy_image((3, SIZE, SIZE)),
        name="cells",
        scale=(2, 0.5, 0.25),
        translate=(1, 2, 3),
        units=("s", "um", "um"),
        axis_labels=("t", "y", "x"),
        contrast_limits=(100, 900),
        colormap="magenta",
        rotate=(10, 0, 0),
    )
    panel = open_panel("Denoise")
    run(qtbot, panel)
    result = viewer.layers["cells [denoised]"]
    assert result.data.shape == layer.data.shape
    assert result.data.dtype == layer.data.dtype
    assert not np.array_equal(result.data, layer.data)
    for place in ("scale", "translate", "rotate", "shear"):
        np.testing.assert_allclose(getattr(result, place), getattr(layer, place))
    assert result.units == layer.units
    assert result.axis_labels == layer.axis_labels
    assert result.contrast_limits == layer.contrast_limits
    assert result.colormap.name == layer.colormap.name
    assert viewer.layers.selection.active is result
    assert viewer.layers.index(result) == viewer.layers.index(layer) + 1
    assert "Denoised 3 planes" in panel.controls.line.text()
    assert panel.layer.layer() is layer


def test_result_says_how_it_was_made(viewer, open_panel, qtbot):
    viewer.add_image(noisy_image((SIZE, SIZE)), name="cells")
    panel = open_panel("Denoise")
    run(qtbot, panel)
    record = viewer.layers["cells [denoised]"].metadata["napari_recon"]
    assert record["verb"] == "denoise"
    assert record["model_hash"]
    assert record["parameters"]["strength"] == 1.0
    assert record["version"]


def test_python_lines_give_the_same_pixels(viewer, open_panel, qtbot):
    viewer.add_image(noisy_image((2, SIZE, SIZE)), name="cells", axis_labels=("t", "y", "x"))
    panel = open_panel("Denoise")
    panel.extent.buttons()[1].click()
    run(qtbot, panel)
    qtbot.mouseClick(panel.copy, Qt.MouseButton.LeftButton)
    namespace = {"viewer": viewer}
    exec(QApplication.clipboard().text(), namespace)
    np.testing.assert_array_equal(namespace["denoised"].array, viewer.layers["cells [denoised]"].data)


@pytest.mark.parametrize("kind", ["pyramid", "transparent", "channel of a store", "files as a stack", "no image file"])
def test_python_lines_load_just_the_layer(viewer, open_panel, qtbot, tmp_path, kind):
    from napari_recon import Image
    from napari_recon.io import write_image

    pixels = noisy_image((3, SIZE, SIZE))
    names = [str(tmp_path / f"{i}.tif") for i in range(3)]
    if kind == "pyramid":
        viewer.add_image([pixels, pixels[:, ::2, ::2]], multiscale=True)
    elif kind == "transparent":
        viewer.add_image(np.stack([noisy_image((SIZE, SIZE), "uint8")] * 4, axis=-1), rgb=True)
    elif kind == "channel of a store":
        write_image(tmp_path / "cells.ome.zarr", Image(pixels, "CYX"))
        viewer.open(tmp_path / "cells.ome.zarr", plugin="napari-recon")
    elif kind == "files as a stack":
        for name, plane in zip(names, pixels, strict=True):
            write_image(name, plane)
        viewer.open(names, plugin="napari", stack=True)
    else:
        np.save(tmp_path / "cells.npy", pixels)
        viewer.open(tmp_path / "cells.npy", plugin="napari")
    panel = open_panel("Denoise")
    panel.model.combo.setCurrentIndex(0)  # the universal one, which takes any number of channels
    run(qtbot, panel)
    namespace = {"viewer": viewer}
    (result,) = (layer for layer in viewer.layers if "denoised" in layer.name)
    exec(result.metadata["napari_recon"]["python"], namespace)
    np.testing.assert_array_equal(namespace["denoised"].array, result.data)


def test_this_plane_lies_at_its_place_in_the_stack(viewer, open_panel, qtbot):
    layer = viewer.add_image(noisy_image((5, SIZE, SIZE)), name="cells", scale=(2, 1, 1), translate=(10, 0, 0))
    viewer.dims.set_current_step(0, 3)
    panel = open_panel("Denoise")
    panel.extent.buttons()[1].click()
    run(qtbot, panel)
    result = viewer.layers["cells [denoised]"]
    assert result.data.shape == (1, SIZE, SIZE)
    np.testing.assert_allclose(result.data_to_world((0, 0, 0)), layer.data_to_world((3, 0, 0)))
    assert viewer.dims.current_step[0] == 3


def test_region_is_what_the_canvas_shows(make_napari_viewer, tiny_model, qtbot):
    viewer = make_napari_viewer(show=True)
    layer = viewer.add_image(noisy_image((200, 200)), name="cells")
    viewer.camera.zoom = 20
    qtbot.waitUntil(lambda: layer.corner_pixels[0].min() > 0, timeout=PATIENCE)
    panel = viewer.window.add_plugin_dock_widget("napari-recon", "Denoise")[1]
    panel.model.select(tiny_model)
    panel.extent.buttons()[2].click()
    run(qtbot, panel)
    result = viewer.layers["cells [denoised]"]
    assert result.data.size < layer.data.size
    start = layer.world_to_data(result.data_to_world((0, 0))).astype(int)
    assert (start > 0).all()


@pytest.mark.parametrize("keep", [True, False])
def test_keeps_the_type_if_asked_to(viewer, open_panel, qtbot, keep):
    viewer.add_image(noisy_image((SIZE, SIZE)), name="cells")
    panel = open_panel("Denoise")
    panel.keep_dtype.setChecked(keep)
    run(qtbot, panel)
    assert viewer.layers["cells [denoised]"].data.dtype == ("uint16" if keep else "float32")


def test_residual_is_what_was_removed(viewer, open_panel, qtbot):
    layer = viewer.add_image(noisy_image((SIZE, SIZE)), name="cells")
    panel = open_panel("Denoise")
    panel.residual.setChecked(True)
    run(qtbot, panel)
    denoised, residual = viewer.layers["cells [denoised]"].data, viewer.layers["cells [residual]"].data
    np.testing.assert_allclose(denoised + residual, layer.data, rtol=1e-4)


def test_residual_leaves_out_pixels_that_are_no_number(viewer, open_panel, qtbot, problems):
    pixels = noisy_image((SIZE, SIZE), "float32")
    pixels[3:6, 3:6] = np.nan
    viewer.add_image(pixels, name="cells")
    panel = open_panel("Denoise")
    panel.residual.setChecked(True)
    run(qtbot, panel)
    assert problems == []
    assert [layer.name for layer in viewer.layers] == ["cells", "cells [denoised]", "cells [residual]"]
    assert np.isfinite(viewer.layers["cells [residual]"].contrast_limits).all()


def test_colours_stay_colours(viewer, open_panel, qtbot, tmp_path):
    from napari_recon.api import train

    rgb = np.stack([noisy_image((SIZE, SIZE), "uint8")] * 3, axis=-1)
    viewer.add_image(rgb, name="stain", rgb=True)
    options = {"features": 4, "depth": 1, "patch_size": 16, "batch_size": 2, "steps": 2, "normalization": "standard"}
    path = train("autoencoder", rgb, axes="YXC", **options).save(tmp_path / "colours")
    panel = open_panel("Denoise")
    panel.model.select(path)
    run(qtbot, panel)
    result = viewer.layers["stain [denoised]"]
    assert result.rgb
    assert result.data.shape == rgb.shape
    assert result.data.dtype == "uint8"


def test_multiscale_layer_is_denoised_at_full_resolution(viewer, open_panel, qtbot):
    image = noisy_image((SIZE, SIZE))
    viewer.add_image([image, image[::2, ::2]], multiscale=True, name="cells")
    panel = open_panel("Denoise")
    run(qtbot, panel)
    assert viewer.layers["cells [denoised]"].data.shape == image.shape


def test_chooser_follows_the_active_layer(viewer, open_panel):
    first = viewer.add_image(noisy_image((SIZE, SIZE)), name="first")
    viewer.add_image(noisy_image((7, SIZE, SIZE)), name="second", axis_labels=("t", "y", "x"))
    panel = open_panel("Denoise")
    assert panel.layer.currentText() == "second"
    assert "T 7" in panel.data.text.text()
    assert "7 planes in 2D" in panel.data.text.text()
    viewer.layers.selection.active = first
    assert panel.layer.layer() is first
    first.name = "renamed"
    assert panel.layer.currentText() == "renamed"
    viewer.layers.remove(first)
    assert panel.layer.currentText() == "second"


def test_edited_axes_are_used(viewer, open_panel, qtbot):
    viewer.add_image(noisy_image((3, SIZE, SIZE)), name="cells")
    panel = open_panel("Denoise")
    assert panel.data.axes() == "ZYX"
    panel.data.axes_edit.setText("tyx")
    panel.data.axes_edit.editingFinished.emit()
    assert panel.request().source.image.axes == "TYX"


def test_follows_what_becomes_of_its_layer(viewer, open_panel, qtbot):
    layer = viewer.add_image(noisy_image((SIZE, SIZE)), name="cells")
    panel = open_panel("Denoise")
    layer.data = noisy_image((3, SIZE, SIZE))
    assert panel.data.axes() == "ZYX"
    assert "3 planes" in panel.data.text.text()
    layer.axis_labels = ("time", "y", "x")
    assert panel.data.axes() == "TYX"
    panel.data.axes_edit.setText("SYX")
    panel.data.axes_edit.editingFinished.emit()
    layer.scale, layer.units = (1, 0.25, 0.25), ("s", "um", "um")
    assert "0.25 um" in panel.data.text.text()
    assert panel.data.axes() == "SYX"
    run(qtbot, panel)
    assert viewer.layers["cells [denoised]"].data.shape == (3, SIZE, SIZE)


def test_wrong_axes_are_marked_and_explained(viewer, open_panel, problems, qtbot):
    viewer.add_image(noisy_image((3, SIZE, SIZE)), name="cells")
    panel = open_panel("Denoise")
    panel.data.axes_edit.setText("QYX")
    panel.data.axes_edit.editingFinished.emit()
    assert panel.data.axes_edit.styleSheet()
    qtbot.mouseClick(panel.controls.button, Qt.MouseButton.LeftButton)
    assert len(problems) == 1
    assert "Give one letter" in problems[0].message
    assert len(viewer.layers) == 1


def test_failure_of_the_run_is_a_notification_with_the_next_step(viewer, open_panel, problems, qtbot, tmp_path):
    viewer.add_image(noisy_image((SIZE, SIZE)), name="cells")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"not a model")
    panel = open_panel("Denoise")
    panel.model.select(damaged)
    run(qtbot, panel)
    assert len(problems) == 1
    assert "again" in problems[0].message
    assert panel.controls.button.text() == "Denoise"


def test_no_layer_is_explained(open_panel, problems, qtbot):
    panel = open_panel("Denoise")
    panel.controls.run()
    assert "Open one" in problems[0].message


def test_bad_advanced_value_is_marked(viewer, open_panel, problems):
    viewer.add_image(noisy_image((SIZE, SIZE)), name="cells")
    panel = open_panel("Denoise")
    assert panel.advanced.content is None
    panel.advanced.button.click()
    editor = panel.advanced.content._editors["tile_size"]
    editor.setText("3")
    panel.controls.run()
    assert editor.styleSheet()
    assert "out of range" in problems[0].message


def test_removing_the_layer_during_the_run_is_safe(viewer, open_panel, qtbot, problems):
    layer = viewer.add_image(noisy_image((20, 128, 128)), name="cells")
    panel = open_panel("Denoise")
    panel.controls.run()
    viewer.layers.remove(layer)
    wait_for_job(qtbot, panel)
    assert "cells [denoised]" in viewer.layers
    assert problems == []


def test_a_layer_renamed_during_the_run_stays_the_one_to_go_on_with(viewer, open_panel, qtbot):
    layer = viewer.add_image(noisy_image((20, 128, 128)), name="cells")
    other = viewer.add_image(noisy_image((SIZE, SIZE)), name="other")
    viewer.layers.selection.active = layer
    panel = open_panel("Denoise")
    panel.controls.run()
    layer.name, other.name = "nuclei", "cells"
    wait_for_job(qtbot, panel)
    assert panel.layer.layer() is layer
    assert viewer.layers.index("cells [denoised]") == viewer.layers.index(layer) + 1


@pytest.mark.parametrize("close", ["panel", "window", "widget"])
def test_closing_during_the_run_ends_it(viewer, open_panel, qtbot, problems, close):
    viewer.add_image(noisy_image((200, 256, 256)), name="cells")
    panel = open_panel("Denoise")
    panel.controls.run()
    qtbot.waitUntil(lambda: panel.controls.job.last_event is not None, timeout=PATIENCE)
    if close == "panel":
        viewer.window.remove_dock_widget(panel)
    elif close == "window":
        viewer.close()
    else:
        panel.deleteLater()
    qtbot.waitUntil(lambda: not job_threads(), timeout=PATIENCE)
    assert problems == []


def test_return_runs_and_escape_stops(make_napari_viewer, tiny_model, qtbot):
    viewer = make_napari_viewer(show=True)
    viewer.add_image(noisy_image((200, 256, 256)), name="cells")
    panel = viewer.window.add_plugin_dock_widget("napari-recon", "Denoise")[1]
    panel.model.select(tiny_model)
    panel.activateWindow()
    panel.layer.setFocus()
    qtbot.waitUntil(panel.layer.hasFocus, timeout=PATIENCE)
    qtbot.keyClick(panel.layer, Qt.Key.Key_Return)
    assert panel.controls.button.text() == "Stop"
    qtbot.waitUntil(lambda: panel.controls.job.last_event is not None, timeout=PATIENCE)
    qtbot.keyClick(panel.layer, Qt.Key.Key_Escape)
    wait_for_job(qtbot, panel)
    assert len(viewer.layers) == 1
    assert panel.controls.line.text() == "Stopped."


def test_shipped_model_is_chosen_at_first_and_works(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    viewer.add_image(noisy_image((64, 64)), name="cells")
    panel = viewer.window.add_plugin_dock_widget("napari-recon", "Denoise")[1]
    assert panel.model.label() == "Universal"
    run(qtbot, panel)
    assert viewer.layers["cells [denoised]"].metadata["napari_recon"]["noise"]


def test_python_lines_read_the_file_a_layer_came_from(viewer, open_panel, tmp_path):
    from napari_recon.io import write_image

    write_image(tmp_path / "cells.tif", noisy_image((SIZE, SIZE)))
    viewer.open(tmp_path / "cells.tif", plugin="napari")
    text = open_panel("Denoise").request().as_python()
    assert "read_image(" in text
    assert "cells.tif" in text
