"""What holds for every panel: narrow, explained, in the theme's colours, and quick to open."""

import builtins
import subprocess
import sys
from types import ModuleType

import pytest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QListWidget,
    QScrollBar,
    QWidget,
)

from napari_recon.plugin._session import session

from .conftest import SIZE, noisy_image

PANELS = ["Denoise", "Sample", "Upscale", "Train"]
CONTROLS = (QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox, QLineEdit, QListWidget)
WINDOW_HEIGHT = 880
IMPORT = builtins.__import__


@pytest.fixture(params=PANELS)
def panel(request, viewer, open_panel):
    viewer.add_image(noisy_image((3, SIZE, SIZE)), name="a layer with a name that is far too long for a dock")
    return open_panel(request.param)


def test_is_usable_at_300_pixels(panel):
    _show_everything(panel)
    assert panel.column.minimumSize().width() <= 300 - _scroll_bar_width(panel)


def test_may_be_closed_while_torch_is_being_imported(panel, monkeypatch):
    assert not session().devices
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))  # as it is then: nothing in it yet
    panel.left()


def test_imports_are_what_they_were_once_torch_is_there(panel, qtbot):
    qtbot.waitUntil(lambda: bool(session().devices), timeout=60_000)
    assert builtins.__import__ is IMPORT


@pytest.mark.parametrize("height", [800, 500])
def test_nothing_is_cut_off_in_a_small_window(panel, viewer, qtbot, height):
    window = viewer.window._qt_window
    window.resize(1280, height)
    window.show()
    column = panel.column.parentWidget()
    qtbot.waitUntil(lambda: column.minimumSizeHint().width() <= column.parentWidget().width())


def test_large_letters_are_not_cut_off(panel, viewer, qtbot):
    from napari.settings import get_settings

    window = viewer.window._qt_window
    window.resize(1280, 800)
    window.show()
    appearance = get_settings().appearance
    size, appearance.font_size = appearance.font_size, 14
    try:
        column = panel.column.parentWidget()
        qtbot.waitUntil(lambda: panel.minimumWidth() > 320)
        qtbot.waitUntil(lambda: column.minimumSizeHint().width() <= column.parentWidget().width())
        if hasattr(panel, "live"):
            buttons = panel.form.presets.buttons()
            assert all(b.width() >= b.fontMetrics().horizontalAdvance(b.text().split("\n")[0]) for b in buttons)
    finally:
        appearance.font_size = size


def test_a_longer_line_on_the_data_is_not_cut_off(viewer, open_panel, qtbot):
    place = {"scale": (1, 1, 0.2, 0.1083, 0.1083), "units": ("s", "pixel", "um", "um", "um")}
    layer = viewer.add_image(noisy_image((5, 3, 21, SIZE, SIZE)), axis_labels=("t", "c", "z", "y", "x"), **place)
    viewer.window._qt_window.resize(1280, 720)
    viewer.window._qt_window.show()
    panel = open_panel("Train")  # its list of layers would take the room
    panel.form.sources.layers.check([layer])
    qtbot.waitUntil(lambda: bool(session().devices), timeout=60_000)
    qtbot.wait(300)
    data = panel.form.data
    for axes in ("QQX", ""):
        data.axes_edit.setText(axes)
        data.axes_edit.editingFinished.emit()
        qtbot.wait(300)  # for several passes of the layout, which may end with fewer lines
        needed = data.text.heightForWidth(data.text.width())
        assert needed == data.text.minimumHeight() <= data.text.height()


def test_needs_no_scroll_bar_when_folded(panel, viewer):
    viewer.window._qt_window.resize(1200, WINDOW_HEIGHT)
    if hasattr(panel, "live"):
        _show_live(panel)
    menus_and_status = 60
    assert panel.column.minimumSize().height() <= WINDOW_HEIGHT - menus_and_status


def test_every_control_has_a_tooltip(panel):
    _show_everything(panel)
    unexplained = [
        w
        for w in panel.findChildren(QWidget)
        if isinstance(w, CONTROLS)
        and not isinstance(w, QScrollBar)
        and not w.objectName().startswith("qt_")
        and not _explained(w, panel)
    ]
    assert unexplained == []


def test_advanced_is_built_when_it_is_unfolded(panel):
    before = len(panel.findChildren(QWidget))
    assert panel.advanced.content is None
    panel.advanced.button.click()
    assert len(panel.findChildren(QWidget)) > before + 3


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_follows_the_theme(panel, viewer, theme):
    from napari.utils.theme import get_theme

    if hasattr(panel, "live"):
        _show_live(panel)
    viewer.theme = theme
    assert get_theme(theme).current.as_hex() in panel.styleSheet()
    if hasattr(panel, "live"):
        background = panel.live.loss.plot.backgroundBrush().color().name()
        assert background == get_theme(theme).background.as_hex("long")


@pytest.mark.parametrize("module", ["denoise_widget", "sample_widget", "upscale_widget", "train_widget"])
def test_opening_waits_for_neither_torch_nor_the_plot_nor_file_formats(module):
    code = f"import napari_recon.plugin.{module}, sys; print({{'torch', 'pyqtgraph', 'tifffile'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def _explained(widget, panel):
    # The parts of a compound control are explained by the whole.
    while widget is not panel and widget is not None:
        if widget.toolTip():
            return True
        widget = widget.parentWidget()
    return False


def _show_live(panel):
    panel.show_live()
    panel.after.show()
    panel.resume.show()


def _show_everything(panel):
    panel.advanced.button.click()
    if hasattr(panel, "live"):
        _show_live(panel)
        panel.form.budget.setCurrentText("minutes")


def _scroll_bar_width(panel):
    return panel.style().pixelMetric(panel.style().PixelMetric.PM_ScrollBarExtent)
