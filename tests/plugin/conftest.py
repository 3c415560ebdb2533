"""A napari of its own for each test, which must leave no thread, no window and no job behind."""

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QCoreApplication, QEvent
from qtpy.QtWidgets import QApplication

from napari_recon.library import models_folder
from napari_recon.plugin._session import session

PATIENCE = 60_000  # milliseconds; the first import of torch is among what is waited for
SIZE = 48


@pytest.fixture(autouse=True)
def leaves_nothing_behind(qtbot, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_RECON_HOME", str(tmp_path / "home"))
    before = set(QApplication.topLevelWidgets())
    yield
    # Not told to stop: what the test closed must end by itself.
    qtbot.waitUntil(lambda: not job_threads(), timeout=PATIENCE)
    session().deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    QApplication.processEvents()
    left = [w for w in QApplication.topLevelWidgets() if w not in before and _is_ours(w)]
    assert left == []


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


@pytest.fixture(scope="session")
def trained_model(tmp_path_factory):
    """Train the smallest model there is, once."""
    from napari_recon.api import train

    options = {"features": 4, "depth": 1, "patch_size": 16, "batch_size": 2, "steps": 2}
    model = train("autoencoder", noisy_image((SIZE, SIZE)), **options)
    return model.save(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def tiny_model(trained_model, leaves_nothing_behind):
    """The smallest model, in the user's folder."""
    models_folder().mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(trained_model, models_folder() / "tiny.safetensors"))


@pytest.fixture
def open_panel(viewer):
    def open_panel(name):
        return viewer.window.add_plugin_dock_widget("napari-recon", name)[1]

    return open_panel


@pytest.fixture
def problems(monkeypatch):
    """What the user was told is wrong, as napari's notifications."""
    from napari.utils.notifications import notification_manager

    seen = []
    notification_manager.notification_ready.connect(seen.append)
    yield seen
    notification_manager.notification_ready.disconnect(seen.append)


def noisy_image(shape, dtype="uint16"):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    clean = 300 + 200 * np.sin(y / 5) * np.cos(x / 7)
    return rng.poisson(np.broadcast_to(clean, shape)).astype(dtype)


def job_threads():
    return [t for t in threading.enumerate() if t.name.startswith("napari-recon")]


def wait_for_job(qtbot, panel):
    qtbot.waitUntil(lambda: panel.controls.job is None, timeout=PATIENCE)


def _is_ours(widget):
    return type(widget).__module__.startswith("napari_recon")
