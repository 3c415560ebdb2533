"""A layer that shows the result of what is on screen, and computes the rest as the user scrolls."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import QPushButton

from napari_recon.errors import ReconError
from napari_recon.image import Image
from napari_recon.inference.lazy import LazyResult
from napari_recon.inference.live import LiveResult
from napari_recon.plugin._jobs import Job
from napari_recon.plugin._keeper import ModelKeeper
from napari_recon.plugin._layers import KEY, Snapshot, add_result, finer, move_onto, snapshot
from napari_recon.plugin._panel import Panel
from napari_recon.plugin._run_controls import show_problem
from napari_recon.plugin._session import session
from napari_recon.plugin._view import current_plane, visible_region
from napari_recon.progress import CancelToken, ProgressCallback, ProgressEvent

if TYPE_CHECKING:
    from napari_recon.inference.runner import TileRunner

DELAY = 150  # milliseconds without a change
HELP = "A layer of the result that is computed plane by plane as you scroll; it goes when this is switched off."
NO_PREVIEW = "The live layer shows it."


@dataclass(frozen=True)
class LiveWish:
    """What to show live; equal wishes give the same pixels.

    Parameters
    ----------
    layer, axes, model
        What is worked on, and with what.
    verb : str
        As `napari_recon.lazily` knows it, with these options.
    spatial, scale : str, int
        Axes that the network sees at once, and pixels of the result per pixel of the layer.
    """

    layer: Any
    axes: str | None
    model: Any
    verb: str
    options: dict[str, Any]
    spatial: str = "YX"
    scale: int = 1


class LiveLayer(QObject):
    """Keeps a live layer while its button is down.

    Parameters
    ----------
    panel : Panel
        With ``controls`` and ``keeper``.
    read : callable
        Returns the present `LiveWish` of the panel; raises `ReconError` when there is nothing to show.
    """

    switched = Signal()

    def __init__(self, panel: Panel, read: Callable[[], LiveWish]) -> None:
        super().__init__(panel)
        self.button = QPushButton("Live")
        self.button.setCheckable(True)
        self.button.setToolTip(HELP)
        self.button.toggled.connect(self._toggled)
        self.layer: Any = None
        self._panel: Any = panel
        self._viewer = panel.viewer
        self._read = read
        self._wish: LiveWish | None = None
        self._key: Any = None  # what is shown
        self._axes = ""
        self._result: LiveResult | None = None
        self._noise: tuple[Any, list[Any]] = (None, [])  # of which image, and what was measured in it
        self._job: Job | None = None
        self._listening: weakref.WeakSet[Any] = weakref.WeakSet()
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(DELAY)
        self._later.timeout.connect(self._begin)
        viewer = self._viewer
        camera = getattr(viewer, "scene", viewer).camera  # moved in napari 0.9
        for emitter in (
            camera.events.center, camera.events.zoom,
            viewer.dims.events.current_step, viewer.dims.events.order, viewer.dims.events.ndisplay,
        ):  # fmt: skip
            panel.subscribe(emitter, self._look)
        panel.subscribe(viewer.layers.events.removed, self._removed)

    @property
    def on(self) -> bool:
        """Whether the button is down."""
        return self.button.isChecked()

    def done(self) -> bool:
        """Whether all that is on screen was computed."""
        return self._result is not None and not self._later.isActive() and self._result.done()

    def follow(self, *_: Any) -> None:
        """Take notice of other choices in the panel."""
        if self.on:
            self._later.start()

    def off(self) -> None:
        """Stop and remove the layer."""
        self.button.setChecked(False)

    def _toggled(self, on: bool) -> None:
        self._later.stop()
        self.switched.emit()
        if on:
            if self._panel.attempt(self._read) is None:  # says what is missing
                self.off()
            else:
                self._begin()
        else:
            self._stop()
            self._key = None
            self._noise = (None, [])

    def _begin(self) -> None:
        try:
            wish = self._read()
            source = snapshot(wish.layer, wish.axes)
        except ReconError as error:
            self.off()  # the layer is gone, or does not fit
            self._panel.controls.say(error.problem)
            return
        image = (weakref.ref(wish.layer), id(wish.layer.data), source.image.axes, str(wish.model))
        key = (image, wish)
        if key == self._key and self.layer is not None:
            move_onto(self.layer, finer(source, wish.scale))  # its source may have been moved
            return
        if self._noise[0] != image:
            self._noise = (image, [])
        before = self.layer if self._key is not None and self._key[0] == image else None
        self._stop(keep_layer=before is not None)
        self._key, self._wish, self._axes = key, wish, source.image.axes
        if wish.layer not in self._listening:
            self._listening.add(wish.layer)
            events = wish.layer.events
            for emitter in (events.data, events.scale, events.translate, events.rotate, events.shear, events.affine):
                self._panel.subscribe(emitter, self.follow)
        self._result = _result(wish, source.image, self._panel.keeper, self._noise[1])
        self._show(finer(source, wish.scale), self._result, before)
        self._job = session().aside(f"Live {source.name}", partial(_serve, self._result))
        self._job.progressed.connect(self._refresh)
        self._job.failed.connect(self._failed)
        self._panel.ends_with(self._job)
        self._job.start()
        self._look()

    def _show(self, source: Snapshot, result: LiveResult, before: Any) -> None:
        wish = self._wish
        assert wish is not None
        record = {"verb": wish.verb, "live": True, "source": source.name, **wish.options}
        if before is not None and before.data.shape == result.shape and before.data.dtype == result.dtype:
            before.data = result
            move_onto(before, source)
            before.metadata = {**before.metadata, KEY: record}
            return
        self._remove()
        active = self._viewer.layers.selection.active
        self.layer = add_result(self._viewer, source, result, "live", record)
        self.layer.events.visible.connect(self._look)
        # The next choice is about the source, not about this.
        self._viewer.layers.selection.active = active if active in self._viewer.layers else wish.layer

    def _look(self, event: Any = None) -> None:
        """Tell what is on screen."""
        layer, result = self.layer, self._result
        if layer is None or result is None:
            return
        if not layer.visible:
            result.look_at(None)
            return
        result.look_at(current_plane(self._viewer, layer, self._axes), visible_region(self._viewer, layer, self._axes))
        self._tell()

    def _refresh(self, event: ProgressEvent) -> None:
        layer, result = self.layer, self._result
        if layer is None or result is None:
            return
        if result.complete.record:
            layer.metadata = {**layer.metadata, KEY: {**layer.metadata[KEY], **result.complete.record}}
        layer.refresh(extent=False)
        self._tell()

    def _tell(self) -> None:
        if self._panel.controls.job is None and self._result is not None:
            what = "what is shown is done" if self._result.done() else "computing what is shown ..."
            self._panel.controls.say(f"Live: {what}")

    def _failed(self, error: BaseException) -> None:
        if self._job is None or self._job.active:
            return  # one that was replaced
        self.off()
        show_problem(error)

    def _removed(self, event: Any) -> None:
        if self.layer is not None and event.value is self.layer:
            self.layer = None
            self.off()

    def _stop(self, keep_layer: bool = False) -> None:
        if self._job is not None:
            self._job.stop()
        self._job, self._result = None, None
        if not keep_layer:
            self._remove()

    def _remove(self) -> None:
        layer, self.layer = self.layer, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)


def _result(wish: LiveWish, source: Image, keeper: ModelKeeper, noise: list[Any]) -> LiveResult:
    """Promise a result; `noise` is measured once for all strengths."""

    def make() -> "tuple[TileRunner, dict[str, Any]]":
        from napari_recon.api.lazily import prepare  # imports torch

        known = {"noise": noise[0]} if noise else {}
        runner, record = prepare(wish.verb, source, keeper.load(wish.model), **wish.options, **known)
        if wish.verb == "denoise" and runner.normalization.noise and not noise:
            noise.append(runner.normalization.noise)
        return runner, record

    dtype = source.dtype if wish.options.get("keep_dtype") else np.dtype(np.float32)
    return LiveResult(LazyResult(source, wish.spatial, wish.scale, dtype, make))


def _serve(result: LiveResult, on_progress: ProgressCallback, cancel: CancelToken) -> None:
    try:
        result.serve(lambda: on_progress(ProgressEvent("live", 0)), cancel)
    finally:
        result.complete.release()
