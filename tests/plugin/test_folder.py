"""The folded part of the panels that works on a folder."""

import numpy as np
import pytest
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication

from napari_recon import denoise, read_image, write_image

from .conftest import SIZE, noisy_image, wait_for_job


@pytest.fixture
def folder(tmp_path):
    source = tmp_path / "recorded"
    (source / "day 2").mkdir(parents=True)
    write_image(source / "a.tif", noisy_image((SIZE, SIZE)), "YX")
    write_image(source / "day 2" / "b.tif", noisy_image((SIZE, SIZE)), "YX")
    return source


def unfolded(panel, source, out):
    panel.folder.button.setChecked(True)
    form = panel.folder.content
    form.folder.setText(str(source))
    form.out.setText(str(out))
    return form


def test_folder_is_denoised_what_is_done_is_skipped_what_fails_is_listed(open_panel, folder, tmp_path, qtbot):
    (folder / "broken.tif").write_bytes(b"no image")
    panel = open_panel("Denoise")  # no layer is open
    panel.strength.setValue(0.5)
    out = tmp_path / "clean"
    form = unfolded(panel, folder, out)
    form.button.click()
    wait_for_job(qtbot, panel)
    assert panel.controls.line.text() == "2 done · 1 failed"
    assert form.failures.text().startswith("broken.tif: ")
    expected = denoise(read_image(folder / "a.tif"), strength=0.5, keep_dtype=True, device="cpu")
    np.testing.assert_array_equal(read_image(out / "a.tif").array, expected.array)
    assert (out / "day 2" / "b.tif").exists()

    (folder / "broken.tif").unlink()
    form.button.click()
    wait_for_job(qtbot, panel)
    assert panel.controls.line.text() == "2 skipped"
    assert form.failures.isHidden()


def test_upscales_a_folder_by_a_pattern_on_its_own_page_alone(open_panel, folder, tmp_path, qtbot):
    panel = open_panel("Upscale")
    form = unfolded(panel, folder, tmp_path / "fine")
    form.pattern.setText("*.tif")
    form.button.click()
    wait_for_job(qtbot, panel)
    assert read_image(tmp_path / "fine" / "a.tif").shape == (2 * SIZE, 2 * SIZE)
    assert not (tmp_path / "fine" / "day 2").exists()
    panel.tabs.setCurrentWidget(panel.texture)
    assert panel.folder.button.isHidden()


@pytest.mark.parametrize("where", ["Denoise", "Train"])
def test_a_dropped_folder_is_filled_in(open_panel, folder, where):
    panel = open_panel(where)
    if where == "Train":
        panel.form.sources.kind.setCurrentText("folder")
        field = panel.form.sources.path
    else:
        panel.folder.button.setChecked(True)
        field = panel.folder.content.folder
    dropped = QMimeData()
    dropped.setUrls([QUrl.fromLocalFile(str(folder))])  # as file managers do, some without a text
    how = (Qt.DropAction.CopyAction, dropped, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    entered = QDragEnterEvent(QPoint(2, 2), *how)
    QApplication.sendEvent(field, entered)
    assert entered.isAccepted()
    QApplication.sendEvent(field, QDropEvent(QPointF(2, 2), *how))
    assert field.text() == str(folder)


def test_missing_folders_are_asked_for(open_panel, tmp_path, problems, qtbot):
    panel = open_panel("Denoise")
    form = unfolded(panel, "", tmp_path)
    form.button.click()
    assert "one is missing" in panel.controls.line.text()
    form.folder.setText(str(tmp_path / "nowhere"))
    form.button.click()
    wait_for_job(qtbot, panel)
    assert "There is no folder" in panel.controls.line.text()
