"""Options of training that all families share, and the presets of each family."""

from dataclasses import dataclass

from napari_recon.config import Config, option
from napari_recon.errors import ReconError


@dataclass(frozen=True)
class TrainConfig(Config):
    """Options of the training loop."""

    steps: int | None = option(None, "Steps", "Number of optimizer steps; leave empty to train for a time.", minimum=1)
    minutes: float | None = option(
        None, "Minutes", "Time to train for; leave empty to train for a number of steps.", minimum=0.001
    )
    batch_size: int = option(16, "Batch size", "Patches per step, of all processes together.", minimum=1, maximum=1024)
    patch_size: int = option(64, "Patch size", "Side of a training patch in pixels.", minimum=8, maximum=1024)
    learning_rate: float = option(4e-4, "Learning rate", "Size of a step at its largest.", minimum=1e-7, maximum=1)
    schedule: str = option(
        "cosine",
        "Schedule",
        "cosine: falls to zero over the budget. plateau: halves when validation stops improving.",
        choices=("cosine", "plateau"),
    )
    ema_decay: float = option(
        0.999, "Averaging", "Decay of the running average of the weights that is kept.", minimum=0, maximum=0.99999
    )
    gradient_clip: float = option(1.0, "Gradient clip", "Largest norm of the gradient.", minimum=1e-6)
    validation_fraction: float = option(
        0.1, "Held out", "Share of the image held out to watch progress.", minimum=0, maximum=0.5
    )
    validate_every: int = option(100, "Validate every", "Steps between two validations.", minimum=1)
    seed: int = option(0, "Seed", "The same seed gives the same model.", minimum=0)
    precision: str = option(
        "auto",
        "Precision",
        "auto: bfloat16 where the machine has arithmetic for it, which is faster.",
        choices=("auto", "float32", "bfloat16"),
    )
    devices: int = option(1, "Devices", "Processes or GPUs on each machine.", minimum=1)
    nodes: int = option(1, "Nodes", "Machines.", minimum=1)
    autosave_seconds: float = option(
        60.0, "Autosave", "Seconds between two saved states, from which training can resume.", minimum=1
    )

    def __post_init__(self) -> None:
        """Check that there is one budget at most."""
        super().__post_init__()
        if self.steps is not None and self.minutes is not None:
            raise ReconError("Both steps and minutes are given.", "Give one budget.")


# What a preset changes; the budget is in minutes because that is what a user has.
PRESETS: dict[str, dict[str, float]] = {
    "fast": {"minutes": 2.0},
    "balanced": {"minutes": 15.0},
    "best": {"minutes": 120.0},
}


def train_config(preset: str, **options: object) -> TrainConfig:
    """Make a config from a preset; an explicit budget replaces that of the preset."""
    if preset not in PRESETS:
        raise ReconError(f"There is no preset {preset!r}.", f"Choose one of: {', '.join(PRESETS)}.")
    values: dict[str, object] = dict(PRESETS[preset])
    if options.get("steps") is not None or options.get("minutes") is not None:
        values = {}
    return TrainConfig(**{**values, **options})  # type: ignore[arg-type]
