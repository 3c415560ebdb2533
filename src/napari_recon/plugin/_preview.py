"""A preview of what Denoise would do to the region that is visible, as a layer that is replaced with each change."""

import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QCheckBox

from napari_recon.errors import ReconError
from napari_recon.plugin._jobs import Job
from napari_recon.plugin._layers import KEY, Snapshot, add_result, is_preview, snapshot
from napari_recon.plugin._panel import Panel
from napari_recon.plugin._run_controls import show_problem
from napari_recon.plugin._session import session
from napari_recon.plugin._view import preview_region
from napari_recon.progress import CancelToken, ProgressCallback

if TYPE_CHECKING:
    from napari_recon.checkpoint import TrainedModel

DELAY = 150  # milliseconds without a change
AIM = 0.5  # seconds a preview may take
FIRST, SMALLEST, LARGEST = 384, 256, 512  # pixels; the side follows what the machine manages ...
STEP = 64  # ... but does not change with every breath
HELP = "Show what strength and model do to the visible region before Denoise is pressed; not while a job runs."
NO_HELP = "Only models that are told the noise are fast enough to show what a change does."


@dataclass(frozen=True)
class Wish:
    """What to preview; equal wishes give the same picture."""

    layer: Any
    axes: str | None
    model: Any
    noise_aware: bool
    strength: float
    device: str


@dataclass(frozen=True)
class Preview:
    """A region as it would come out."""

    wish: Wish
    source: Snapshot
    pixels: Any
    seconds: float


class Previewer(QObject):
    """Keeps a preview layer up to date while its box is checked.

    Parameters
    ----------
    panel : Panel
        With a ``noise`` line and ``controls``.
    read : callable
        Returns the present `Wish` of the panel.
    """

    def __init__(self, panel: Panel, read: Callable[[], Wish]) -> None:
        super().__init__(panel)
        self.box = QCheckBox("preview")
        self.box.setChecked(True)
        self.box.toggled.connect(self._toggled)
        self._panel: Any = panel
        self._viewer = panel.viewer
        self._read = read
        self._chosen: tuple[Any, ...] | None = None  # layer, axes and model
        self._wanted = False
        self._drawing: tuple[Any, ...] | None = None  # what the job was asked to draw ...
        self._drawn: tuple[Any, ...] | None = None  # ... and what can be seen
        self._side = FIRST
        self._job: Job | None = None
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(DELAY)
        self._later.timeout.connect(self._begin)
        panel.noise.measured.connect(self._go_on)
        camera = getattr(self._viewer, "scene", self._viewer).camera  # moved in napari 0.9
        for emitter in (camera.events.center, camera.events.zoom):
            panel.subscribe(emitter, self._moved)
        panel.subscribe(self._viewer.dims.events.current_step, self._moved)

    def layer(self) -> Any:
        """Return the preview layer, None while there is none."""
        return next((layer for layer in self._viewer.layers if is_preview(layer)), None)

    def running(self) -> bool:
        """Whether a preview is being made."""
        return self._job is not None and self._job.active

    def expected(self) -> bool:
        """Whether a preview is being made or about to be."""
        return self.running() or self._later.isActive()

    def ask(self, *_: Any) -> None:
        """Preview soon; a newer request takes the place of an older one."""
        if self.box.isChecked() and self.box.isEnabled() and not self._busy():
            self._wanted = True
            if self._job is not None:
                self._job.token.cancel()
            self._later.start()

    def follow(self) -> None:
        """Take notice of another layer or model: a preview goes along, and a change of the model calls for one."""
        wish = self._read()
        chosen = (_reference(wish.layer), wish.axes, wish.model)
        before, self._chosen = self._chosen, chosen
        self.box.setEnabled(wish.noise_aware)
        self.box.setToolTip(HELP if wish.noise_aware else NO_HELP)
        if not wish.noise_aware or wish.layer is None:
            self.clear()
        elif before is not None and before != chosen and (self.layer() is not None or before[:2] == chosen[:2]):
            self.ask()

    def clear(self) -> None:
        """Remove the preview, also one that is on its way."""
        self._wanted, self._drawn = False, None
        self._later.stop()
        if self._job is not None:
            self._job.token.cancel()
        layer = self.layer()
        if layer is not None:
            self._viewer.layers.remove(layer)

    def _toggled(self, on: bool) -> None:
        if on:
            self.ask()
        else:
            self.clear()

    def _moved(self, event: Any = None) -> None:
        if self.layer() is not None:
            self.ask()

    def _go_on(self) -> None:
        if self._wanted or self.layer() is not None:
            self.ask()

    def _busy(self) -> bool:
        return self._panel.controls.job is not None or bool(session().queue.jobs())

    def _begin(self) -> None:
        wish = self._read()
        found = self._panel.noise.found
        if wish.layer is None or found is None or self._busy():
            return  # once the noise is known `_go_on` comes back here
        if self.running():
            return  # it was cancelled, and `_ended` comes back here
        self._wanted = False
        try:
            source = _region(self._viewer, wish, self._side)
        except ReconError:
            return  # the line on the data says what is wrong
        drawn = (wish, id(wish.layer.data), sorted((a, s.start, s.stop) for a, s in source.slices.items()))
        if drawn == self._drawn and self.layer() is not None:
            return
        self._drawing = drawn
        channels = source.slices.get("C", slice(None))
        noise = [report.estimate for report in found.reports][channels]
        self._job = session().aside(f"Preview {source.name}", _Work(wish, source, noise))
        self._job.returned.connect(self._show)
        self._job.failed.connect(self._show_failure)
        self._job.finished.connect(self._ended)
        self._job.start()

    def _show(self, done: Preview) -> None:
        self._learn(done)
        wish, source, layers = done.wish, done.source, self._viewer.layers
        if self._job is None or self._job.token.cancelled or self._busy() or wish.layer not in layers:
            return
        self._drawn = self._drawing
        record = {"verb": "denoise", "preview": True, "strength": wish.strength, "source": source.name}
        before = self.layer()
        if before is not None and before.metadata[KEY]["source"] == source.name and before.ndim == wish.layer.ndim:
            before.data, before.translate, before.visible = done.pixels, source.place["translate"], True
            before.metadata = {**before.metadata, KEY: record}
            return
        active = layers.selection.active
        if before is not None:
            layers.remove(before)
        add_result(self._viewer, source, done.pixels, "preview", record)
        layers.selection.active = active if active in layers else wish.layer  # a preview is nothing to work on

    def _learn(self, done: Preview) -> None:
        """Make the next region larger or smaller, by how long this one took."""
        size = done.source.image.size
        side = (size("Y") * size("X") * AIM / max(done.seconds, 1e-3)) ** 0.5
        self._side = int(np.clip(round((self._side + side) / 2 / STEP) * STEP, SMALLEST, LARGEST))

    def _show_failure(self, error: BaseException) -> None:
        if isinstance(error, ReconError):
            self._panel.controls.say(f"No preview: {error.problem}")
        else:
            show_problem(error)

    def _ended(self) -> None:
        if self._wanted:
            self._later.start()


