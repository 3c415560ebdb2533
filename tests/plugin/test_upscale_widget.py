"""Upscale as its user meets it: in a real viewer, with a real (tiny) model."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_recon.library import models_folder

from .conftest import PATIENCE, SIZE, noisy_image, wait_for_job


@pytest.fixture(scope="session")
def trained_upscalers(tmp_path_factory):
    """Two of the smallest models there are: a faithful one, and one with perceptual weights."""
    from napari_recon.api import train

    folder = tmp_path_factory.mktemp("upscalers")
    options = {"features": 4, "blocks": 1, "patch_size": 16, "batch_size": 2, "start_from": None}
    image = noisy_image((SIZE, SIZE))
    train("gan", image, steps=2, **options).save(folder / "faithful")
    train("gan", image, steps=6, perceptual=True, fidelity_share=0.5, scale=3, **options).save(folder / "both")
    return folder


@pytest.fixture
def panel(trained_upscalers, viewer, open_panel):
    """The panel with the faithful model chosen; `panel.choose` takes the other."""
    models_folder().mkdir(parents=True, exist_ok=True)
    panel = open_panel("Upscale")

    def choose(name):
        panel.model.select(Path(shutil.copy(trained_upscalers / f"{name}.safetensors", models_folder())))

    panel.choose = choose
    choose("faithful")
    return panel


def run(qtbot, panel):
    qtbot.mouseClick(panel.controls.button, Qt.MouseButton.LeftButton)
    wait_for_job(qtbot, panel)


def corners(layer):
    """World positions of the outer corners of the first and the last pixel."""
    shape = np.array(layer.data.shape)
    return np.array([layer.data_to_world(np.zeros(shape.size) - 0.5), layer.data_to_world(shape - 0.5)])


@pytest.mark.parametrize("rotate", [0, 30])
def test_result_covers_exactly_its_source(viewer, panel, qtbot, rotate):
    layer = viewer.add_image(
        noisy_image((SIZE, SIZE)), name="cells", scale=(0.5, 0.25), translate=(2, 3), units="um", rotate=rotate,
        contrast_limits=(100, 900), colormap="magenta",
    )  # fmt: skip
    panel.trust.setChecked(False)
    run(qtbot, panel)
    result = viewer.layers["cells [x2]"]
    assert result.data.shape == (2 * SIZE, 2 * SIZE)
    assert result.data.dtype == layer.data.dtype
    np.testing.assert_allclose(corners(result), corners(layer), atol=1e-9)
    assert result.units == layer.units
    assert result.contrast_limits == layer.contrast_limits
    assert result.colormap.name == layer.colormap.name
    assert viewer.layers.selection.active is result
    assert "cells [trust]" not in viewer.layers
    assert panel.layer.layer() is layer


def test_trust_is_told_and_shown(viewer, panel, qtbot):
    viewer.add_image(noisy_image((SIZE, SIZE)), name="cells")
    run(qtbot, panel)
    trust, result = viewer.layers["cells [trust]"], viewer.layers["cells [x2]"]
    assert trust.data.shape == result.data.shape
    assert tuple(trust.contrast_limits) == (0, 1)
    np.testing.assert_allclose(corners(trust), corners(result))
    record = result.metadata["napari_recon"]
    assert record["verb"] == "upscale"
    assert f"trust {record['trust']['value']:.2f}" in panel.controls.line.text()
    assert "quantified" in panel.controls.line.text() or "not for measuring" in panel.controls.line.text()


def test_fidelity_is_offered_only_where_there_are_two_sides(viewer, panel, qtbot):
    viewer.add_image(noisy_image((SIZE, SIZE)), name="cells")
    assert not panel.fidelity.isEnabled()
    panel.choose("both")
    assert panel.fidelity.isEnabled()
    panel.fidelity.setValue(0.25)
    run(qtbot, panel)
    record = viewer.layers["cells [x3]"].metadata["napari_recon"]
    assert record["fidelity"] == 0.25
    assert not record["trust"]["quantifiable"]
    panel.choose("faithful")
    assert panel.request().options["fidelity"] == 1.0


def test_this_plane_lies_at_its_place_in_the_stack(viewer, panel, qtbot):
    layer = viewer.add_image(noisy_image((5, SIZE, SIZE)), name="cells", scale=(2, 1, 1), translate=(10, 0, 0))
    viewer.dims.set_current_step(0, 3)
    panel.extent.buttons()[1].click()
    run(qtbot, panel)
    result = viewer.layers["cells [x2]"]
    assert result.data.shape == (1, 2 * SIZE, 2 * SIZE)
    np.testing.assert_allclose(result.data_to_world((0, -0.5, -0.5)), layer.data_to_world((3, -0.5, -0.5)))


def test_python_lines_give_the_same_pixels(viewer, panel, qtbot):
    viewer.add_image(noisy_image((SIZE, SIZE)), name="cells")
    run(qtbot, panel)
    qtbot.mouseClick(panel.copy, Qt.MouseButton.LeftButton)
    namespace = {"viewer": viewer}
    exec(QApplication.clipboard().text(), namespace)
    np.testing.assert_array_equal(namespace["upscaled"].array, viewer.layers["cells [x2]"].data)
    np.testing.assert_array_equal(namespace["trust"].array, viewer.layers["cells [trust]"].data)


def test_moving_the_fidelity_previews_the_region(viewer, panel, qtbot):
    layer = viewer.add_image(noisy_image((SIZE, SIZE)), name="cells", scale=(0.5, 0.5), translate=(4, 4))
    panel.choose("both")
    panel.fidelity.setValue(0.5)
    qtbot.waitUntil(lambda: panel.preview.layer() is not None, timeout=PATIENCE)
    preview = panel.preview.layer()
    assert preview.metadata["napari_recon"]["fidelity"] == 0.5
    np.testing.assert_allclose(preview.scale, layer.scale / 3)
    np.testing.assert_allclose(corners(preview), corners(layer))
    panel.preview.clear()
    qtbot.waitUntil(lambda: not panel.preview.expected(), timeout=PATIENCE)


def test_without_a_layer_it_says_what_to_do(panel, problems):
    panel.controls.run()
    assert "no image to upscale" in panel.controls.line.text()
    assert any("Open Sample" in str(p.message) for p in problems)


def test_a_training_shows_its_game_and_leads_here(viewer, open_panel, qtbot):
    viewer.add_image(noisy_image((SIZE, SIZE)), name="cells")
    train = open_panel("Train")
    train.form.family.setCurrentIndex(train.form.family.findData("gan"))
    train.form.budget.setCurrentText("steps")
    train.form.amount.setValue(6)
    train.form.start_from.combo.setCurrentIndex(1)
    train.advanced.button.click()
    small = {"features": 4, "blocks": 1, "patch_size": 16, "batch_size": 2, "perceptual": True, "fidelity_share": 0.5}
    train.advanced.content.set_values(small | {"validate_every": 3})
    run(qtbot, train)
    for name in ("generator", "discriminator", "D(real) 0.", "D(fake) 0.", "consistency"):
        assert name in train.live.parts.text()
    assert not train.live.game.isHidden()
    for curve in train.live.game.curves.values():
        steps, values = curve.getData()
        assert steps[0] >= 3  # in the second half of the budget, which is the game
        assert all(0 < v < 1 for v in values)
    train.advanced.button.click()  # folded, there is no scroll bar in a window of 880 pixels
    train.advanced.updateGeometry()  # Qt lays out what is on screen only, and this window is not
    assert train.column.minimumSize().height() <= 820
    assert train.use.text() == "Use in Upscale"
    train.use.click()
    upscale = next(w for w in viewer.window.dock_widgets.values() if hasattr(w, "fidelity"))
    assert upscale.model.label() == "cells 1"
    assert upscale.fidelity.isEnabled()
