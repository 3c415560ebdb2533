"""The demonstration runs by itself from the noisy sample to both layers side by side."""

import gc

from napari_recon.plugin.demo import Demo

from .conftest import PATIENCE


def test_demo_trains_denoises_and_shows_both(viewer, qtbot):
    viewer.open_sample("napari-recon", "nucleus")
    train = Demo(viewer, minutes=0.1).train  # nobody holds the demo itself, as in `make demo`
    gc.collect()
    qtbot.waitUntil(lambda: viewer.grid.enabled, timeout=PATIENCE)
    assert [layer.name for layer in viewer.layers if layer.visible] == ["Nucleus, noisy", "Nucleus, noisy [denoised]"]
    assert train.result.model.provenance["steps"] > 0
