"""What the panels have in common: one scrollable column, keys, colours, and a safe end."""

import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from napari.utils.theme import get_theme
from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QApplication, QFrame, QPushButton, QScrollArea, QVBoxLayout, QWidget

from napari_recon.errors import ReconError
from napari_recon.plugin._keeper import ModelKeeper
from napari_recon.plugin._run_controls import RunControls, show_problem
from napari_recon.plugin._session import session

T = TypeVar("T")

WARM_UP_DELAY = 100  # milliseconds


class Panel(QWidget):
    """A dock panel around one job. The subclass fills ``self.column`` and sets ``self.controls``."""

    controls: RunControls
    model: Any  # where models are chosen, in panels that use one

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        # napari wraps what it gives to plugins, and wraps each layer anew at every access, so that no layer would
        # be the same as itself. Only public attributes are used.
        self.viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self._subscriptions = Subscriptions(self)
        self._docked = False
        self.keeper = ModelKeeper()
        body = QWidget()
        self.column = QVBoxLayout(body)
        self.column.setContentsMargins(6, 4, 6, 4)
        self.column.setSpacing(4)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setWidget(body)
        self._view = scroll.viewport()
        for watched in (body, self._view):
            watched.installEventFilter(self)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll)
        for key in ("Return", "Enter"):
            self._bind(key, self._run_as_typed)
        self._bind("Esc", lambda: self.controls.stop())
        self.subscribe(self.viewer.events.theme, self._apply_theme)
        # Only once the panel is drawn: the import of torch would slow down its opening.
        QTimer.singleShot(WARM_UP_DELAY, session().warm_up)

    def subscribe(self, emitter: Any, slot: Callable) -> None:
        """Connect to an event of napari for as long as the panel lives."""
        self._subscriptions.add(emitter, slot)

    def finish_column(self) -> None:
        """Call when the column is filled."""
        self.column.addStretch(1)
        self._apply_theme()

    def request(self) -> Any:
        """Read the panel; raises `ReconError` when something is missing or does not fit."""
        raise NotImplementedError

    def choose_model(self, verb: str, reference: Any) -> None:
        """Choose a model that was trained for a verb; for a panel that has one place for models."""
        self.model.select(reference)

    def attempt(self, ask: Callable[[], T]) -> T | None:
        """Do what the user asks for; None when something is missing, which is then said."""
        try:
            return ask()
        except ReconError as error:
            show_problem(error)
            self.controls.say(error.problem)
            return None

    def copy_button(self) -> QPushButton:
        """Make the button that copies the request as Python."""
        button = QPushButton("Copy as Python")
        button.setToolTip("Copy lines that do what this panel would do now, for a script or napari's console.")
        button.clicked.connect(self._copy)
        return button

    def _copy(self) -> None:
        text = self.attempt(lambda: self.request().as_python())
        if text is not None:
            QApplication.clipboard().setText(text)
            self.controls.say("Copied.")

    def left(self) -> None:
        """Handle the panel's removal from the window; its job is stopped."""
        self.controls.stop()
        self.keeper.forget()
        session().release_networks()

    def set_theme(self, theme: Any) -> None:
        """Take over the colours of a theme; for subclasses."""

    def event(self, event: QEvent) -> bool:
        """Notice when napari takes the panel out of its dock, of which no signal tells."""
        if event.type() == QEvent.Type.ParentChange:
            if self._docked and self.parent() is None:
                self.left()
                self.deleteLater()
            self._docked = self.parent() is not None
        return super().event(event)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Ask for the width that the column needs, known only once it is styled; a scroll area would let it be cut."""
        if event.type() in (QEvent.Type.LayoutRequest, QEvent.Type.Resize):
            beside = self.width() - self._view.width()  # the frame, and the scroll bar while there is one
            half = self.window().width() // 2  # the other half is the image's, however large the letters
            self.setMinimumWidth(min(self.column.minimumSize().width() + beside, half))
        return super().eventFilter(watched, event)

    def follow(self, job: Any) -> None:
        """Show a job, and stop it when the panel is destroyed."""
        self.controls.follow(job)
        self.ends_with(job)

    def ends_with(self, job: Any) -> None:
        """Stop a job when the panel is destroyed, as it is with its window."""
        stop = weakref.WeakMethod(job.stop)
        self.destroyed.connect(lambda: (alive := stop()) and alive())

    def _run_as_typed(self) -> None:
        """Run with what stands in the field that is being edited, which else counts only once it is left."""
        editor = self.focusWidget()
        if editor is not None:
            editor.clearFocus()
            editor.setFocus()
        self.controls.run()

    def _bind(self, key: str, slot: Callable[[], None]) -> None:
        shortcut = QShortcut(QKeySequence(key), self)
        shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        shortcut.activated.connect(slot)

    def _apply_theme(self, event: Any = None) -> None:
        theme = get_theme(self.viewer.theme)
        text = theme.text.as_rgb_tuple()[:3]
        grey = "rgba({}, {}, {}, 160)".format(*text)
        red, green, blue = theme.current.as_rgb_tuple()[:3]
        on_primary = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 140 else "white"
        self.setStyleSheet(
            f"QLabel#grey {{ color: {grey}; }}"
            f"QPushButton#primary {{ background: {theme.current.as_hex()}; color: {on_primary}; }}"
            "QPushButton#primary { padding: 6px; font-weight: bold; }"
            f"QPushButton#primary:disabled {{ background: {theme.secondary.as_hex()}; }}"
        )
        self.set_theme(theme)


class Subscriptions:
    """Connections to napari's events, which do not end by themselves when a Qt widget is destroyed."""

    def __init__(self, owner: QWidget) -> None:
        self._made: list[tuple[Any, weakref.WeakMethod]] = []
        owner.destroyed.connect(lambda: self.close())

    def add(self, emitter: Any, slot: Callable) -> None:
        """Connect a method."""
        emitter.connect(slot)
        self._made.append((emitter, weakref.WeakMethod(slot)))

    def close(self) -> None:
        """Disconnect all."""
        for emitter, reference in self._made:
            slot = reference()
            if slot is not None:
                emitter.disconnect(slot)
        self._made.clear()
