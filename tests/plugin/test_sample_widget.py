"""Sample as its user meets it: in a real viewer, with a real (tiny) VAE."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_recon.library import models_folder
from napari_recon.plugin._live import LiveView
from napari_recon.progress import ProgressEvent

from .conftest import PATIENCE, SIZE, job_threads, noisy_image, wait_for_job

TINY = {"features": 4, "latents": 2, "levels": 2, "blocks": 1, "guided": False, "patch_size": 16, "batch_size": 2}
MEASURED = {"factor": 1.5, "coverage": 0.91, "reliability": [[0.1, 0.2], [0.3, 0.3]], "pixels": 4096}


@pytest.fixture(scope="session")
def trained_vae(tmp_path_factory):
    """Train the smallest VAE there is, once."""
    from napari_recon.api import train
    from napari_recon.image import Image

    model = train("vae", Image(noisy_image((SIZE, SIZE)), "YX", name="cells"), steps=4, **TINY)
    model.provenance["calibration"] = MEASURED
    model.name = "tiny"
    return model.save(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def tiny_vae(trained_vae, leaves_nothing_behind):
    """The smallest VAE, in the user's folder."""
    models_folder().mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(trained_vae, models_folder() / "tiny.safetensors"))


@pytest.fixture
def cells(viewer):
    look = {"contrast_limits": (100, 900), "colormap": "magenta"}
    place = {"scale": (0.5, 0.25), "translate": (2, 3), "units": ("um", "um"), "rotate": 10, "shear": (0.1,)}
    place["affine"] = [[0.9, 0.1, 4], [0, 1.1, 5], [0, 0, 1]]
    return viewer.add_image(noisy_image((SIZE, SIZE)), name="cells", axis_labels=("y", "x"), **place, **look)


@pytest.fixture
def panel(cells, tiny_vae, open_panel):
    panel = open_panel("Sample")
    panel.samples.count.setValue(3)
    return panel


def run(qtbot, panel):
    qtbot.mouseClick(panel.controls.button, Qt.MouseButton.LeftButton)
    wait_for_job(qtbot, panel)


def wait_for_latents(qtbot, panel):
    panel.tabs.setCurrentWidget(panel.explore)
    qtbot.waitUntil(lambda: panel.explore.latent.currentData() is not None, timeout=PATIENCE)


def test_results_overlay_their_source(viewer, cells, panel, qtbot, problems):
    run(qtbot, panel)
    assert problems == []  # such as units that differ between layers
    mean, std, samples = (viewer.layers[f"cells [{name}]"] for name in ("mean", "std", "samples"))
    assert [layer.name for layer in viewer.layers][:3] == ["cells", "cells [mean]", "cells [samples]"]
    assert samples.data.shape == (3, SIZE, SIZE)
    assert samples.axis_labels == ("sample", "y", "x")
    assert samples.scale[0] == 1
    assert samples.units[1:] == mean.units == cells.units
    for layer in (mean, std):
        np.testing.assert_allclose(layer.data_to_world((7, 5)), cells.data_to_world((7, 5)))
    np.testing.assert_allclose(samples.data_to_world((2, 7, 5)), (2, *cells.data_to_world((7, 5))))
    for layer in (mean, samples):
        assert layer.contrast_limits == cells.contrast_limits
        assert layer.colormap.name == cells.colormap.name
    assert std.colormap.name == "magma"
    np.testing.assert_allclose(std.data, samples.data.std(axis=0, ddof=1), rtol=1e-3)
    assert viewer.layers.selection.active is samples
    assert panel.layer.layer() is cells
    assert "Sampled 1 plane 3 times" in panel.controls.line.text()


def test_results_say_how_they_were_made(viewer, panel, qtbot):
    run(qtbot, panel)
    record = viewer.layers["cells [std]"].metadata["napari_recon"]
    assert (record["verb"], record["output"], record["n"], record["calibration"]) == ("sample", "std", 3, 1.5)
    assert record["model_hash"]
    assert "sample(image" in record["python"]


def test_overlay_and_median_are_added_on_request_only(viewer, panel, qtbot):
    for name, box in panel.samples.outputs.items():
        box.setChecked(name in ("median", "variation"))
    run(qtbot, panel)
    assert {layer.name for layer in viewer.layers} == {"cells", "cells [median]", "cells [variation]"}
    overlay = viewer.layers["cells [variation]"]
    assert overlay.blending == "additive"
    assert overlay.opacity < 1
    # What adds nothing where there is no doubt must be black there.
    np.testing.assert_allclose(overlay.colormap.map([0.0])[0, :3], 0, atol=0.02)


