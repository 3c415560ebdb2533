"""The demonstration with a window: train on a real noisy micrograph while one watches, then denoise it.

``python -m napari_recon.plugin.demo`` runs it, as ``napari-recon demo`` does.
"""

from typing import Any

from qtpy.QtCore import QObject, QTimer

MINUTES = 1.0
DELAY = 1500  # milliseconds; lets the window appear before it gets busy
PLUGIN = "napari-recon"


def run_demo(minutes: float = MINUTES, sample: str = "nucleus") -> None:
    """Open napari, train for about a minute, denoise, and show both; returns when the window is closed.

    Parameters
    ----------
    minutes : float
        Time to train.
    sample : str
        Key of one of the sample images that ship with the plugin.
    """
    import napari

    viewer = napari.Viewer(title="napari-recon demo")
    viewer.open_sample(PLUGIN, sample)
    Demo(viewer, minutes)
    napari.run()


class Demo(QObject):
    """The steps of the demonstration, each begun when the one before it has ended; lives as long as its Train panel."""

    def __init__(self, viewer: Any, minutes: float) -> None:
        super().__init__()
        self.viewer = viewer
        self.noisy = viewer.layers.selection.active
        _, self.train = viewer.window.add_plugin_dock_widget(PLUGIN, "Train")
        self.setParent(self.train)  # neither a timer nor a signal keeps whom it calls
        self.train.form.budget.setCurrentText("minutes")
        self.train.form.amount.setValue(minutes)
        self.train.form.sources.layers.check([self.noisy])
        QTimer.singleShot(DELAY, self._begin)

    def _begin(self) -> None:
        self.train.controls.job_ended.connect(self._denoise)
        self.train.controls.run()

    def _denoise(self) -> None:
        self.train.controls.job_ended.disconnect(self._denoise)
        if self.train.result is None:
            return  # it failed, and the notification says why
        self.train.use.click()
        panel = self.viewer.window.dock_widgets[f"Denoise ({PLUGIN})"]
        panel.layer.choose(self.noisy)
        panel.controls.job_ended.connect(self._show_both)
        panel.controls.run()

    def _show_both(self) -> None:
        for layer in self.viewer.layers:
            layer.visible = layer is self.noisy or layer.name == f"{self.noisy.name} [denoised]"
        self.viewer.grid.enabled = True
        self.viewer.reset_view()


if __name__ == "__main__":
    run_demo()
