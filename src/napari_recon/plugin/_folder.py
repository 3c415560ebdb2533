"""The folded part of a panel that does what it does on all images of a folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QLineEdit, QPushButton, QToolButton, QWidget

from napari_recon.errors import ReconError
from napari_recon.plugin._forms import Foldout, PathEdit, add_row, compact_form
from napari_recon.plugin._jobs import Job
from napari_recon.plugin._panel import Panel
from napari_recon.plugin._session import session
from napari_recon.progress import CancelToken, ProgressCallback, ProgressEvent

ALL = "**/*"
SHOWN = 4  # failures; the others are counted
FOLDER_HELP = "Do the same to all images of a folder, without opening them. What is done already is skipped."


@dataclass(frozen=True)
class FolderRequest:
    """One run over a folder; see `napari_recon.batch.batch`, whose keyword arguments `options` are."""

    verb: str
    folder: Path
    out: Path
    model: Any
    options: dict[str, Any]

    def run(self, on_progress: ProgressCallback, cancel: CancelToken) -> dict[str, Any]:
        """Do it. Runs on any thread."""
        from napari_recon.batch import batch, summary

        def of_images(event: ProgressEvent) -> None:
            if event.phase == "batch":
                on_progress(event)

        entries = batch(
            self.verb, self.folder, self.out, self.model, on_progress=of_images, cancel=cancel, **self.options
        )
        return summary(entries)


class FolderForm(QWidget):
    """Two folders, a pattern, and a button.

    Parameters
    ----------
    panel : Panel
        Shows the job.
    verb : str
        What to do.
    ask : callable
        Returns the panel's model and the options of the verb; raises `ReconError` when something is missing.
    """

    def __init__(self, panel: Panel, verb: str, ask: Callable[[], tuple[Any, dict[str, Any]]]) -> None:
        super().__init__()
        self._panel, self._verb, self._ask = panel, verb, ask
        self.folder, self.out, self.pattern = PathEdit(), PathEdit(), QLineEdit(ALL)
        self.folder.setToolTip("Folder of the images; folders in it count too.")
        self.out.setToolTip("Folder for the results, which get the names of the images; made when it is not there.")
        self.pattern.setToolTip("Which files: *.tif for those of this folder alone, **/*.tif for all below it.")
        self.button = QPushButton(f"{verb.capitalize()} folder")
        self.button.setToolTip("Start, with the model and the options of this panel.")
        self.button.clicked.connect(self._run)
        self.failures = QLabel()
        self.failures.setWordWrap(True)
        self.failures.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.failures.hide()
        rows = compact_form(self)
        add_row(rows, "Images", _with_dialog(self.folder, "Folder of images"))
        add_row(rows, "Results", _with_dialog(self.out, "Folder for the results"))
        add_row(rows, "Pattern", self.pattern)
        rows.addRow(self.button)
        rows.addRow(self.failures)

    def request(self) -> FolderRequest:
        """Read the form; raises `ReconError` when something is missing."""
        folder, out = self.folder.text().strip(), self.out.text().strip()
        if not folder or not out:
            raise ReconError(
                "Of the two folders one is missing.", "Choose that of the images and that for the results."
            )
        model, options = self._ask()
        return FolderRequest(
            self._verb, Path(folder), Path(out), model, {**options, "pattern": self.pattern.text().strip() or ALL}
        )

    def _run(self) -> None:
        if self._panel.controls.job is not None:
            return
        request = self._panel.attempt(self.request)
        if request is None:
            return
        self.failures.hide()
        job = Job(f"{self._verb.capitalize()} {request.folder.name}", request.run)
        job.returned.connect(self._show)
        self._panel.follow(job)
        session().submit(job, request.options["device"])

    def _show(self, made: dict[str, Any]) -> None:
        self._panel.controls.say(" · ".join(f"{made[s]} {s}" for s in ("done", "skipped", "failed") if made[s]))
        failed = [f"{Path(e['input']).name}: {e['error']}" for e in made["files"] if e["status"] == "failed"]
        more = [f"and {len(failed) - SHOWN} more"] if len(failed) > SHOWN else []
        self.failures.setText("\n".join(failed[:SHOWN] + more))
        self.failures.setVisible(bool(failed))


def folder_foldout(panel: Panel, verb: str, ask: Callable[[], tuple[Any, dict[str, Any]]]) -> Foldout:
    """Make the folded part; see `FolderForm`."""
    return Foldout("Folder", FOLDER_HELP, lambda: FolderForm(panel, verb, ask))


def _with_dialog(field: QLineEdit, title: str) -> QWidget:
    """Put a button beside a field that fills it by a file dialog."""
    button = QToolButton()
    button.setText("...")
    button.setToolTip("Choose with a file dialog.")

    def choose() -> None:
        text = QFileDialog.getExistingDirectory(field, title)
        if text:
            field.setText(text)

    button.clicked.connect(choose)
    both = QWidget()
    both.setToolTip(field.toolTip())
    line = QHBoxLayout(both)
    line.setContentsMargins(0, 0, 0, 0)
    line.addWidget(field, 1)
    line.addWidget(button)
    return both
