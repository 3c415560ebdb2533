"""The optics part of Train: filled in from the layer, checked as it is typed, used by the training."""

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_recon.data.psf import psf_sigma

from .conftest import SIZE, noisy_image, wait_for_job

SMALL = {"features": 4, "blocks": 1, "patch_size": 16, "batch_size": 2}


@pytest.fixture
def panel(viewer, open_panel):
    """Train, with the GAN family chosen and its optics unfolded, on a layer with pixels of 65 nm."""
    viewer.add_image(noisy_image((SIZE, SIZE)), name="cells", scale=(0.065, 0.065), units=("um", "um"))
    panel = open_panel("Train")
    choose(panel, "gan")
    panel.optics.button.click()
    return panel


def choose(panel, family):
    panel.form.family.setCurrentIndex(panel.form.family.findData(family))


def bead(viewer, shape=(9, 9)):
    y, x = np.indices(shape[-2:]) - np.array(shape[-2:])[:, None, None] // 2
    pixels = (1000 * np.exp(-(x**2 + y**2) / 3)).astype(np.uint16)
    return viewer.add_image(np.broadcast_to(pixels, shape), name="bead")


def train(panel, qtbot):
    panel.form.budget.setCurrentText("steps")
    panel.form.amount.setValue(2)
    panel.form.start_from.combo.setCurrentIndex(1)
    panel.advanced.button.setChecked(True)
    panel.advanced.content.set_values(SMALL)
    panel.form.sources.layers.check([panel.viewer.layers["cells"]])
    qtbot.mouseClick(panel.controls.button, Qt.MouseButton.LeftButton)
    wait_for_job(qtbot, panel)
    return panel.result.model


def marked(panel):
    return {name for name, editor in panel.optics.content.fields._editors.items() if editor.styleSheet()}


def test_only_upscalers_have_optics(panel):
    assert not panel.optics.isHidden()
    choose(panel, "autoencoder")
    assert panel.optics.isHidden()
    panel.advanced.button.click()
    assert panel.request().options.keys().isdisjoint({"na", "pixel_size", "psf_sigma"})


def test_it_fits_a_narrow_dock(panel):
    assert panel.column.minimumSize().width() <= 280
    assert all(e.toolTip() for e in (*panel.optics.content.fields._editors.values(), panel.optics.content.psf_layer))


def test_the_pixel_size_comes_from_the_layer(viewer, panel):
    optics = panel.optics.content
    assert optics.fields.changes() == {"pixel_size": 65.0}
    assert optics.changes() == {}
    layer = viewer.add_image(noisy_image((SIZE, SIZE)), name="coarser", scale=(100, 100), units=("nm", "nm"))
    panel.form.sources.layers.check([layer])
    assert optics.fields.changes() == {"pixel_size": 100.0}
    optics.fields.set_values({"pixel_size": 80.0})
    panel.form.sources.layers.check([viewer.layers["cells"]])
    assert optics.fields.changes() == {"pixel_size": 80.0}  # typed, so it stays
    optics.fields.set_values({"na": 1.4, "wavelength": 520.0})
    assert optics.changes() == {"na": 1.4, "wavelength": 520.0, "pixel_size": 80.0}


def test_pixels_of_no_length_fill_in_nothing(viewer, panel):
    panel.form.sources.layers.check([viewer.add_image(noisy_image((SIZE, SIZE)), name="photo")])
    assert panel.optics.content.fields.changes() == {}


def test_what_the_optics_do_is_told_as_they_are_typed(panel):
    optics = panel.optics.content
    assert "0.5 pixels" in optics.line.text()
    optics.fields.set_values({"na": 1.4})
    assert "Wavelength (wavelength) must be given too" in optics.line.text()
    assert marked(panel) == {"wavelength"}
    optics.fields.set_values({"wavelength": 520.0, "photons": 200.0, "read_noise": 2.0})
    assert f"{psf_sigma(1.4, 520, 65):.3g} pixels" in optics.line.text()
    assert "200 photons, read noise 2" in optics.line.text()
    assert marked(panel) == set()


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ({"wavelength": -520.0}, {"wavelength"}),
        ({"na": 3.0}, {"na"}),
        ({"photons": 0.0}, {"photons"}),
        ({"na": 1.4, "pixel_size": None}, {"wavelength", "pixel_size"}),
    ],
)
def test_what_cannot_be_is_marked_and_not_run(panel, problems, values, fields):
    panel.optics.content.fields.set_values(values)
    panel.controls.run()
    assert panel.controls.job is None
    assert marked(panel) == fields
    assert str(problems[0].message).split("\n")[0] in panel.optics.content.line.text()


def test_the_training_uses_them(panel, qtbot):
    panel.optics.content.fields.set_values({"na": 1.2, "wavelength": 600.0, "photons": 300.0})
    config = train(panel, qtbot).config
    assert (config.na, config.wavelength, config.pixel_size, config.photons) == (1.2, 600.0, 65.0, 300.0)
    assert config.features == 4


def test_a_layer_can_show_the_psf(viewer, panel, qtbot, tmp_path, monkeypatch):
    panel.optics.content.psf_layer.choose(bead(viewer))
    assert "9 x 9 pixels of bead" in panel.optics.content.line.text()
    model = train(panel, qtbot)
    assert np.shape(model.provenance["psf"]) == (9, 9)
    assert np.argmax(model.provenance["psf"]) == 40

    monkeypatch.chdir(tmp_path)
    qtbot.mouseClick(panel.copy, Qt.MouseButton.LeftButton)
    namespace = {"viewer": viewer}
    exec(QApplication.clipboard().text(), namespace)
    np.testing.assert_array_equal(namespace["model"].provenance["psf"], model.provenance["psf"])


def test_a_psf_that_is_no_plane_or_too_large_is_refused(viewer, panel, qtbot, problems):
    panel.optics.content.psf_layer.choose(bead(viewer, (3, 9, 9)))
    assert "has axes ZYX" in panel.optics.content.line.text()
    panel.controls.run()
    assert "has axes ZYX" in str(problems[-1].message)
    viewer.layers.remove("bead")
    panel.optics.content.psf_layer.choose(bead(viewer, (91, 91)))
    panel.form.budget.setCurrentText("steps")
    panel.advanced.button.setChecked(True)
    panel.advanced.content.set_values(SMALL)
    panel.form.sources.layers.check([viewer.layers["cells"]])
    panel.controls.run()
    wait_for_job(qtbot, panel)
    assert "PSF of 91 x 91 pixels is larger than the image" in panel.controls.line.text()
