"""The Texture and Complete pages of Upscale as their user meets them: in a real viewer, with real (tiny) models."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_recon.library import models_folder

from .conftest import SIZE, noisy_image, wait_for_job

TRAINING = {"features": 4, "patch_size": 16, "batch_size": 2, "validate_every": 2}


@pytest.fixture(scope="session")
def trained_models(tmp_path_factory):
    """The smallest texture and the smallest completion there are."""
    from napari_recon.api import train
    from napari_recon.image import Image

    folder = tmp_path_factory.mktemp("models")
    image = Image(noisy_image((SIZE, SIZE)), "YX", name="cells")
    for name, options in {"texture": {"levels": 2}, "completion": {"depth": 1}}.items():
        model = train(name, image, steps=2, **options, **TRAINING)
        model.name = name
        model.save(folder / name)
    return folder


@pytest.fixture
def models(trained_models, leaves_nothing_behind):
    models_folder().mkdir(parents=True, exist_ok=True)
    names = ("texture", "completion")
    return {n: Path(shutil.copy(trained_models / f"{n}.safetensors", models_folder())) for n in names}


@pytest.fixture
def cells(viewer):
    return viewer.add_image(
        noisy_image((SIZE, SIZE)), name="cells", scale=(0.5, 0.25), translate=(2, 3), units="um", rotate=10,
        contrast_limits=(100, 900), colormap="magenta",
    )  # fmt: skip


@pytest.fixture
def panel(cells, models, open_panel):
    return open_panel("Upscale")


def run(qtbot, panel):
    qtbot.mouseClick(panel.controls.button, Qt.MouseButton.LeftButton)
    wait_for_job(qtbot, panel)


def python_of(panel):
    panel.copy.click()
    return QApplication.clipboard().text()


def test_a_labels_layer_is_filled_and_nothing_else_changes(viewer, cells, panel, models, qtbot, problems):
    marks = np.zeros((SIZE, SIZE), int)
    marks[10:14, 20:25] = 3
    labels = viewer.add_labels(marks, name="dust", scale=cells.scale, translate=cells.translate, rotate=10, units="um")
    panel.tabs.setCurrentWidget(panel.completion)
    assert panel.controls.button.text() == "Complete"
    assert panel.completion.marks.layer() is labels
    assert panel.layer.layer() is cells
    panel.completion.model.select(models["completion"])
    assert not panel.completion.minutes.isVisible()
    text = python_of(panel)
    assert "from napari_recon import Image, complete" in text
    assert "mask = viewer.layers['dust'].data" in text
    run(qtbot, panel)
    assert problems == []
    done = viewer.layers["cells [completed]"]
    assert done.data.dtype == cells.data.dtype
    np.testing.assert_array_equal(done.data[marks == 0], cells.data[marks == 0])
    assert (done.data != cells.data)[marks > 0].mean() > 0.5
    np.testing.assert_allclose(done.data_to_world((7, 5)), cells.data_to_world((7, 5)))
    assert done.colormap.name == "magenta"
    assert "Filled 20 pixels" in panel.controls.line.text()
    assert done.metadata["napari_recon"]["verb"] == "complete"
    scope = {"viewer": viewer}
    exec(text, scope)
    np.testing.assert_array_equal(scope["completed"].array, done.data)


def test_shapes_mark_all_planes_of_a_stack_wherever_they_lie(viewer, panel, models, cells, qtbot):
    viewer.layers.clear()
    stack = viewer.add_image(noisy_image((3, SIZE, SIZE)), name="stack", scale=(1, 2, 2), translate=(0, 10, 0))
    corners = np.array([[10, 20], [10, 30], [16, 30], [16, 20]])
    viewer.add_shapes([corners * 2 + [10, 0]], shape_type="rectangle", name="box")
    panel.tabs.setCurrentWidget(panel.completion)
    panel.completion.model.select(models["completion"])
    run(qtbot, panel)
    changed = viewer.layers["stack [completed]"].data != stack.data
    rows, columns = np.nonzero(changed.any(axis=0))
    assert (rows.min(), columns.min()) >= (10, 20)
    assert rows.max() <= 16
    assert columns.max() <= 30
    assert changed[:, 10:16, 20:30].mean() > 0.5


def test_without_a_model_it_trains_on_the_rest_and_stop_ends_it(viewer, panel, qtbot):
    marks = np.zeros((SIZE, SIZE), int)
    marks[3, 5] = 1
    viewer.add_labels(marks, name="dead")
    panel.tabs.setCurrentWidget(panel.completion)
    assert panel.completion.minutes.isVisibleTo(panel)
    assert "minutes=1.0" in python_of(panel)
    panel.controls.run()
    qtbot.waitUntil(lambda: "training: step" in panel.controls.line.text(), timeout=60_000)
    panel.controls.stop()
    wait_for_job(qtbot, panel)
    assert panel.controls.line.text() == "Stopped."
    assert "cells [completed]" not in viewer.layers


def test_marks_that_cannot_be_filled_are_told(viewer, panel, models, qtbot, problems):
    panel.tabs.setCurrentWidget(panel.completion)
    panel.controls.run()
    assert panel.controls.line.text() == "Nothing is marked."
    viewer.add_shapes(name="nothing", ndim=2, units="um")
    panel.controls.run()
    assert "nothing is marked" in panel.controls.line.text()
    viewer.add_labels(np.ones((SIZE, 5), int), name="odd", units="um")
    panel.completion.marks.setCurrentText("odd")
    panel.completion.model.select(models["completion"])
    run(qtbot, panel)
    assert "shape" in panel.controls.line.text()
    assert len(problems) == 3


def test_textures_are_generated_with_the_look_of_their_source(viewer, cells, panel, qtbot):
    panel.tabs.setCurrentWidget(panel.texture)
    assert panel.controls.button.text() == "Generate"
    page = panel.texture
    assert page.model.label() == "texture"
    for side, value in zip(page.sides.values(), (32, 20), strict=True):
        side.setValue(value)
    page.count.setValue(2)
    page.seed.setValue(7)
    page.tileable.setChecked(True)
    text = python_of(panel)
    assert "generate(" in text
    assert "tileable=True" in text
    run(qtbot, panel)
    layer = viewer.layers["texture [generated]"]
    assert layer.data.shape == (2, 32, 20)
    assert layer.axis_labels == ("sample", "y", "x")
    np.testing.assert_allclose(layer.scale[1:], cells.scale)
    assert layer.colormap.name == "magenta"
    assert "Generated 2 images of 32 x 20" in panel.controls.line.text()
    scope = {}
    exec(text, scope)
    np.testing.assert_array_equal(scope["generated"], layer.data)
    page.sides["Y"].setValue(33)
    run(qtbot, panel)
    assert "cannot be 33 x 20" in panel.controls.line.text()


def test_without_a_texture_a_training_is_offered(viewer, open_panel):
    viewer.add_image(noisy_image((SIZE, SIZE)), name="cells")
    panel = open_panel("Upscale")
    panel.tabs.setCurrentWidget(panel.texture)
    panel.controls.run()
    assert "no texture yet" in panel.controls.line.text()
    panel.texture.train.click()
    train = next(w for w in viewer.window.dock_widgets.values() if hasattr(w, "form"))
    assert train.form.family.currentData() == "texture"


def test_each_page_shows_what_it_needs(panel):
    shown = {}
    for page in (panel.first, panel.texture, panel.completion, panel.first):
        panel.tabs.setCurrentWidget(page)
        shown[page] = (panel.layer.isVisibleTo(panel), panel.advanced.button.isVisibleTo(panel))
    assert shown == {panel.first: (True, True), panel.texture: (False, False), panel.completion: (True, False)}
    assert panel.controls.button.text() == "Upscale"


@pytest.mark.parametrize(
    ("family", "size", "page"), [("texture", {"levels": 2}, "Texture"), ("completion", {"depth": 1}, "Complete")]
)
def test_a_training_leads_to_its_page(viewer, open_panel, qtbot, family, size, page):
    viewer.add_image(noisy_image((SIZE, SIZE)), name="cells")
    train = open_panel("Train")
    train.form.family.setCurrentIndex(train.form.family.findData(family))
    train.form.budget.setCurrentText("steps")
    train.form.amount.setValue(4)
    train.advanced.button.click()
    train.advanced.content.set_values({**TRAINING, **size})
    qtbot.waitUntil(lambda: "takes about" in train.estimate.text(), timeout=60_000)
    run(qtbot, train)
    assert train.use.text() == f"Use in {page}"
    train.use.click()
    upscale = next(w for w in viewer.window.dock_widgets.values() if hasattr(w, "fidelity"))
    assert upscale.tabs.tabText(upscale.tabs.currentIndex()) == page
    assert upscale.tabs.currentWidget().model.label() == "cells 1"
