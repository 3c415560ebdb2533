"""What one sees while a training runs: the loss, and a region as it was and as it is now."""

from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_recon.image import Image
from napari_recon.plugin._loss_plot import COLOURS, GAME_COLOURS, LossPlot
from napari_recon.progress import ProgressEvent

SIDE = 120  # pixels; two pictures side by side in a narrow dock


class LiveView(QWidget):
    """Loss plot and preview; made when the first training starts."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.loss, self.game = LossPlot(), LossPlot(game=True)
        self.game.hide()
        self.noisy, self.now = _Picture("noisy"), _Picture("now")
        self._limits = (0.0, 1.0)
        self._colormap: Any = None
        self.parts, self.warning = QLabel(), QLabel()
        self.parts.setObjectName("grey")
        self.parts.setToolTip(
            "What the loss is made of. KL: what each level tells of the image, level 0 the finest. "
            "Generator, discriminator: losses of their game. D: how real the discriminator finds real and generated "
            "images, 0 to 1. Consistency: how far the result, made coarse again, is from the input."
        )
        self.warning.setToolTip("What the training warns of.")
        self.warning.setStyleSheet(f"color: {COLOURS['validation']};")
        for text in (self.parts, self.warning):
            text.setWordWrap(True)
            text.hide()
        pictures = QHBoxLayout()
        pictures.addWidget(self.noisy)
        pictures.addWidget(self.now)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for widget in (self.loss, self.game, self.parts, self.warning):
            layout.addWidget(widget)
        layout.addLayout(pictures)

    def begin(self, preview: Image | None, look: dict[str, Any], anew: bool) -> None:
        """Start showing a training.

        Parameters
        ----------
        preview : Image or None
            Region to watch.
        look : dict
            Colormap and contrast limits of its layer.
        anew : bool
            Whether the curves begin again.
        """
        if anew:
            for plot in (self.loss, self.game):
                plot.clear()
            self._show_game_plot(False)
            self.parts.hide()
            self.warning.hide()
        self._colormap, self._limits = look.get("colormap"), look.get("contrast_limits", (0.0, 1.0))
        for picture in (self.noisy, self.now):
            picture.setVisible(preview is not None)
        if preview is not None:
            self._draw(self.noisy, np.asarray(preview.array), preview.axes)
            self._axes = preview.axes
            self.now.clear()

    def set_theme(self, theme: Any) -> None:
        """Take over napari's colours."""
        for plot in (self.loss, self.game):
            plot.set_theme(theme)

    def show_event(self, event: ProgressEvent) -> None:
        """Take over what an event brings."""
        self.loss.add(event)
        self.game.add(event)
        self._show_parts(event)
        # A warning is told with each validation, and holds until one comes without.
        if event.message or "validation" in event.values:
            self.warning.setText(event.message)
            self.warning.setVisible(bool(event.message))
        if event.preview is not None:
            self._draw(self.now, event.preview, self._axes)

    def _show_parts(self, event: ProgressEvent) -> None:
        levels = [(name, value) for name, value in event.values.items() if name.startswith("KL ")]
        if not levels:
            self._show_game(event)
            return
        numbers = ", ".join(f"{value:.2g}" for _, value in levels)
        first, last = levels[0][0].removeprefix("KL "), levels[-1][0].removeprefix("KL ")
        which = f"level {first}" if first == last else f"levels {first} to {last}"
        self.parts.setText(f"reconstruction {event.values['reconstruction']:.4g} · KL {numbers} ({which}) nats/pixel")
        self.parts.show()

    def _show_game(self, event: ProgressEvent) -> None:
        """Show what a generator and its discriminator make of each other."""
        shown = [f"{n} {v:.2g}" for n, v in event.values.items() if n not in COLOURS and n != "best_step"]
        if any(name in GAME_COLOURS for name in event.values):
            self._show_game_plot(True)
        if shown:
            self.parts.setText(" · ".join(shown))
            self.parts.show()

    def _show_game_plot(self, on: bool) -> None:
        self.game.setVisible(on)
        self.loss.share_height(on)

    def _draw(self, picture: "_Picture", array: np.ndarray, axes: str) -> None:
        if axes.endswith("YXC") and array.shape[-1] == 3:
            rgb = array[(0,) * (array.ndim - 3)].astype(np.float32)
            shown = np.clip(rgb / (255 if rgb.max() > 1 else 1), 0, 1)
            rgba = np.concatenate([shown, np.ones_like(shown[..., :1])], axis=-1)
        else:
            order = sorted(range(array.ndim), key=lambda i: "YX".find(axes[i]))
            plane = array.transpose(order)[(0,) * (array.ndim - 2)].astype(np.float32)
            low, high = self._limits
            shown = np.clip((plane - low) / max(high - low, 1e-12), 0, 1)
            rgba = self._colormap.map(shown.ravel()).reshape(*shown.shape, 4)
        picture.draw(np.ascontiguousarray((255 * rgba).astype(np.uint8)))


class _Picture(QWidget):
    """A small picture with its name below."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setToolTip(f"The watched region, {name}.")
        self._picture = QLabel()
        self._picture.setFixedHeight(SIDE)
        self._picture.setMinimumWidth(SIDE // 2)
        self._picture.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._name = QLabel(name)
        self._name.setObjectName("grey")
        self._name.setAlignment(Qt.AlignmentFlag.AlignCenter)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._picture)
        layout.addWidget(self._name)

    def draw(self, rgba: np.ndarray) -> None:
        """Show pixels (Y, X, 4) of uint8."""
        height, width = rgba.shape[:2]
        image = QImage(rgba.data, width, height, 4 * width, QImage.Format.Format_RGBA8888)
        keep = Qt.AspectRatioMode.KeepAspectRatio
        self._picture.setPixmap(QPixmap.fromImage(image).scaled(SIDE, SIDE, keep))

    def clear(self) -> None:
        """Show nothing until the next drawing."""
        self._picture.clear()

    def drawn(self) -> bool:
        """Whether there is a picture."""
        return not self._picture.pixmap().isNull()
