"""The attention layer of Denoise and Upscale: offered by models that have gates, and lying on the result."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_recon.library import models_folder

from .conftest import SIZE, noisy_image, wait_for_job

PANELS = {"Denoise": ("autoencoder", "denoised"), "Upscale": ("gan", "x2")}


@pytest.fixture(scope="session")
def gated_models(tmp_path_factory):
    """The smallest models with gates."""
    from napari_recon.api import train

    folder = tmp_path_factory.mktemp("gated")
    for family, _ in PANELS.values():
        options = {"features": 4, "patch_size": 16, "batch_size": 2, "steps": 2, "start_from": None, "attention": True}
        train(family, noisy_image((SIZE, SIZE)), **options).save(folder / family)
    return folder


@pytest.mark.parametrize("name", PANELS)
def test_the_layer_lies_on_the_result(name, viewer, open_panel, gated_models, qtbot):
    family, suffix = PANELS[name]
    viewer.add_image(noisy_image((SIZE, SIZE)), name="cells", scale=(0.5, 0.25), translate=(2, 3), rotate=30)
    panel = open_panel(name)
    assert panel.attention.isHidden()
    models_folder().mkdir(parents=True, exist_ok=True)
    panel.model.select(Path(shutil.copy(gated_models / f"{family}.safetensors", models_folder())))
    assert not panel.attention.isHidden()
    panel.attention.setChecked(True)
    qtbot.mouseClick(panel.controls.button, Qt.MouseButton.LeftButton)
    wait_for_job(qtbot, panel)
    result, found = viewer.layers[f"cells [{suffix}]"], viewer.layers["cells [attention]"]
    assert found.data.shape == result.data.shape
    assert 0 <= found.data.min() <= found.data.max() <= 1
    for corner in (np.zeros(2), np.array(found.data.shape)):
        np.testing.assert_allclose(found.data_to_world(corner), result.data_to_world(corner))
    assert tuple(found.contrast_limits) == (0, 1)
    assert viewer.layers.selection.active is result

    qtbot.mouseClick(panel.copy, Qt.MouseButton.LeftButton)
    namespace = {"viewer": viewer}
    exec(QApplication.clipboard().text(), namespace)
    np.testing.assert_array_equal(namespace["attention"].array, found.data)

    panel.model.combo.setCurrentIndex(0)  # the shipped model has no gates: what was checked counts no more
    assert not panel.request().attention
