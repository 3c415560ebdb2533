"""A form made from the options of a config: label, tooltip, range and choices are written once, there."""

import types
from collections.abc import Callable, Collection
from typing import Any, get_args, get_origin

from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QSizePolicy,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_recon.config import Config, Option
from napari_recon.errors import ReconError

LARGEST_INT = 2**31 - 1
NARROW = 80  # pixels
PREFERRED = 21  # times the width of an x: room for "Upscale-x2 (no training)" in a new dock
BAD = "border: 1px solid #d9534f;"


class ConfigForm(QWidget):
    """One row for each option of a config class."""

    changed = Signal()

    def __init__(self, config: type[Config], hidden: Collection[str] = (), parent: QWidget | None = None) -> None:
        super().__init__(parent)
        rows = compact_form(self)
        self._config = config
        self._options = [o for o in config.options() if o.name not in hidden]
        self._editors = {o.name: _editor(o) for o in self._options}
        for option in self._options:
            editor = self._editors[option.name]
            editor.setToolTip(f"{option.help} Default: {_text(option.default)}.")
            editor.setObjectName(option.name)
            _connect(editor, self.changed.emit)
            add_row(rows, option.label, editor)

    def changes(self) -> dict[str, Any]:
        """Return the values that differ from the defaults.

        Raises
        ------
        ReconError
            When something typed is not a number; the field is marked.
        """
        values = {o.name: _value(o, self._editors[o.name]) for o in self._options}
        return {o.name: values[o.name] for o in self._options if values[o.name] != o.default}

    def checked(self) -> dict[str, Any]:
        """Return `changes`; raises `ReconError` when the config refuses one, and marks its field."""
        changes = self.changes()
        try:
            self._config(**changes)
        except ReconError as error:
            self.mark(error)
            raise
        self.mark(None)
        return changes

    def set_values(self, values: dict[str, Any]) -> None:
        """Fill in values; those that are no options of this form are left out."""
        for name in self._editors.keys() & values.keys():
            _set_value(self._editors[name], values[name])

    def mark(self, error: ReconError | None) -> None:
        """Mark the field that an error names, and only that."""
        for name, editor in self._editors.items():
            mark(editor, error is not None and f"({name})" in error.problem)


class Foldout(QWidget):
    """A title that unfolds a part of the panel, which is only made then; `beside` stands in the same line."""

    def __init__(self, title: str, help: str, make: Callable[[], QWidget], beside: QWidget | None = None) -> None:
        super().__init__()
        self._make = make
        self.content: Any = None  # what `make` made
        self.button = QToolButton()
        self.button.setText(title)
        self.button.setToolTip(help)
        self.button.setCheckable(True)
        self.button.setArrowType(Qt.ArrowType.RightArrow)
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.button.setAutoRaise(True)
        self.button.toggled.connect(self._fold)
        head = QHBoxLayout()
        head.addWidget(self.button)
        head.addStretch(1)
        if beside is not None:
            head.addWidget(beside)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.addLayout(head)

    def values(self) -> dict[str, Any]:
        """Return what was changed and checked in a content that is a `ConfigForm`; nothing before it is made."""
        return {} if self.content is None else self.content.checked()

    def offer(self, on: bool) -> None:
        """Show the title, or fold and hide it; what stands beside it stays."""
        if not on:
            self.button.setChecked(False)
        self.button.setVisible(on)

    def reset(self, *_: Any) -> None:
        """Fold, and make the content anew the next time."""
        self.button.setChecked(False)
        if self.content is not None:
            self.content.deleteLater()
            self.content = None

    def _fold(self, unfolded: bool) -> None:
        if self.content is None:
            self.content = self._make()
            self._layout.addWidget(self.content)
        self.content.setVisible(unfolded)
        self.button.setArrowType(Qt.ArrowType.DownArrow if unfolded else Qt.ArrowType.RightArrow)


class WrappedText(QLabel):
    """Text of several lines in a row of a form, which alone may leave it fewer lines than a new text needs."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)

    def setText(self, text: str) -> None:
        """Show a text."""
        super().setText(text)
        self._claim_height()

    def resizeEvent(self, event: Any) -> None:
        """Claim the height of the text at the new width."""
        super().resizeEvent(event)
        self._claim_height()

    def _claim_height(self) -> None:
        self.setMinimumHeight(self.heightForWidth(self.width()))


class PathEdit(QLineEdit):
    """Takes files and folders that are dropped on it; several are separated by a semicolon."""

    def dragEnterEvent(self, event: Any) -> None:
        """Take files before napari's window offers to open them."""
        if event.mimeData().hasUrls():
            event.acceptProposedAction()
        else:
            super().dragEnterEvent(event)

    def dropEvent(self, event: Any) -> None:
        """Fill in what was dropped."""
        paths = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
        if paths:
            self.setText("; ".join(paths))
            self.editingFinished.emit()
            event.acceptProposedAction()
        else:
            super().dropEvent(event)