def test_python_lines_give_the_same_pixels(viewer, tiny_vae, open_panel, qtbot):
    viewer.add_image(noisy_image((4, SIZE, SIZE)), name="movie", axis_labels=("t", "y", "x"))
    viewer.dims.set_current_step(0, 2)
    panel = open_panel("Sample")
    panel.samples.count.setValue(2)
    panel.samples.extent.buttons()[1].click()
    run(qtbot, panel)
    samples = viewer.layers["movie [samples]"]
    assert samples.data.shape == (2, 1, SIZE, SIZE)
    assert samples.axis_labels == ("sample", "t", "y", "x")
    np.testing.assert_allclose(samples.data_to_world((1, 0, 0, 0)), (1, 2, 0, 0))
    panel.layer.choose(viewer.layers["movie"])
    qtbot.mouseClick(panel.copy, Qt.MouseButton.LeftButton)
    namespace = {"viewer": viewer}
    viewer.dims.set_current_step(1, 2)
    exec(QApplication.clipboard().text(), namespace)
    np.testing.assert_array_equal(namespace["sampled"].samples.array, samples.data)


def test_colours_stay_colours(viewer, open_panel, qtbot, tmp_path):
    from napari_recon.api import train

    rgb = np.stack([noisy_image((SIZE, SIZE), "uint8")] * 3, axis=-1)
    viewer.add_image(rgb, name="stain", rgb=True)
    panel = open_panel("Sample")
    panel.model.select(train("vae", rgb, axes="YXC", steps=2, **TINY).save(tmp_path / "colours"))
    panel.samples.count.setValue(2)
    run(qtbot, panel)
    samples, std = viewer.layers["stain [samples]"], viewer.layers["stain [std]"]
    assert samples.rgb
    assert samples.data.shape == (2, SIZE, SIZE, 3)
    assert samples.data.dtype == "uint8"
    assert not std.rgb
    assert std.data.shape == (SIZE, SIZE)


def test_samples_of_samples_are_refused_before_the_work(viewer, panel, qtbot, problems):
    viewer.add_image(noisy_image((2, SIZE, SIZE)), name="drawn", axis_labels=("sample", "y", "x"))
    run(qtbot, panel)
    assert len(viewer.layers) == 2
    assert "Call that axis T: TYX" in problems[-1].message
    assert panel.controls.line.text() == "The image SYX has an axis S already, along which its samples would lie."
    panel.data.axes_edit.setText("TYX")
    run(qtbot, panel)
    assert viewer.layers["drawn [samples]"].data.shape == (3, 2, SIZE, SIZE)


def test_without_a_model_the_panel_says_what_to_do(viewer, cells, open_panel, problems, qtbot):
    viewer.add_image(noisy_image((SIZE, SIZE)), name="other")
    panel = open_panel("Sample")
    panel.layer.choose(cells)
    assert not panel.no_model.isHidden()
    panel.controls.run()
    assert "Train one first" in problems[-1].message
    panel.train.click()
    train = open_panel("Train")
    assert train.form.family.currentData() == "vae"
    assert train.form.sources.layers.layers() == [cells]


def test_calibration_is_told_and_plotted(viewer, panel, qtbot):
    assert panel.no_model.isHidden()
    assert "90 % intervals hold 91 %" in panel.calibration.text()
    panel.calibration.linkActivated.emit("#plot")
    details = panel.calibration.details
    assert not details.isModal()
    np.testing.assert_array_equal(details.measured.getData(), np.transpose(MEASURED["reliability"]))
    with qtbot.waitSignal(details.destroyed, timeout=PATIENCE):
        viewer.window.remove_dock_widget(panel)


def test_missing_calibration_is_told(panel, tiny_vae, tmp_path):
    from napari_recon.api import load_model

    model = load_model(tiny_vae)
    model.provenance["calibration"] = None
    panel.model.select(model.save(tmp_path / "not calibrated"))
    assert "none in this model" in panel.calibration.text()
    panel.calibration.show_details()
    assert panel.calibration.details is None


def test_generates_images_of_the_size_and_look_of_the_layer(viewer, cells, panel, qtbot):
    panel.tabs.setCurrentWidget(panel.generate)
    assert panel.controls.button.text() == "Generate"
    panel.generate.sides["Y"].setValue(20)
    panel.generate.sides["X"].setValue(30)
    run(qtbot, panel)
    layer = viewer.layers["tiny [generated]"]
    assert layer.data.shape == (4, 20, 30)
    assert layer.axis_labels == ("sample", "y", "x")
    np.testing.assert_allclose(layer.scale, (1, 0.5, 0.25))
    assert layer.units[1:] == cells.units
    assert layer.contrast_limits == cells.contrast_limits
    assert layer.metadata["napari_recon"]["parameters"]["seed"] == 0
    qtbot.mouseClick(panel.copy, Qt.MouseButton.LeftButton)
    namespace = {}
    exec(QApplication.clipboard().text(), namespace)
    np.testing.assert_array_equal(namespace["generated"], layer.data)
    panel.generate.temperature.setValue(0)
    run(qtbot, panel)
    plain = viewer.layers["tiny [generated] [1]"].data
    np.testing.assert_array_equal(plain[0], plain[1])


