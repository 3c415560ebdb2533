"""What many tests need: a small noisy picture with its truth, and options that train in a moment."""

import numpy as np
import pytest
from hypothesis import settings

from napari_recon import api
from napari_recon.data.phantoms import nuclei

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def phantom():
    """(noisy, clean): float32, 48 x 48, nuclei with Gaussian noise."""
    rng = np.random.default_rng(0)
    clean = nuclei((48, 48), rng) * 100 + 20
    return (clean + rng.normal(0, 20, clean.shape)).astype(np.float32), clean.astype(np.float32)


@pytest.fixture(scope="session")
def tiny():
    """Options of a network and a training of well under a second, alike on every machine."""
    return {
        "features": 4, "depth": 1, "patch_size": 16, "batch_size": 4,
        "steps": 6, "validate_every": 3, "validation_fraction": 0.25, "precision": "float32",
    }  # fmt: skip


@pytest.fixture(scope="session")
def trained(phantom, tiny):
    """A model for pictures of one channel; not to be changed."""
    return api.train("autoencoder", phantom[0], **tiny)


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    """Keep the models of the one who runs the tests out of them."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("NAPARI_RECON_HOME", str(folder))
    return folder
