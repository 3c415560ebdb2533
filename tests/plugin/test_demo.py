"""The demonstration runs by itself from the noisy sample to both layers side by side."""

from napari_recon.plugin.demo import Demo

from .conftest import PATIENCE


def test_demo_trains_denoises_and_shows_both(viewer, qtbot):
    viewer.open_sample("napari-recon", "nucleus")
    demo = Demo(viewer, minutes=0.1)
    qtbot.waitUntil(lambda: viewer.grid.enabled, timeout=PATIENCE)
    assert [layer.name for layer in viewer.layers if layer.visible] == ["Nucleus, noisy", "Nucleus, noisy [denoised]"]
    assert demo.train.result.model.provenance["steps"] > 0
