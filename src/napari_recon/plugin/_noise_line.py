"""One line on the noise of a layer, measured in the background as soon as the layer is chosen."""

import threading
import weakref
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.theme import get_theme
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QLabel

from napari_recon.errors import ReconError
from napari_recon.image import Image
from napari_recon.plugin._device_badge import LINK
from napari_recon.plugin._jobs import Job
from napari_recon.plugin._layers import snapshot
from napari_recon.plugin._panel import Panel
from napari_recon.plugin._requests import unknown
from napari_recon.plugin._session import session
from napari_recon.plugin._view import current_plane, middle

if TYPE_CHECKING:
    from napari_recon.data.noise_estimate import NoiseEstimate
    from napari_recon.data.noise_report import NoiseReport

DELAY = 300  # milliseconds without another choice
LARGEST = 2**22  # pixels that are measured within a second; of a larger layer a part of the plane shown
SIDE = 1024  # of that part


@dataclass(frozen=True)
class Measured:
    """What was found in a layer.

    Parameters
    ----------
    name : str
        Name of the layer.
    reports : list of NoiseReport
        One for each channel.
    low, high : float
        Darkest and brightest pixel.
    whole : bool
        Whether all of the layer was measured.
    """

    name: str
    reports: "list[NoiseReport]"
    low: float
    high: float
    whole: bool


class Measurement:
    """Measures the noise of an image when it is first asked for, on whatever thread; who asks meanwhile waits.

    Parameters
    ----------
    image : Image
        What to measure.
    whole : bool
        Whether that is all of its layer.
    """

    def __init__(self, image: Image, whole: bool) -> None:
        self.image, self._whole = image, whole
        self._lock = threading.Lock()
        self._found: Measured | None = None
        self._checksum = 0

    def get(self) -> Measured:
        """Return what is found; raises `ReconError` where there is nothing to measure."""
        with self._lock:
            if self._found is None:
                self._found = self._measure()
            return self._found

    def of(self, image: Image) -> "list[NoiseEstimate] | None":
        """Noise of each channel of an image, when it has the very pixels that are measured here; else None."""
        if not self._whole or image.axes != self.image.axes or not isinstance(image.array, np.ndarray):
            return None
        with suppress(ReconError):  # the verb says better what is wrong
            reports = self.get().reports
            if _checksum(image.array) == self._checksum:  # a layer's pixels can be changed in place
                return [r.estimate for r in reports]
        return None

    def _measure(self) -> Measured:
        from napari_recon import api

        pixels = np.asarray(self.image.array)  # a lazy one would be read several times
        self._checksum = _checksum(pixels)
        reports = api.measure_noise(self.image.with_array(pixels))
        # Pixels that are no number do not count; without any other there is no warning either.
        low, high = (float(f.reduce(pixels, axis=None)) for f in (np.fmin, np.fmax))
        return Measured(self.image.name, reports, low, high, self._whole)