@dataclass(frozen=True)
class _Work:
    """Denoise a region; runs on a job's thread."""

    wish: Wish
    source: Snapshot
    noise: Any

    def __call__(self, on_progress: ProgressCallback, cancel: CancelToken) -> Preview:
        from napari_recon import api

        wish = self.wish
        model = wish.model
        if isinstance(model, Path) and model.exists():
            model = _load(model, model.stat().st_mtime)
        start = time.monotonic()  # loading is done once only
        options = {"strength": wish.strength, "device": wish.device, "noise": self.noise, "cancel": cancel}
        # napari shows colours as integers or in 0 to 1 only.
        done = api.denoise(self.source.image, model, keep_dtype=self.source.rgb, **options)
        return Preview(wish, self.source, done.array, time.monotonic() - start)


@lru_cache(maxsize=1)
def _load(path: Path, changed: float) -> "TrainedModel":
    """Load a model once, not for every position of the slider."""
    from napari_recon import api

    return api.load_model(path)


def _region(viewer: Any, wish: Wish, side: int) -> Snapshot:
    """The part of the plane shown that is previewed."""
    axes = snapshot(wish.layer, wish.axes).image.axes
    source = snapshot(wish.layer, axes, preview_region(viewer, wish.layer, axes, largest=side))
    if any(n > 1 for a, n in zip(axes, source.image.shape, strict=True) if a not in "YXC"):
        raise ReconError("A volume is not previewed.", "Show a plane of it.")
    return source


def _reference(layer: Any) -> Any:
    return None if layer is None else weakref.ref(layer)
