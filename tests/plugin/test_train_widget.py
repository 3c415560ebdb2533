"""Train as its user meets it: real trainings of a tiny network in a real viewer."""

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_recon.library import list_models
from napari_recon.plugin._session import session
from napari_recon.plugin._training import ask_to_go_on, running_training

from .conftest import PATIENCE, SIZE, job_threads, noisy_image, wait_for_job

FOREVER = 1_000_000


def tiny(panel, steps):
    """Choose the smallest network, through the folded form as a user would."""
    panel.advanced.button.setChecked(True)
    network, training = panel.advanced.content.forms
    for form, name, value in (
        (network, "features", 4),
        (network, "depth", 1),
        (training, "patch_size", 16),
        (training, "batch_size", 2),
        (training, "validate_every", 5),
    ):
        form._editors[name].setValue(value)
    panel.form.budget.setCurrentText("steps")
    panel.form.amount.setValue(steps)


def start(qtbot, panel):
    qtbot.mouseClick(panel.controls.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: panel.controls.job is None or panel.controls.job.last_event is not None, timeout=PATIENCE)


@pytest.fixture
def panel(viewer, open_panel):
    viewer.add_image(noisy_image((SIZE, SIZE)), name="cells")
    return open_panel("Train")


def test_trains_on_the_active_layer_and_keeps_the_model(panel, qtbot):
    tiny(panel, 10)
    start(qtbot, panel)
    wait_for_job(qtbot, panel)
    assert [m.name for m in list_models() if not m.shipped] == ["cells 1"]
    assert panel.result.model.provenance["steps"] == 10
    assert panel.result.model.config.features == 4
    assert not panel.result.model.stopped
    assert "saved as cells 1" in panel.controls.line.text()


def test_shows_curves_and_preview(viewer, panel, qtbot):
    viewer.add_image(noisy_image((160, 160)), name="large enough to hold a part out")
    tiny(panel, 10)
    start(qtbot, panel)
    wait_for_job(qtbot, panel)
    for curve in panel.live.loss.curves.values():
        assert len(curve.getData()[0]) > 0
    assert panel.live.noisy.drawn()
    assert panel.live.now.drawn()


def test_stop_keeps_the_model_and_resume_goes_on(panel, qtbot):
    tiny(panel, FOREVER)
    start(qtbot, panel)
    assert panel.controls.button.text() == "Stop"
    qtbot.mouseClick(panel.controls.button, Qt.MouseButton.LeftButton)
    wait_for_job(qtbot, panel)
    first = panel.result.model
    assert first.stopped
    assert first.provenance["steps"] > 0
    assert not panel.resume.isHidden()
    panel.resume.click()
    done = first.provenance["steps"]
    qtbot.waitUntil(lambda: _step(panel) > done, timeout=PATIENCE)
    panel.controls.stop()
    wait_for_job(qtbot, panel)
    assert panel.result.model.provenance["steps"] > done


def test_model_just_trained_is_first_in_denoise(viewer, panel, open_panel, qtbot):
    denoise = open_panel("Denoise")
    tiny(panel, 2)
    start(qtbot, panel)
    wait_for_job(qtbot, panel)
    assert denoise.model.combo.itemText(0) == "cells 1"
    panel.use.click()
    assert denoise.model.label() == "cells 1"
    denoise.controls.run()
    wait_for_job(qtbot, denoise)
    assert "cells [denoised]" in viewer.layers


def test_save_as_renames_the_model(panel, qtbot, problems):
    tiny(panel, 2)
    start(qtbot, panel)
    wait_for_job(qtbot, panel)
    panel.save_as("my cells")
    assert [m.name for m in list_models() if not m.shipped] == ["my cells"]
    panel.save_as("a/b")
    assert "cannot be the name" in problems[0].message
    assert [m.name for m in list_models() if not m.shipped] == ["my cells"]


def test_trains_on_a_target(viewer, panel, qtbot):
    target = viewer.add_image(noisy_image((SIZE, SIZE)), name="second take")
    panel.form.sources.layers.check([viewer.layers["cells"]])
    panel.form.target.choose(target)
    tiny(panel, 2)
    start(qtbot, panel)
    wait_for_job(qtbot, panel)
    assert panel.result.model.provenance["targets"]


def test_trains_on_files(panel, qtbot, tmp_path):
    from napari_recon.io import write_image

    for name in ("a.tif", "b.tif"):
        write_image(tmp_path / name, noisy_image((SIZE, SIZE)))
    panel.form.sources.kind.setCurrentText("folder")
    panel.form.sources.path.setText(str(tmp_path))
    tiny(panel, 2)
    start(qtbot, panel)
    wait_for_job(qtbot, panel)
    assert [d["name"] for d in panel.result.model.provenance["data"]] == ["a", "b"]


def test_python_lines_train_the_same_model(viewer, panel, qtbot, tmp_path, monkeypatch):
    tiny(panel, 3)
    start(qtbot, panel)
    wait_for_job(qtbot, panel)
    monkeypatch.chdir(tmp_path)
    namespace = {"viewer": viewer}
    exec(panel.request().as_python(), namespace)
    assert namespace["model"].hash == panel.result.model.hash