class NoiseLine(QLabel):
    """Says how noisy the chosen layer is; its link opens the details."""

    measured = Signal()

    def __init__(self, panel: Panel) -> None:
        super().__init__()
        self.setObjectName("grey")
        self.setWordWrap(True)
        self.setToolTip("Noise of the layer, as measured in it; the details say what follows for denoising.")
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
        self.linkActivated.connect(self.show_details)
        self.hide()
        self.found: Measured | None = None
        self.details: Any = None
        self._panel = weakref.ref(panel)  # the panel owns the line
        self._listening: weakref.WeakSet[Any] = weakref.WeakSet()
        self._key: tuple[Any, ...] | None = None  # what is to be measured ...
        self._asked: tuple[Any, ...] | None = None  # ... and what the last job was asked to
        self._measurement: Measurement | None = None  # of the layer, once it is begun or needed
        self._job: Job | None = None
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(DELAY)
        self._later.timeout.connect(self._begin)
        session().devices_found.connect(self._later.start)

    def watch(self, layer: Any, axes: str | None) -> None:
        """Measure a layer unless that was done; None for no layer."""
        key = None if layer is None else (weakref.ref(layer), id(layer.data), axes)
        if key == self._key:
            return
        self._key, self.found, self._measurement = key, None, None
        self.setVisible(layer is not None)
        if layer is not None:
            self.setText("noise: measuring ...")
            self._listen(layer)
            self._later.start()
        elif self.details is not None:
            self.details.hide()

    def known(self) -> "Callable[[Image], list[NoiseEstimate] | None]":
        """Return a function that tells the noise of an image if it is that of the layer; it waits for what is measured.

        The function may be called on any thread.
        """
        measurement = self._measure()
        return unknown if measurement is None else measurement.of

    def show_details(self, *_: Any) -> None:
        """Open the numbers, a plot and advice in a window of their own."""
        from napari_recon.plugin._noise_details import NoiseDetails  # pyqtgraph takes long to import

        panel = self._panel()
        if self.found is None or panel is None:
            return
        if self.details is None:
            self.details = NoiseDetails(self)
            self.details.wanted.connect(self._use_in_train)
        self.details.show_measured(self.found, get_theme(panel.viewer.theme))
        self.details.show()
        self.details.raise_()

    def _listen(self, layer: Any) -> None:
        panel = self._panel()
        if panel is not None and layer not in self._listening:
            self._listening.add(layer)
            panel.subscribe(layer.events.data, self._pixels_changed)

    def _pixels_changed(self, event: Any = None) -> None:
        if self._key is not None:
            self.watch(self._key[0](), self._key[2])

    def _measure(self) -> Measurement | None:
        """Return the measurement of the layer, None where there is nothing to measure."""
        panel, layer = self._panel(), self._key[0]() if self._key is not None else None
        if self._key is not None and panel is not None and layer is not None and self._measurement is None:
            with suppress(ReconError):  # the line on the data says what is wrong
                self._measurement = Measurement(*_part(panel.viewer, layer, self._key[2]))
        return self._measurement

    def _begin(self) -> None:
        # Beside the import of torch both would take longer; `devices_found` comes back here.
        if self.found is not None or not session().devices:
            return
        if self._job is not None and self._job.active:
            self._later.start()  # cannot be hurried, and two at once would only be slower
            return
        measurement = self._measure()
        if measurement is None:
            self.hide()
            return
        self._asked = self._key
        title = f"Measure the noise of {measurement.image.name}"
        self._job = session().aside(title, lambda on_progress, cancel: measurement.get())
        self._job.returned.connect(self._show)
        self._job.failed.connect(self._show_failure)
        self._job.start()

    def _show(self, found: Measured) -> None:
        if self._asked != self._key:
            return  # another layer was chosen meanwhile
        self.found = found
        count = len(found.reports)
        worst = min(found.reports, key=lambda r: r.estimate.snr)
        which = f" (channel {worst.channel + 1} of {count})" if count > 1 else ""
        link = f'<a href="#details" style="color: {LINK}">details</a>'
        self.setText(f"noise{which}: {worst.line()} · {link}")
        if self.details is not None and self.details.isVisible():
            self.show_details()
        self.measured.emit()

    def _show_failure(self, error: BaseException) -> None:
        if self._asked == self._key:
            self.setText(f"noise: not measured · {error.problem if isinstance(error, ReconError) else error}")

    def _use_in_train(self, options: dict[str, Any]) -> None:
        panel = self._panel()
        layer = self._key[0]() if self._key is not None else None
        if panel is None:
            return
        _, train = panel.viewer.window.add_plugin_dock_widget("napari-recon", "Train", tabify=True)
        if layer is not None and layer not in train.form.sources.layers.layers():
            train.form.sources.layers.check([layer])
        train.use_options(options)


def _part(viewer: Any, layer: Any, axes: str | None) -> tuple[Image, bool]:
    """What to measure of a layer, and whether that is all of it."""
    image = snapshot(layer, axes).image
    if image.array.size <= LARGEST:
        return image, True
    slices = current_plane(viewer, layer, image.axes)
    slices |= {a: middle(slice(0, image.size(a)), SIDE) for a in "YX"}
    return image.crop(slices), False


def _checksum(pixels: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(pixels).data)
