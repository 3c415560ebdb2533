"""Choose one of the latents of a model, the most telling first."""

import weakref
from typing import Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QComboBox

from napari_recon.errors import ReconError
from napari_recon.plugin._forms import narrow
from napari_recon.plugin._jobs import Job
from napari_recon.plugin._layers import Snapshot, snapshot
from napari_recon.plugin._sample_requests import Factor, Latents
from napari_recon.plugin._session import session
from napari_recon.plugin._view import preview_region

DELAY = 300  # milliseconds without another change
MOST_LISTED = 20  # those that follow tell next to nothing


class LatentChooser(QComboBox):
    """Lists the latents by what they tell of the visible region, in the background, once its page is shown."""

    def __init__(self, panel: Any) -> None:
        super().__init__()
        narrow(self)
        self.setToolTip("Which latent; the first tells most of the image. Level 0 is the finest.")
        self._panel = panel
        self._listed: tuple[Any, ...] | None = None  # layer, pixels, axes and model whose latents are listed
        self._job: Job | None = None
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(DELAY)
        self._later.timeout.connect(self._begin)
        session().devices_found.connect(self.follow)

    def follow(self) -> None:
        """Take notice of another layer or model, or of the page being shown."""
        # Not at once: while a result is added, the layer chosen is another one for a moment.
        self._later.start()

    def factor(self) -> Factor | None:
        """Level and number of the latent chosen, None as long as they are not listed."""
        return self.currentData()

    def _begin(self) -> None:
        panel = self._panel
        if panel.tabs.currentWidget() is not panel.explore or not session().devices:
            return  # `follow` comes back here
        layer, model = panel.layer.layer(), panel.model.reference()
        if layer is None or model is None:
            self._listed = None
            self._fill([], "none yet")
            return
        wanted = (weakref.ref(layer), id(layer.data), panel.data.axes(), model)
        if wanted == self._listed:
            return
        if self._job is not None and self._job.active:
            self._later.start()
            return
        self._listed = wanted
        self._fill([], "looking for the most telling ...")
        try:
            request = Latents(explored_region(panel, layer), model)
        except ReconError as error:
            self._fill([], error.problem)
            return
        self._job = session().aside(f"List the latents of {request.source.name}", request.run)
        self._job.returned.connect(self._show)
        self._job.failed.connect(self._show_failure)
        self._job.start()

    def _show(self, factors: list[tuple[Factor, float]]) -> None:
        self._fill(factors[:MOST_LISTED], "none tells anything")

    def _show_failure(self, error: BaseException) -> None:
        self._fill([], str(error))

    def _fill(self, factors: list[tuple[Factor, float]], note: str) -> None:
        self.blockSignals(True)
        self.clear()
        for (level, number), nats in factors:
            text = f"level {level}, no. {number} ({nats:.3f} nats/pixel)"
            self.addItem(text, (level, number))
            self.setItemData(self.count() - 1, text, Qt.ItemDataRole.ToolTipRole)
        if not factors:
            self.addItem(note, None)
        self.blockSignals(False)


def explored_region(panel: Any, layer: Any) -> Snapshot:
    """Take the part of a layer that is explored: the middle of what is visible of the plane shown.

    Raises
    ------
    ReconError
        When its axes do not fit.
    """
    axes = snapshot(layer, panel.data.axes()).image.axes
    slices = preview_region(panel.viewer, layer, axes)
    if panel.spatial() == "ZYX":
        slices.pop("Z", None)  # the network needs the volume
    return snapshot(layer, axes, slices)