def test_estimate_appears_before_training(panel, qtbot):
    tiny(panel, 100)
    qtbot.waitUntil(lambda: "GB" in panel.estimate.text(), timeout=PATIENCE)


def test_starts_from_the_universal_model_unless_told_otherwise(panel):
    assert panel.request().options["start_from"] == "auto"
    panel.form.start_from.combo.setCurrentIndex(1)
    assert panel.request().options["start_from"] is None
    assert "start_from=None" in panel.request().as_python()


def test_device_is_named(panel, qtbot):
    qtbot.waitUntil(lambda: bool(session().devices), timeout=PATIENCE)
    assert panel.form.device.device() == session().devices[0].name
    assert panel.form.device.combo.currentText() == session().devices[0].label


def test_bad_data_is_a_notification_with_the_next_step(viewer, open_panel, qtbot, problems):
    viewer.add_image(np.zeros((SIZE, SIZE), np.uint16), name="black", contrast_limits=(0, 1))
    panel = open_panel("Train")
    tiny(panel, 2)
    start(qtbot, panel)
    wait_for_job(qtbot, panel)
    assert len(problems) == 1
    assert problems[0].severity == "error"
    assert panel.controls.button.text() == "Train"


def test_bug_reaches_napari_with_its_traceback(panel, qtbot, problems, monkeypatch):
    import napari_recon.api

    monkeypatch.setattr(napari_recon.api, "train", lambda *_, **__: 1 / 0)
    panel.controls.run()
    wait_for_job(qtbot, panel)
    assert isinstance(problems[0].exception, ZeroDivisionError)


def test_second_job_waits_for_the_first_and_says_so(viewer, panel, open_panel, qtbot, tiny_model):
    denoise = open_panel("Denoise")
    denoise.model.refresh()
    tiny(panel, FOREVER)
    start(qtbot, panel)
    denoise.controls.run()
    assert "waits for 1 job on this device: Train on cells" in denoise.controls.line.text()
    panel.controls.stop()
    wait_for_job(qtbot, denoise)
    assert "cells [denoised]" in viewer.layers


def test_waiting_job_can_be_stopped(viewer, panel, open_panel, qtbot, tiny_model):
    denoise = open_panel("Denoise")
    tiny(panel, FOREVER)
    start(qtbot, panel)
    denoise.controls.run()
    denoise.controls.stop()
    assert denoise.controls.job is None
    panel.controls.stop()
    wait_for_job(qtbot, panel)
    assert len(viewer.layers) == 1


def test_activity_dock_shows_and_stops_the_training(viewer, panel, qtbot):
    from napari.utils.progress import progress

    tiny(panel, FOREVER)
    start(qtbot, panel)
    qtbot.waitUntil(lambda: bool(progress._all_instances), timeout=PATIENCE)
    (bar,) = progress._all_instances
    assert "Train on cells" in bar.desc
    bar.cancel()
    wait_for_job(qtbot, panel)
    assert panel.result.model.stopped
    assert not progress._all_instances


def test_removing_the_layer_during_training_is_safe(viewer, panel, qtbot, problems):
    tiny(panel, FOREVER)
    start(qtbot, panel)
    viewer.layers.clear()
    step = _step(panel)
    qtbot.waitUntil(lambda: _step(panel) > step, timeout=PATIENCE)
    panel.controls.stop()
    wait_for_job(qtbot, panel)
    assert panel.result.model.stopped
    assert problems == []


@pytest.mark.parametrize("close", ["panel", "window", "widget"])
def test_closing_during_training_ends_it_and_keeps_the_model(viewer, panel, qtbot, problems, close):
    tiny(panel, FOREVER)
    start(qtbot, panel)
    if close == "panel":
        viewer.window.remove_dock_widget(panel)
    elif close == "window":
        viewer.close()
    else:
        panel.deleteLater()
    qtbot.waitUntil(lambda: not job_threads(), timeout=PATIENCE)
    assert [m.name for m in list_models() if not m.shipped] == ["cells 1"]
    assert problems == []


def test_closed_training_can_go_on_in_the_background_and_is_found_again(viewer, panel, open_panel, qtbot):
    tiny(panel, FOREVER)
    start(qtbot, panel)
    job = panel.controls.job
    viewer.window.remove_dock_widget(panel)
    qtbot.waitUntil(lambda: not job.active, timeout=PATIENCE)
    ask_to_go_on(job.request, viewer.window._qt_window)
    (question,) = viewer.window._qt_window.findChildren(_message_box())
    question.button(question.StandardButton.Yes).click()
    qtbot.waitUntil(lambda: running_training() is not None, timeout=PATIENCE)
    panel = open_panel("Train")
    qtbot.waitUntil(lambda: _step(panel) > 0, timeout=PATIENCE)
    panel.controls.stop()
    wait_for_job(qtbot, panel)


def _message_box():
    from qtpy.QtWidgets import QMessageBox

    return QMessageBox


def _step(panel):
    event = panel.controls.job.last_event
    return event.done if event is not None else 0