class _NoWheel(QObject):
    """Keeps the wheel from changing a value while one only means to scroll past it."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel and not watched.hasFocus():
            event.ignore()
            return True
        return False


def compact_form(parent: QWidget | None = None) -> QFormLayout:
    """Make a form layout that fits a narrow dock."""
    rows = QFormLayout(parent)
    rows.setContentsMargins(0, 0, 0, 0)
    rows.setVerticalSpacing(3)
    rows.setHorizontalSpacing(6)
    rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    rows.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
    return rows


def add_row(rows: QFormLayout, label: str, editor: QWidget) -> None:
    """Add a labelled control whose label explains it too."""
    text = QLabel(label)
    text.setToolTip(editor.toolTip())
    text.setBuddy(editor)
    rows.addRow(text, editor)


def show_row(rows: QFormLayout, editor: QWidget, shown: bool) -> None:
    """Show or hide a control with its label."""
    for widget in (editor, rows.labelForField(editor)):
        if widget is not None:
            widget.setVisible(shown)


def row(*widgets: QWidget) -> QWidget:
    """Put controls side by side."""
    line = QWidget()
    layout = QHBoxLayout(line)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    for widget in widgets:
        layout.addWidget(widget)
    layout.addStretch(1)
    return line


def narrow(combo: QComboBox) -> QComboBox:
    """Let a combo box be narrower than its longest entry."""
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(PREFERRED)
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    combo.setMinimumWidth(NARROW)
    without_wheel(combo)
    return combo


def without_wheel(editor: QWidget) -> None:
    """Ignore the wheel over a control that does not have the focus."""
    editor.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    editor.installEventFilter(_NoWheel(editor))


def mark(editor: QWidget, bad: bool) -> None:
    """Draw a red frame around a control, or take it away."""
    editor.setStyleSheet(BAD if bad else "")


def _plain(hint: Any) -> tuple[type, bool]:
    """Return the type, and whether None is allowed."""
    if get_origin(hint) is types.UnionType:
        return next(a for a in get_args(hint) if a is not type(None)), True
    return hint, False


def _editor(option: Option) -> QWidget:
    kind, optional = _plain(option.type)
    if option.choices:
        combo = narrow(QComboBox())
        for choice in option.choices:
            combo.addItem(str(choice), choice)
        combo.setCurrentIndex(option.choices.index(option.default))
        return combo
    if kind is bool:
        box = QCheckBox()
        box.setChecked(option.default)
        return box
    if kind is int and not optional:
        spin = QSpinBox()
        spin.setRange(int(option.minimum or 0), int(option.maximum or LARGEST_INT))
        spin.setValue(option.default)
        spin.setStepType(QAbstractSpinBox.StepType.AdaptiveDecimalStepType)
        without_wheel(spin)
        return spin
    line = QLineEdit(_text(option.default) if option.default is not None else "")
    line.setPlaceholderText("automatic" if optional else "")
    return line


def _connect(editor: QWidget, slot: Callable[[], None]) -> None:
    if isinstance(editor, QComboBox):
        editor.currentIndexChanged.connect(lambda _: slot())
    elif isinstance(editor, QCheckBox):
        editor.toggled.connect(lambda _: slot())
    elif isinstance(editor, QSpinBox):
        editor.valueChanged.connect(lambda _: slot())
    else:
        editor.editingFinished.connect(slot)


def _value(option: Option, editor: QWidget) -> Any:
    if isinstance(editor, QComboBox):
        return editor.currentData()
    if isinstance(editor, QCheckBox):
        return editor.isChecked()
    if isinstance(editor, QSpinBox):
        return editor.value()
    kind, optional = _plain(option.type)
    text = editor.text().strip()
    if optional and not text:
        return None
    try:
        value = kind(text)
    except ValueError:
        mark(editor, True)
        raise ReconError(f"{option.label} ({option.name}) cannot be {text!r}.", "Type a number.") from None
    mark(editor, False)
    return value


def _set_value(editor: QWidget, value: Any) -> None:
    if isinstance(editor, QComboBox):
        editor.setCurrentIndex(editor.findData(value))
    elif isinstance(editor, QCheckBox):
        editor.setChecked(value)
    elif isinstance(editor, QSpinBox):
        editor.setValue(value)
    elif isinstance(editor, QLineEdit):
        editor.setText("" if value is None else _text(value))
        editor.editingFinished.emit()


def _text(value: Any) -> str:
    if value is None:
        return "automatic"
    return f"{value:g}" if isinstance(value, float) else str(value)
