"""A preview of what a panel would do to the region that is visible, as a layer that is replaced with each change."""

import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QCheckBox

from napari_recon.errors import ReconError
from napari_recon.image import Image
from napari_recon.inference.neighbours import PAIRS, around
from napari_recon.plugin._jobs import Job
from napari_recon.plugin._keeper import ModelKeeper
from napari_recon.plugin._layers import KEY, Snapshot, add_result, finer, is_preview, snapshot
from napari_recon.plugin._noise_line import NoiseLine
from napari_recon.plugin._panel import Panel
from napari_recon.plugin._run_controls import show_problem
from napari_recon.plugin._session import session
from napari_recon.plugin._view import preview_region
from napari_recon.progress import CancelToken, ProgressCallback

DELAY = 150  # milliseconds without a change
AIM = 0.5  # seconds a preview may take
FIRST, SMALLEST, LARGEST = 384, 256, 512  # pixels; the side follows what the machine manages ...
STEP = 64  # ... but does not change with every breath
HELP = "Show what the choices above do to the visible region before the button is pressed; not while a job runs."


@dataclass(frozen=True)
class Wish:
    """What to preview; equal wishes give the same picture.

    Parameters
    ----------
    layer, axes, model
        What is worked on, and with what.
    verb : str
        A function of `napari_recon.api`, with these options.
    scale : int
        Pixels of the result per pixel of the layer.
    neighbours : bool
        Whether the verb looks at neighbouring planes.
    refusal : str
        Why there can be no preview; empty when there can.
    """

    layer: Any
    axes: str | None
    model: Any
    verb: str
    options: dict[str, Any]
    scale: int = 1
    neighbours: bool = False
    refusal: str = ""


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
        With ``controls``.
    read : callable
        Returns the present `Wish` of the panel.
    noise : NoiseLine or None
        Measures the noise of the whole layer, which the verb is to be told.
    """

    def __init__(self, panel: Panel, read: Callable[[], Wish], noise: NoiseLine | None = None) -> None:
        super().__init__(panel)
        self.box = QCheckBox("preview")
        self.box.setChecked(True)
        self.box.toggled.connect(self._toggled)
        self._panel: Any = panel
        self._viewer = panel.viewer
        self._read = read
        self._chosen: tuple[Any, ...] | None = None  # layer, axes, model and pixel size
        self._wanted = False
        self._drawing: tuple[Any, ...] | None = None  # what the job was asked to draw ...
        self._drawn: tuple[Any, ...] | None = None  # ... and what can be seen
        self._side = FIRST
        self._job: Job | None = None
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(DELAY)
        self._later.timeout.connect(self._begin)
        self._noise = noise
        if noise is not None:
            noise.measured.connect(self._go_on)
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
        scale = () if wish.layer is None else tuple(wish.layer.scale)
        chosen = (_reference(wish.layer), wish.axes, wish.model, scale)
        before, self._chosen = self._chosen, chosen
        self.box.setEnabled(not wish.refusal)
        self.box.setToolTip(wish.refusal or HELP)
        if wish.refusal or wish.layer is None:
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
        found = self._noise.found if self._noise is not None else None
        if wish.layer is None or self._busy() or (self._noise is not None and found is None):
            return  # once the noise is known `_go_on` comes back here
        if self.running():
            return  # it was cancelled, and `_ended` comes back here
        self._wanted = False
        try:
            source = _region(self._viewer, wish, self._side)
        except ReconError:
            return  # the line on the data says what is wrong
        part = sorted((a, s.start, s.stop) for a, s in source.slices.items())
        drawn = (wish, id(wish.layer.data), tuple(wish.layer.scale), part)
        if drawn == self._drawn and self.layer() is not None:
            return
        self._drawing = drawn
        more = {}
        if found is not None:
            channels = source.slices.get("C", slice(None))
            more["noise"] = [report.estimate for report in found.reports][channels]
        work = _Work(wish, source, *_around(wish, source), more, self._panel.keeper)
        self._job = session().aside(f"Preview {source.name}", work)
        self._job.returned.connect(self._show)
        self._job.failed.connect(self._show_failure)
        self._job.finished.connect(self._ended)
        self._job.start()

    def _show(self, done: Preview) -> None:
        self._learn(done)
        wish, layers = done.wish, self._viewer.layers
        source = finer(done.source, wish.scale)
        if self._job is None or self._job.token.cancelled or self._busy() or wish.layer not in layers:
            return
        self._drawn = self._drawing
        record = {"verb": wish.verb, "preview": True, "source": source.name, **wish.options}
        before = self.layer()
        if before is not None and before.metadata[KEY]["source"] == source.name and before.ndim == wish.layer.ndim:
            before.data, before.visible = done.pixels, True
            before.scale, before.translate = source.place["scale"], source.place["translate"]
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
    """Do to a region what is wished, of a part that reaches further where a plane looks at its neighbours.

    Runs on a job's thread.
    """

    wish: Wish
    source: Snapshot
    seen: Image
    inside: tuple[slice, ...]
    more: dict[str, Any]
    keeper: ModelKeeper

    def __call__(self, on_progress: ProgressCallback, cancel: CancelToken) -> Preview:
        from napari_recon.api.lazily import lazily

        wish = self.wish
        model = self.keeper.load(wish.model)
        start = time.monotonic()  # loading is done once only
        cancel.raise_if_cancelled()
        # napari shows colours as integers or in 0 to 1 only.
        options = {"keep_dtype": self.source.rgb, **wish.options, **self.more}
        pixels = lazily(wish.verb, self.seen, model, **options)[self.inside]
        return Preview(wish, self.source, pixels, time.monotonic() - start)


def _region(viewer: Any, wish: Wish, side: int) -> Snapshot:
    """The part of the plane shown that is previewed."""
    axes = snapshot(wish.layer, wish.axes).image.axes
    source = snapshot(wish.layer, axes, preview_region(viewer, wish.layer, axes, largest=side))
    if any(n > 1 for a, n in zip(axes, source.image.shape, strict=True) if a not in "YXC"):
        raise ReconError("A volume is not previewed.", "Show a plane of it.")
    return source


def _around(wish: Wish, source: Snapshot) -> tuple[Image, tuple[slice, ...]]:
    """Return the region with what else its planes look at, and where in that the region lies."""
    if not wish.neighbours:
        return source.image, (slice(None),) * source.image.ndim
    whole = snapshot(wish.layer, source.image.axes).image
    wide, inside = dict(source.slices), []
    for axis in whole.axes:
        if axis in PAIRS and axis in source.slices:
            place = source.slices[axis].start
            wide[axis] = around(place, whole.size(axis), axis)
            inside.append(slice(place - wide[axis].start, place - wide[axis].start + 1))
        else:
            inside.append(slice(None))
    return whole.crop(wide), tuple(inside)


def _reference(layer: Any) -> Any:
    return None if layer is None else weakref.ref(layer)
