"""CAREamics' side of `compare_peers.py`, run with the Python of its own environment: train or predict, by turns.

N2V2 as its documentation makes it, with the network's size, batch and patch that are compared; the rest is its default.
"""

import argparse
import logging
import tempfile
import time
from pathlib import Path

import numpy as np
from _turns import StepClock, rounds, tell
from careamics import CAREamist
from careamics.config import create_advanced_n2v_config
from lightning.pytorch.callbacks import Callback

WARM_UP = 4


class Clock(Callback):
    """Times the steps of Lightning's training loop; what happens between its epochs is not counted."""

    def __init__(self, clock: StepClock) -> None:
        self.clock = clock

    def on_train_batch_end(self, trainer, *args) -> None:  # type: ignore[no-untyped-def]
        """Note a step."""
        if not self.clock.tick():
            trainer.should_stop = True

    def on_train_epoch_end(self, *args) -> None:  # type: ignore[no-untyped-def]
        """Leave out validation and saving."""
        self.clock.pause()


def make(options: argparse.Namespace, epochs: int, folder: str, callbacks: list[Callback]) -> CAREamist:
    """Its object for all work."""
    config = create_advanced_n2v_config(
        experiment_name="peer",
        data_type="array",
        axes="YX",
        patch_size=[options.patch, options.patch],
        batch_size=options.batch,
        num_epochs=epochs,
        use_n2v2=True,
        model_params={"depth": options.depth, "num_channels_init": options.features},
        trainer_params={"accelerator": "cpu", "enable_model_summary": False},
    )
    return CAREamist(config, work_dir=folder, callbacks=callbacks, enable_progress_bar=False)


def main() -> None:
    """Do one of the two."""
    parser = argparse.ArgumentParser()
    parser.add_argument("job", choices=("train", "predict"))
    parser.add_argument("image", type=Path)
    for name in ("depth", "features", "batch", "patch", "steps", "tile"):
        parser.add_argument(f"--{name}", type=int, default=0)
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    image = np.load(options.image)
    with tempfile.TemporaryDirectory() as folder:
        if options.job == "train":
            clock = StepClock(WARM_UP, options.steps)
            make(options, 10_000, folder, [Clock(clock)]).train(train_data=image)
            return
        peer = make(options, 1, folder, [])
        peer.train(train_data=image[:512, :512])
        tiles = {"tile_size": (options.tile, options.tile), "tile_overlap": (48, 48)} if options.tile else {}

        def predict() -> float:
            start = time.perf_counter()
            peer.predict(image, batch_size=1, num_workers=0, **tiles)
            return time.perf_counter() - start

        predict()
        tell(ready=True)
        for _ in rounds():
            tell(seconds=[predict()])


if __name__ == "__main__":
    main()
