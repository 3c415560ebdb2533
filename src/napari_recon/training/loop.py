"""The training loop, shared by all families.

One visible loop on Lightning Fabric: draw patches, compute each player's loss, update it, average the weights, and now
and then validate, show a preview and save a state from which the very same run can go on.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from napari_recon.data.patches import PatchSampler
from napari_recon.device import choose_precision
from napari_recon.errors import ReconError
from napari_recon.models._blocks import channels_last
from napari_recon.progress import CancelToken, ProgressCallback, Reporter
from napari_recon.training.config import TrainConfig
from napari_recon.training.state import load_state, save_state
from napari_recon.training.steps import Step

logger = logging.getLogger(__name__)

MAX_BAD_STEPS = 50  # in a row: then the run has diverged and only a lower learning rate can help


@dataclass
class History:
    """What happened in a run; kept in the model's provenance.

    `train` and `validation` hold pairs (step, loss).
    """

    step: int = 0
    seconds: float = 0.0
    skipped: int = 0
    best_step: int = 0
    best_loss: float = math.inf
    train: list[tuple[int, float]] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    plateau_scale: float = 1.0
    stale: int = 0  # validations since the last improvement


@dataclass(frozen=True)
class FitResult:
    """Weights to keep, and how they came about."""

    weights: dict[str, Tensor]
    history: History
    stopped: bool
    precision: str


def fit(
    step: Step,
    sampler: PatchSampler,
    config: TrainConfig,
    *,
    state_path: Path | None = None,
    resume: bool = False,
    preview: Callable[[nn.Module], Any] | None = None,
    on_progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> FitResult:
    """Train the players of `step` on patches of `sampler`.

    Parameters
    ----------
    step : Step
        The family's losses and networks.
    sampler : PatchSampler
        Source of patches, on the device that trains.
    config : TrainConfig
        Budget, optimizer and the rest.
    state_path : Path, optional
        Where to save the state of the run every ``config.autosave_seconds``, and at the end of a stopped run.
    resume : bool
        Go on from `state_path`.
    preview : callable, optional
        Makes a picture with the averaged network, for the progress events.

    Returns
    -------
    FitResult
        When `cancel` asks to stop, the weights so far with ``stopped=True``.

    Raises
    ------
    ReconError
        When training diverges, or `resume` finds no state of such a run.
    """
    run = _Run(step, sampler, config, preview, on_progress)
    if resume:
        if state_path is None or not state_path.exists():
            raise ReconError("There is no interrupted training to resume.", "Start it without resume.")
        run.restore(load_state(state_path))
    stopped = False
    while not run.finished():
        if cancel is not None and cancel.cancelled:
            stopped = True
            break
        run.advance()
        if state_path is not None and run.autosave_due():
            run.save(state_path)
    run.finish()
    if state_path is not None and run.fabric.is_global_zero:
        if stopped:
            run.save(state_path)
        else:
            state_path.unlink(missing_ok=True)
    return FitResult(run.weights_to_keep(), run.history, stopped, run.precision)


class _Run:
    """The state of one training run."""

    def __init__(
        self,
        step: Step,
        sampler: PatchSampler,
        config: TrainConfig,
        preview: Callable[[nn.Module], Any] | None,
        on_progress: ProgressCallback | None,
    ) -> None:
        self.config, self.sampler, self.step, self.preview = config, sampler, step, preview
        device = sampler.device
        self.precision = "bf16-mixed" if choose_precision(device, config.precision) == torch.bfloat16 else "32-true"
        self.fabric = Fabric(
            accelerator=device.type,
            devices=config.devices if config.devices > 1 or device.index is None else [device.index],
            num_nodes=config.nodes,
            precision=self.precision,  # type: ignore[arg-type]
        )
        self.fabric.launch()
        self.rng = torch.Generator().manual_seed(config.seed + 1000 * self.fabric.global_rank)
        self.average = channels_last(copy.deepcopy(step.players["network"]).to(device)).requires_grad_(False)
        self.optimizers: dict[str, Any] = {}
        for name, player in step.players.items():
            channels_last(player.to(device))
            optimizer = torch.optim.Adam(player.parameters(), lr=config.learning_rate, fused=True)
            step.players[name], self.optimizers[name] = self.fabric.setup(player, optimizer)
        self.history = History()
        self.best: dict[str, Tensor] | None = None
        self.validation = sampler.validation()
        self._reporter = Reporter(on_progress, "train")
        self._began = self._saved = time.monotonic()
        self._bad_in_a_row = 0
        self._recent: list[float] = []

    def progress(self) -> float:
        """Share of the budget that is used, 0 to 1."""
        if self.config.minutes is not None:
            return min(self._elapsed() / (60 * self.config.minutes), 1.0)
        return self.history.step / (self.config.steps or 1)

    def finished(self) -> bool:
        over: bool = self.fabric.broadcast(self.progress() >= 1.0)  # clocks differ between processes
        return over

    def _elapsed(self) -> float:
        return self.history.seconds + time.monotonic() - self._began

    def advance(self) -> None:
        """Make one step; validate when it is time."""
        rate = self._learning_rate()
        batch = self.sampler.draw(self.config.batch_size, self.rng)
        total = 0.0
        for name, loss in self.step.losses(batch, self.rng):
            total += self._update(name, loss, rate)
        if not math.isfinite(total):
            self.history.skipped += 1
            self._bad_in_a_row += 1
            if self._bad_in_a_row >= MAX_BAD_STEPS:
                raise ReconError(
                    f"Training diverged: {MAX_BAD_STEPS} steps in a row gave no finite loss.",
                    "Lower the learning rate, or look for extreme pixel values in the data.",
                )
        else:
            self._bad_in_a_row = 0
            self._recent.append(total)
        self.history.step += 1
        self._update_average()
        if self.history.step % self.config.validate_every == 0:
            self._validate()
        else:
            self._reporter.update(self.history.step, eta=self._eta(), values=self._values())

    def _update(self, name: str, loss: Tensor, rate: float) -> float:
        """Take one optimizer step, unless the loss or its gradient is not finite."""
        player, optimizer = self.step.players[name], self.optimizers[name]
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        self.fabric.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(player.parameters(), self.config.gradient_clip)
        if not torch.isfinite(norm + loss.detach()):
            optimizer.zero_grad()
            return math.nan
        optimizer.step()
        return float(loss.detach())

    def _learning_rate(self) -> float:
        warm_up = min(1.0, (self.history.step + 1) / 100)
        if self.config.schedule == "plateau":
            return self.config.learning_rate * warm_up * self.history.plateau_scale
        return self.config.learning_rate * warm_up * 0.5 * (1 + math.cos(math.pi * self.progress()))

    @torch.no_grad()
    def _update_average(self) -> None:
        # A short memory at first: the average of a young network should not remember its birth.
        step = self.history.step
        decay = min(self.config.ema_decay, step / (step + 10))
        torch._foreach_lerp_(
            list(self.average.parameters()), list(self.step.players["network"].parameters()), 1 - decay
        )

    @torch.no_grad()
    def _validate(self) -> None:
        history = self.history
        recent = sum(self._recent) / len(self._recent) if self._recent else math.nan
        self._recent.clear()
        history.train.append((history.step, recent))
        values = {"train": recent}
        if self.validation:
            rng = torch.Generator().manual_seed(0)  # the same hidden pixels each time
            with self.fabric.autocast():
                losses = [self.step.validation_loss(self.average, b, rng) for b in self.validation]
            loss = float(torch.stack([x.float() for x in losses]).mean())
            history.validation.append((history.step, loss))
            self._note_best(loss)
            values |= {"validation": loss, "best_step": float(history.best_step)}
        shown = None
        if self.preview is not None:
            with self.fabric.autocast():
                shown = self.preview(self.average)
        self._reporter.update(history.step, eta=self._eta(), values=values, preview=shown, force=True)

    def _note_best(self, loss: float) -> None:
        history = self.history
        if loss < history.best_loss:
            history.best_loss, history.best_step, history.stale = loss, history.step, 0
            if self.step.keeps_best:
                self.best = _copy(self.average.state_dict())
            return
        history.stale += 1
        if history.stale >= 5:
            history.plateau_scale, history.stale = max(history.plateau_scale / 2, 1e-3), 0

    def _eta(self) -> float | None:
        done = self.progress()
        seconds = self._elapsed()
        if self.config.minutes is not None:
            return max(60 * self.config.minutes - seconds, 0.0)
        return seconds * (1 - done) / done if done > 0 else None

    def _values(self) -> dict[str, float]:
        return {"train": self._recent[-1]} if self._recent else {}

    def finish(self) -> None:
        """Validate a last time, so that the best weights can be the last."""
        if self.history.step and self.history.step % self.config.validate_every:
            self._validate()
        self.history.seconds = self._elapsed()
        self._began = time.monotonic()

    def weights_to_keep(self) -> dict[str, Tensor]:
        """The averaged weights: the best by validation where that can be trusted, else the last."""
        return self.best if self.best is not None else _copy(self.average.state_dict())

    def autosave_due(self) -> bool:
        return time.monotonic() - self._saved >= self.config.autosave_seconds

    def save(self, path: Path) -> None:
        """Write everything that the next step depends on."""
        self._saved = time.monotonic()
        if not self.fabric.is_global_zero:
            return
        history = asdict(self.history) | {"seconds": self._elapsed()}
        save_state(
            path,
            {
                "players": {n: p.state_dict() for n, p in self.step.players.items()},
                "optimizers": {n: o.state_dict() for n, o in self.optimizers.items()},
                "average": self.average.state_dict(),
                "best": self.best,
                "rng": self.rng.get_state(),
                "history": history,
                "recent": self._recent,
            },
        )

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `save` wrote."""
        try:
            for name, player in self.step.players.items():
                player.load_state_dict(state["players"][name])
                self.optimizers[name].load_state_dict(state["optimizers"][name])
            self.average.load_state_dict(state["average"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise ReconError(
                "The interrupted training used another network.", "Resume with the same options, or start anew."
            ) from error
        self.best = state["best"]
        self.rng.set_state(state["rng"])
        self.history = History(**state["history"])
        self._recent = list(state["recent"])


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.detach().cpu().clone() for k, v in state.items()}
