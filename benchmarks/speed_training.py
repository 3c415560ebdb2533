"""Milliseconds a training step of the blind-spot U-Net (16 patches of 64 x 64, depth 2, 32 features).

Ours (bfloat16 where the machine has it, channels last, fused Adam, the last block around hidden pixels alone) against
the same network and batch in plain float32 PyTorch, in turns within one run.
"""

import statistics
import time

import torch
from _common import report
from torch import Tensor

from napari_recon.data.masking import hide_pixels
from napari_recon.device import choose_precision
from napari_recon.models import MODELS
from napari_recon.models._blocks import channels_last

ROUNDS, STEPS = 7, 10


class Trainer:
    """One way to take training steps."""

    def __init__(self, fast: bool) -> None:
        torch.manual_seed(0)
        self.fast = fast
        family = MODELS["autoencoder"]
        self.network = family.build(family.config())
        self.dtype = torch.float32
        if fast:
            self.network = channels_last(self.network)
            self.dtype = choose_precision(torch.device("cpu"))
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=4e-4, fused=fast)
        self.rng = torch.Generator().manual_seed(0)

    def step(self, patches: Tensor) -> None:
        """Hide pixels, predict them, and update the network."""
        hidden, mask = hide_pixels(patches, self.rng, fraction=0.02)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            if self.fast:
                answer = self.network(hidden, mask[:, 0].nonzero())[:, 0]
            else:
                answer = self.network(hidden)[mask.bool()]
        loss = (answer.float() - patches[mask.bool()]).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def milliseconds(self, patches: Tensor) -> float:
        """Time some steps; milliseconds of one."""
        start = time.perf_counter()
        for _ in range(STEPS):
            self.step(patches)
        return (time.perf_counter() - start) / STEPS * 1000


def main() -> None:
    """Time both in turns."""
    patches = torch.randn(16, 1, 64, 64)
    ours, plain = Trainer(fast=True), Trainer(fast=False)
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    for trainer in (ours, plain):
        trainer.milliseconds(patches)  # warm-up
    for _ in range(ROUNDS):
        for name, trainer in (("ours", ours), ("plain", plain)):
            times[name].append(trainer.milliseconds(patches))
    ratio = statistics.median(p / o for o, p in zip(times["ours"], times["plain"], strict=True))
    report(
        "speed_training",
        [
            {"method": f"napari-recon ({ours.dtype})", "ms a step": statistics.median(times["ours"]), "speed": ratio},
            {"method": "plain float32 PyTorch", "ms a step": statistics.median(times["plain"]), "speed": 1.0},
        ],
    )


if __name__ == "__main__":
    main()
