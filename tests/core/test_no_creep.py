"""Memory does not grow with use."""

import gc

import numpy as np
import psutil
import torch

from napari_recon import denoise, train

PREDICTIONS, TRAININGS = 200, 20
OPTIONS = {
    "features": 4, "depth": 1, "patch_size": 16, "batch_size": 2, "steps": 3, "device": "cpu", "precision": "float32",
}  # fmt: skip


def use(predictions, trainings):
    rng = np.random.default_rng(0)
    noisy = rng.poisson(100, (3, 48, 64)).astype(np.uint16)
    for i in range(trainings):
        model = train("autoencoder", noisy, axes="TYX", seed=i, **OPTIONS)
    for i in range(predictions):
        denoise(noisy[:, : 32 + i % 16], model, axes="TYX", device="cpu", precision="float32")


def resident():
    gc.collect()
    return psutil.Process().memory_info().rss


def test_memory_after_many_runs_is_that_after_the_first():
    use(20, 3)
    before = resident()
    use(PREDICTIONS, TRAININGS)
    assert resident() < 1.05 * before


def test_no_network_outlives_its_model():
    use(2, 1)
    gc.collect()
    before = sum(issubclass(type(x), torch.nn.Module) for x in gc.get_objects())
    use(4, 3)
    gc.collect()
    assert sum(issubclass(type(x), torch.nn.Module) for x in gc.get_objects()) == before
