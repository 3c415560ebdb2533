"""Does memory grow with use? 200 predictions and 20 tiny trainings in one process, against the first few.

``python benchmarks/no_creep.py [--device cuda]``; needs no napari.
"""

from __future__ import annotations

import argparse
import gc
from typing import Any

import numpy as np
import psutil
import torch
from _common import report

from napari_recon import denoise, load_model, train

PREDICTIONS, TRAININGS = 200, 20
SIZES, TRAINING_SIZES = 9, 5  # of the images; oneDNN and torch keep something for each
FIRST = (20, TRAINING_SIZES)  # every size was met: after these nothing more should come
LIMIT = 0.05
OPTIONS = {"features": 8, "depth": 2, "patch_size": 32, "batch_size": 4, "steps": 20, "validate_every": 10}


def use(predictions: int, trainings: int, device: str) -> None:
    """Predict and train on images of changing sizes, as a user's are."""
    rng = np.random.default_rng(0)
    universal = load_model("universal")
    for i in range(predictions):
        side = 64 + 8 * (i % SIZES)
        denoise(rng.poisson(100, (side, 96)).astype(np.uint16), universal, device=device)
    for i in range(trainings):
        noisy = rng.poisson(100, (64 + 8 * (i % TRAINING_SIZES), 80)).astype(np.uint16)
        model = train("autoencoder", noisy, seed=i, device=device, **OPTIONS)
        denoise(noisy, model, device=device)


def memory(device: str) -> dict[str, float]:
    """Return what is held now, in MB."""
    gc.collect()
    held: dict[str, Any] = {"resident": psutil.Process().memory_info().rss / 2**20}
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        held["on the GPU"] = torch.cuda.memory_reserved() / 2**20
    return held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    use(*FIRST, device)
    before = memory(device)
    rows: list[dict[str, Any]] = [{"after": f"{FIRST[0]} predictions, {FIRST[1]} trainings", **before}]
    for _ in range(4):
        use(PREDICTIONS // 4, TRAININGS // 4, device)
        rows.append({"after": f"{PREDICTIONS // 4}, {TRAININGS // 4} more", **memory(device)})
    grown = {key: rows[-1][key] / before[key] - 1 for key in before if before[key]}
    rows.append({"after": "grown", **grown})
    report("no_creep", rows)
    print("within 5 %:", all(g <= LIMIT for g in grown.values()))


if __name__ == "__main__":
    main()
