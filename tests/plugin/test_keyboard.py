"""What is done with keys and the wheel, in a window that has the focus."""

import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication, QLineEdit, QSlider

from .conftest import PATIENCE, SIZE, noisy_image, wait_for_job


@pytest.fixture
def open_panel(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    viewer.add_image(noisy_image((SIZE, SIZE)), name="cells")

    def open_panel(name):
        panel = viewer.window.add_plugin_dock_widget("napari-recon", name)[1]
        panel.activateWindow()
        return panel

    return open_panel


def focus(qtbot, editor):
    editor.setFocus()
    qtbot.waitUntil(editor.hasFocus, timeout=PATIENCE)


def type_over(qtbot, editor, text):
    focus(qtbot, editor)
    editor.selectAll()
    qtbot.keyClicks(editor, text)


def test_return_runs_with_the_number_just_typed(open_panel, qtbot):
    panel = open_panel("Train")
    panel.form.budget.setCurrentText("steps")
    type_over(qtbot, panel.form.amount, "3")
    qtbot.keyClick(panel.form.amount, Qt.Key.Key_Return)
    assert panel.controls.job.request.options["steps"] == 3
    assert panel.form.amount.hasFocus()
    panel.controls.stop()
    wait_for_job(qtbot, panel)


def test_return_runs_with_the_level_just_typed(open_panel, tiny_model, qtbot):
    panel = open_panel("Denoise")
    panel.model.select(tiny_model)
    number = panel.strength.findChild(QLineEdit)
    type_over(qtbot, number, "0.5")
    qtbot.keyClick(number, Qt.Key.Key_Return)
    assert panel.strength.value() == 0.5
    wait_for_job(qtbot, panel)


@pytest.mark.parametrize(
    ("key", "value"),
    [("Left", 0.95), ("Up", 1.05), ("PageDown", 0.75), ("PageUp", 1.25), ("Home", 0.0), ("End", 1.5)],
)
def test_keys_move_the_slider(open_panel, qtbot, key, value):
    slider = open_panel("Denoise").strength
    focus(qtbot, slider)
    qtbot.keyClick(slider, getattr(Qt.Key, f"Key_{key}"))
    assert slider.value() == pytest.approx(value)


def test_the_slider_is_one_stop_of_the_tab_key(open_panel, qtbot):
    panel = open_panel("Denoise")
    focus(qtbot, panel.strength)
    qtbot.keyClick(panel.strength, Qt.Key.Key_Tab)
    assert panel.preview.box.hasFocus()


def test_the_wheel_moves_the_slider_only_where_it_has_the_focus(open_panel, qtbot):
    panel = open_panel("Denoise")
    focus(qtbot, panel.layer)
    slider = panel.strength
    handle = slider.findChild(QSlider)
    turn_wheel(handle)
    assert slider.value() == 1.0
    focus(qtbot, slider)
    turn_wheel(handle)
    assert slider.value() > 1.0


def turn_wheel(widget):
    middle = QPointF(widget.rect().center())
    event = QWheelEvent(
        middle, QPointF(widget.mapToGlobal(middle.toPoint())), QPoint(), QPoint(0, 120), Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(widget, event)
