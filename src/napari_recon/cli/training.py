"""`napari-recon train FAMILY`: one command for every family in the registry, its flags made from its config."""

import dataclasses
import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from napari_recon.cli._common import Axes, Device, Progress, print_json, stop_on_interrupt
from napari_recon.config import Config
from napari_recon.errors import Cancelled
from napari_recon.io._files import check_writable
from napari_recon.models import MODELS
from napari_recon.training.config import TrainConfig


def flags(*configs: type[Config]) -> type:
    """Make a dataclass of optional command-line flags from the options of configs."""
    fields: list[tuple[str, Any, Any]] = []
    for option in itertools.chain.from_iterable(c.options() for c in configs):
        default = "chosen by the preset" if option.name in ("steps", "minutes") else f"default {option.default}"
        choices = f" One of: {', '.join(map(str, option.choices))}." if option.choices else ""
        help_text = f"{option.help}{choices} ({default})"
        hint = option.type | None
        negative = None if option.default is True else ()  # --no-NAME where it is of use
        annotated = Annotated[hint, Parameter(help=help_text, negative=negative)]  # type: ignore[valid-type]
        fields.append((option.name, annotated, dataclasses.field(default=None)))
    # cyclopts takes apart only classes that belong to a module of their own.
    return dataclasses.make_dataclass("Options", fields, frozen=True, namespace={"__module__": __name__})


def train_command(family: str) -> Callable[..., None]:
    """Make the command that trains a family."""
    options_of_family = flags(TrainConfig, MODELS[family].config)

    def train(
        images: list[Path],
        /,
        *,
        out: Path,
        target: Annotated[list[Path] | None, Parameter(consume_multiple=True, negative=())] = None,
        preset: str = "fast",
        start_from: Annotated[
            str, Parameter(help="Model to go on from; auto: the universal denoiser where it fits; none: fresh weights.")
        ] = "auto",
        axes: Axes = None,
        device: Device = "auto",
        resume: Annotated[bool, Parameter(help="Go on with a training that was interrupted.", negative=())] = False,
        options: Annotated[options_of_family | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
    ) -> None:
        """Train a model of one family.

        Parameters
        ----------
        images
            Images to learn from.
        out
            Model file to write.
        target
            What each image should become, in the same order.
        preset
            fast (2 minutes), balanced (15) or best (120).
        """
        values = dataclasses.asdict(options) if options else {}
        more = {"start_from": None if start_from == "none" else start_from, "preset": preset, "device": device}
        _train(family, images, target, out, axes, resume, values | more)

    return train


def _train(
    family: str,
    images: list[Path],
    target: list[Path] | None,
    out: Path,
    axes: str | None,
    resume: bool,
    options: dict[str, Any],
) -> None:
    from lightning_fabric.utilities import rank_zero_only

    from napari_recon import api

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it logs how it starts, at every start
    check_writable(out)
    out = out if out.suffix == ".safetensors" else out.with_name(out.name + ".safetensors")
    check_writable(out)
    with stop_on_interrupt() as cancel, Progress() as progress:
        model = api.train(
            family,
            [api.read_image(p, axes=axes) for p in images],
            [api.read_image(p, axes=axes) for p in target] if target else None,
            checkpoint=out.with_suffix(".resume"),
            resume=resume,
            on_progress=progress,
            cancel=cancel,
            **options,
        )
    if getattr(rank_zero_only, "rank", 0):
        return  # one of several processes: the first has the same model and writes it
    model.name = out.stem
    model.save(out)
    print_json(_summary(model.describe()))
    if model.stopped:
        steps = model.provenance["steps"]
        raise Cancelled(f"Stopped after {steps} steps; {out} holds the model so far. Go on with --resume.")


def _summary(description: dict[str, Any]) -> dict[str, Any]:
    """The description of a model without its loss curves."""
    provenance = {k: v for k, v in description["provenance"].items() if not k.endswith("_loss")}
    return {**description, "provenance": provenance}


train_app = App(name="train", help="Train a model on your own images.")
for name in MODELS:
    train_app.command(train_command(name), name=name, help=MODELS[name].summary)