def test_a_channel_can_be_chosen_where_the_model_knows_several(tmp_path, panel, viewer, qtbot):
    from napari_recon.api import generate, train

    stack = np.stack([noisy_image((SIZE, SIZE)), 10 * noisy_image((SIZE, SIZE))])
    path = train("vae", stack, axes="CYX", steps=4, **TINY).save(tmp_path / "two")
    panel.tabs.setCurrentWidget(panel.generate)
    assert not panel.generate.channel.isVisibleTo(panel.generate)
    panel.model.select(path)
    assert panel.generate.channel.isVisibleTo(panel.generate)
    panel.generate.channel.setValue(1)
    run(qtbot, panel)
    made = next(layer.data for layer in viewer.layers if "generated" in layer.name)
    np.testing.assert_array_equal(made, generate(path, (256, 256), 4, channel=1))


def test_a_volume_model_is_sampled_and_asks_for_a_depth(tmp_path, panel, viewer, qtbot):
    from napari_recon.api import train

    volume = noisy_image((10, SIZE, SIZE))
    path = train("vae", volume, axes="ZYX", dimensions=3, steps=4, **(TINY | {"patch_size": 8})).save(tmp_path / "deep")
    layer = viewer.add_image(volume, name="deep", axis_labels=("z", "y", "x"))
    panel.layer.choose(layer)
    panel.model.select(path)
    run(qtbot, panel)
    assert viewer.layers["deep [mean]"].data.shape == volume.shape
    assert viewer.layers["deep [samples]"].data.shape == (3, *volume.shape)
    panel.tabs.setCurrentWidget(panel.generate)
    assert panel.generate.sides["Z"].isVisibleTo(panel.generate)
    for axis, side in zip("ZYX", (9, 20, 24), strict=True):
        panel.generate.sides[axis].setValue(side)
    run(qtbot, panel)
    assert next(x.data.shape for x in viewer.layers if "generated" in x.name) == (4, 9, 20, 24)


def test_needs_no_layer_to_generate(viewer, tiny_vae, open_panel, qtbot):
    panel = open_panel("Sample")
    panel.tabs.setCurrentWidget(panel.generate)
    run(qtbot, panel)
    assert viewer.layers["tiny [generated]"].data.shape == (4, 256, 256)


def test_traversal_is_moved_by_both_sliders(viewer, cells, panel, qtbot):
    wait_for_latents(qtbot, panel)
    assert panel.explore.latent.count() == 4
    assert "nats/pixel" in panel.explore.latent.currentText()
    run(qtbot, panel)
    layer = viewer.layers["cells [traversal]"]
    assert layer.data.shape == (9, SIZE, SIZE)
    assert viewer.layers[-1] is layer
    np.testing.assert_allclose(layer.data_to_world((4, 7, 5)), (4, *cells.data_to_world((7, 5))))
    panel.explore.slider.setValue(8)
    assert viewer.dims.current_step[0] == 8
    assert panel.explore.place.text() == "+3.0 σ"
    viewer.dims.set_current_step(0, 0)
    assert panel.explore.slider.value() == 0
    assert panel.explore.place.text() == "-3.0 σ"


def test_another_latent_is_drawn_by_itself_in_the_same_layer(viewer, panel, qtbot):
    wait_for_latents(qtbot, panel)
    run(qtbot, panel)
    layer = viewer.layers["cells [traversal]"]
    before, count = layer.data, len(viewer.layers)
    panel.explore.slider.setValue(7)
    panel.explore.latent.setCurrentIndex(1)
    qtbot.waitUntil(lambda: layer.data is not before, timeout=PATIENCE)
    wait_for_job(qtbot, panel)
    assert not np.array_equal(layer.data, before)
    assert len(viewer.layers) == count
    assert panel.explore.latent.currentIndex() == 1
    assert viewer.dims.current_step[0] == 7
    level, number = panel.explore.latent.currentData()
    record = layer.metadata["napari_recon"]
    assert (record["level"], record["number"]) == (level, number)


