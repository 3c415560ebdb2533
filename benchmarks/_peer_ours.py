"""Our side of `compare_peers.py`: train, predict or multiply matrices by turns, and count the arithmetic."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from _turns import StepClock, rounds, tell
from torch.utils.flop_counter import FlopCounterMode

from napari_recon import api
from napari_recon.data.patches import Batch
from napari_recon.device import choose_precision
from napari_recon.models import MODELS
from napari_recon.progress import CancelToken
from napari_recon.training.steps import STEPS

WARM_UP = 4
MATRIX = 1536


class Clock(CancelToken):
    """Times the steps of our training loop, which asks before each whether to go on."""

    def __init__(self, clock: StepClock) -> None:
        super().__init__()
        self.clock = clock

    @property
    def cancelled(self) -> bool:
        """Note a step."""
        return self.clock.done or not self.clock.tick()


def options_of(options: argparse.Namespace) -> dict[str, int]:
    """What is equal for both."""
    return {"depth": options.depth, "features": options.features}


def train(options: argparse.Namespace) -> None:
    """Time the steps of `api.train`."""
    clock = Clock(StepClock(WARM_UP, options.steps))
    api.train(
        "autoencoder",
        np.load(options.image),
        start_from=None,
        steps=1_000_000,
        batch_size=options.batch,
        patch_size=options.patch,
        cancel=clock,
        **options_of(options),
    )


def predict(options: argparse.Namespace) -> None:
    """Time `api.denoise`, with a model hardly trained and with the universal one."""
    image = np.load(options.image)
    if options.universal:
        model = api.load_model("universal")
    else:
        model = api.train("autoencoder", image[:512, :512], start_from=None, steps=4, **options_of(options))
    _by_turns(lambda: api.denoise(image, model))


def peak(options: argparse.Namespace) -> None:
    """Time products of matrices in the given precision."""
    a, b = (torch.randn(MATRIX, MATRIX).to(getattr(torch, options.dtype)) for _ in range(2))
    _by_turns(lambda: torch.matmul(a, b), times=5)


def _by_turns(job: Callable[[], object], times: int = 1) -> None:
    def once() -> float:
        start = time.perf_counter()
        job()
        return time.perf_counter() - start

    once()
    tell(ready=True)
    for _ in rounds():
        tell(seconds=[once() for _ in range(times)])


def count(options: argparse.Namespace) -> None:
    """Count the floating-point operations of a training step, and of a pixel in prediction."""
    config = MODELS["autoencoder"].config(**options_of(options))
    network = MODELS["autoencoder"].build(config)
    step = STEPS["autoencoder"](config, network, False)
    batch = Batch(torch.randn(options.batch, 1, options.patch, options.patch))
    with FlopCounterMode(display=False) as training:
        for _, loss in step.losses(batch, torch.Generator().manual_seed(0), 0.0):
            loss.backward()
    with FlopCounterMode(display=False) as prediction, torch.no_grad():
        network.eval()(torch.randn(1, 1, 512, 512))
    dtype = str(choose_precision(torch.device("cpu"))).removeprefix("torch.")
    tell(step=training.get_total_flops(), pixel=prediction.get_total_flops() / 512**2, precision=dtype)


def main() -> None:
    """Do one of them."""
    jobs = {"train": train, "predict": predict, "peak": peak, "count": count}
    parser = argparse.ArgumentParser()
    parser.add_argument("job", choices=jobs)
    parser.add_argument("image", type=Path)
    for name in ("depth", "features", "batch", "patch", "steps", "tile"):
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--universal", action="store_true")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    jobs[options.job](options)


if __name__ == "__main__":
    main()
