"""Megapixels a second of prediction with the blind-spot U-Net (depth 2, 32 features) and the universal denoiser.

`api.denoise` with everything around the network against the bare network in plain float32 PyTorch, in turns.
"""

import statistics
import time

import numpy as np
import torch
from _common import report

from napari_recon import api
from napari_recon.checkpoint import TrainedModel
from napari_recon.data.normalization import Normalization
from napari_recon.models import MODELS

SIDE, ROUNDS = 2048, 5


def main() -> None:
    """Time both in turns."""
    family = MODELS["autoencoder"]
    torch.manual_seed(0)
    network = family.build(family.config()).eval()
    model = TrainedModel("autoencoder", family.config(), network.state_dict(), Normalization((0.0,), (1.0,)))
    image = np.random.default_rng(0).normal(100, 10, (SIDE, SIDE)).astype(np.float32)
    tensor = torch.from_numpy(image)[None, None]

    def plain() -> None:
        with torch.inference_mode():
            network(tensor)

    jobs = {"ours": lambda: api.denoise(image, model), "plain": plain, "universal": lambda: api.denoise(image)}
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for job in jobs.values():
        job()
    for _ in range(ROUNDS):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            times[name].append(time.perf_counter() - start)
    pixels = SIDE * SIDE / 1e6
    ratio = statistics.median(p / o for o, p in zip(times["ours"], times["plain"], strict=True))
    rows = [
        {"method": "napari-recon, blind-spot U-Net", "megapixels a second": pixels / statistics.median(times["ours"])},
        {"method": "the same in plain float32", "megapixels a second": pixels / statistics.median(times["plain"])},
        {"method": "napari-recon, universal", "megapixels a second": pixels / statistics.median(times["universal"])},
    ]
    rows[0]["speed"], rows[1]["speed"] = ratio, 1.0
    report("speed_prediction", rows)


if __name__ == "__main__":
    main()