def test_traversal_of_another_layer_is_a_layer_of_its_own(viewer, cells, panel, qtbot):
    panel.tabs.setCurrentWidget(panel.explore)
    run(qtbot, panel)
    before = viewer.layers["cells [traversal]"].data
    panel.layer.choose(viewer.add_image(noisy_image((SIZE, SIZE))[::-1], name="other"))
    run(qtbot, panel)
    assert viewer.layers["cells [traversal]"].data is before
    assert len(viewer.layers["other [traversal]"].data) == 9


def test_interpolates_to_another_layer(viewer, cells, panel, problems, qtbot):
    other = viewer.add_image(noisy_image((SIZE, SIZE))[::-1], name="other", axis_labels=("y", "x"))
    panel.layer.choose(cells)
    panel.tabs.setCurrentWidget(panel.explore)
    panel.explore.interpolate.click()
    assert panel.controls.button.text() == "Interpolate"
    panel.controls.run()
    assert "no other layer" in problems[-1].message
    panel.explore.other.choose(other)
    panel.explore.steps.setValue(5)
    run(qtbot, panel)
    layer = viewer.layers["cells [to other]"]
    assert layer.data.shape == (5, SIZE, SIZE)
    assert not np.array_equal(layer.data[0], layer.data[-1])
    panel.explore.slider.setValue(4)
    assert panel.explore.place.text() == "100%"


def test_stop_leaves_nothing(viewer, tiny_vae, open_panel, qtbot):
    viewer.add_image(noisy_image((256, 256)), name="cells")
    panel = open_panel("Sample")
    panel.samples.count.setValue(1000)
    panel.controls.run()
    assert panel.controls.button.text() == "Stop"
    qtbot.waitUntil(lambda: panel.controls.job.running, timeout=PATIENCE)
    panel.tabs.setCurrentWidget(panel.generate)
    assert panel.controls.button.text() == "Stop"
    panel.controls.stop()
    wait_for_job(qtbot, panel)
    assert panel.controls.line.text() == "Stopped."
    assert panel.controls.button.text() == "Generate"
    assert len(viewer.layers) == 1


def test_closing_the_panel_during_the_run_ends_it(viewer, tiny_vae, open_panel, qtbot, problems):
    viewer.add_image(noisy_image((256, 256)), name="cells")
    panel = open_panel("Sample")
    panel.samples.count.setValue(1000)
    panel.controls.run()
    viewer.window.remove_dock_widget(panel)
    qtbot.waitUntil(lambda: not job_threads(), timeout=PATIENCE)
    assert problems == []
    assert len(viewer.layers) == 1


def test_nothing_to_add_and_a_bad_option_are_explained(panel, problems):
    for box in panel.samples.outputs.values():
        box.setChecked(False)
    panel.controls.run()
    assert "Check mean" in problems[0].message
    panel.samples.outputs["mean"].setChecked(True)
    panel.advanced.button.click()
    editor = panel.advanced.content._editors["tile_size"]
    editor.setText("3")
    panel.controls.run()
    assert editor.styleSheet()
    assert "out of range" in problems[1].message


def test_vae_trained_in_the_panel_is_used_in_sample(viewer, cells, open_panel, qtbot):
    train = open_panel("Train")
    train.form.choose("vae", cells)
    assert train.form.target.isHidden()
    train.advanced.button.setChecked(True)
    network, training = train.advanced.content.forms
    for form in (network, training):
        form.set_values({k: v for k, v in TINY.items() if k in form._editors})
    train.form.budget.setCurrentText("steps")
    train.form.amount.setValue(6)
    qtbot.mouseClick(train.controls.button, Qt.MouseButton.LeftButton)
    wait_for_job(qtbot, train)
    assert "reconstruction" in train.live.parts.text()
    assert "levels 0 to 1" in train.live.parts.text()
    assert train.use.text() == "Use in Sample"
    train.use.click()
    sample = open_panel("Sample")
    assert sample.model.label() == train.result.model.name
    sample.samples.count.setValue(2)
    run(qtbot, sample)
    assert "cells [samples]" in viewer.layers


def test_warning_of_a_training_holds_until_a_validation_without(qtbot):
    live = LiveView()
    qtbot.addWidget(live)
    live.begin(None, {}, anew=True)
    live.show_event(ProgressEvent("train", 10, values={"train": 1.0, "validation": 1.0}, message="collapse"))
    live.show_event(ProgressEvent("train", 11, values={"train": 1.0}))
    assert live.warning.text() == "collapse"
    assert not live.warning.isHidden()
    live.show_event(ProgressEvent("train", 20, values={"train": 1.0, "validation": 1.0}))
    assert live.warning.isHidden()
