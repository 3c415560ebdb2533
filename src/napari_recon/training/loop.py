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
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from napari_recon.data.patches import Batch, PatchSampler
from napari_recon.errors import ReconError
from napari_recon.models._blocks import channels_last
from napari_recon.progress import CancelToken, ProgressCallback, Reporter
from napari_recon.training.config import TrainConfig
from napari_recon.training.state import save_state
from napari_recon.training.steps import Step

if TYPE_CHECKING:
    from lightning_fabric import Fabric

logger = logging.getLogger(__name__)

PREVIEW_SECONDS = 4.0
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
    fabric: Fabric,
    *,
    state_path: Path | None = None,
    state: dict[str, Any] | None = None,
    data: str = "",
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
    fabric : Fabric
        Launched; its processes train together.
    state_path : Path, optional
        Where to save the state of the run every ``config.autosave_seconds``, and at the end of a stopped run.
    state : dict, optional
        Go on from this one, of an interrupted run with the same options.
    data : str
        Describes the training data; a state of other data is refused.
    preview : callable, optional
        Makes a picture with the averaged network, for the progress events.

    Returns
    -------
    FitResult
        When `cancel` asks to stop, the weights so far with ``stopped=True``.

    Raises
    ------
    ReconError
        When training diverges, or `state` is of another run.
    """
    run = _Run(step, sampler, config, fabric, data, preview, on_progress)
    if state is not None:
        run.restore(state)
    while True:
        now = run.agree(cancel)
        stopped = now.stop and not now.finished
        # Before the last validation of a stopped run, which an unbroken run would not make.
        if state_path is not None and (stopped or now.save):
            run.save(state_path)
        if stopped or now.finished:
            break
        run.advance()
    run.finish(stopped)
    if state_path is not None and fabric.is_global_zero and not stopped:
        state_path.unlink(missing_ok=True)
    fabric.barrier()  # the state is in its place, or gone, for every process
    return FitResult(run.weights_to_keep(), run.history, stopped, run.precision)


class _Moment(NamedTuple):
    """What to do next; the first process decides for all, as clocks and stop buttons differ between them."""

    used: float
    stop: bool
    save: bool

    @property
    def finished(self) -> bool:
        return self.used >= 1.0


class _Run:
    """The state of one training run."""

    def __init__(
        self,
        step: Step,
        sampler: PatchSampler,
        config: TrainConfig,
        fabric: Fabric,
        data: str,
        preview: Callable[[nn.Module], Any] | None,
        on_progress: ProgressCallback | None,
    ) -> None:
        self.config, self.sampler, self.step, self.fabric = config, sampler, step, fabric
        first = fabric.is_global_zero
        self.data = data
        self.preview = preview if first else None
        self._reporter = Reporter(on_progress if first else None, "train")
        self.precision = str(fabric.strategy.precision.precision)
        device = sampler.device
        self.rng = torch.Generator().manual_seed(config.seed + 1000 * fabric.global_rank)
        self.average = channels_last(copy.deepcopy(step.players["network"]).to(device)).requires_grad_(False)
        self.optimizers: dict[str, Any] = {}
        for name, player in step.players.items():
            channels_last(player.to(device))
            optimizer = torch.optim.Adam(player.parameters(), lr=config.learning_rate, fused=True)
            step.players[name], self.optimizers[name] = self.fabric.setup(player, optimizer)
        self.history = History()
        self.best: dict[str, Tensor] | None = None
        self.validation = sampler.validation()
        self._began = self._saved = time.monotonic()
        self._bad_in_a_row = 0
        self._recent: list[float] = []
        self._used = 0.0
        self._next_preview = 0.0

    def _progress(self) -> float:
        """Share of the budget that is used, 0 to 1."""
        if self.config.minutes is not None:
            return min(self._elapsed() / (60 * self.config.minutes), 1.0)
        return self.history.step / (self.config.steps or 1)

    def agree(self, cancel: CancelToken | None) -> _Moment:
        """Ask the first process what all of them do next."""
        save = time.monotonic() - self._saved >= self.config.autosave_seconds
        stop = cancel is not None and cancel.cancelled
        now = _Moment(*self.fabric.broadcast((self._progress(), stop, save)))
        self._used = now.used
        return now

    def _elapsed(self) -> float:
        return self.history.seconds + time.monotonic() - self._began

    def advance(self) -> None:
        """Make one step; validate when it is time."""
        if self.history.step == 0 and self.step.keeps_best:
            self._validate()  # where it starts from can be the best there is
        rate = self._learning_rate()
        batch = self._draw()
        total = 0.0
        for name, loss in self.step.losses(batch, self.rng, self._used):
            total += self._update(name, loss, rate)
        if not math.isfinite(total):
            self.history.skipped += 1
            self._bad_in_a_row += 1
            if self._bad_in_a_row >= MAX_BAD_STEPS:
                raise _diverged(self._bad_in_a_row)
        else:
            self._bad_in_a_row = 0
            self._recent.append(total)
        self.history.step += 1
        self._update_average()
        message = ""
        if self._bad_in_a_row:
            message = f"step {self.history.step} gave no finite loss and was skipped ({self.history.skipped} so far)"
            logger.warning(message)
        if self.history.step % self.config.validate_every == 0:
            self._validate(message)
        else:
            self._report(self._values(), message=message)
        self._show_preview()

    def _draw(self) -> Batch:
        """Draw our share of the batch; the patches of a step are the same in however many processes."""
        rng = torch.Generator().manual_seed(((self.config.seed << 20) + self.history.step) % 2**63)
        processes = self.fabric.world_size
        count = max(self.config.batch_size, processes)
        return self.sampler.draw(count, rng, (self.fabric.global_rank, processes))

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
        # A hundred steps, or a twentieth of a budget that is shorter than it should be.
        warm_up = min(1.0, max((self.history.step + 1) / 100, 20 * self._used))
        if self.config.schedule == "plateau":
            return self.config.learning_rate * warm_up * self.history.plateau_scale
        return self.config.learning_rate * warm_up * 0.5 * (1 + math.cos(math.pi * self._used))

    @torch.no_grad()
    def _update_average(self) -> None:
        # A short memory at first: the average of a young network should not remember its birth.
        step = self.history.step
        decay = min(self.config.ema_decay, step / (step + 10))
        torch._foreach_lerp_(
            list(self.average.parameters()), list(self.step.players["network"].parameters()), 1 - decay
        )

    @torch.no_grad()
    def _validate(self, message: str = "") -> None:
        history = self.history
        values = {}
        if self._recent:
            values["train"] = sum(self._recent) / len(self._recent)
            history.train.append((history.step, values["train"]))
            self._recent.clear()
        if self.validation:
            rng = torch.Generator().manual_seed(0)  # the same hidden pixels each time
            with self.fabric.autocast():
                losses = [self.step.validation_loss(self.average, b, rng) for b in self.validation]
            loss = float(torch.stack([x.float() for x in losses]).mean())
            history.validation.append((history.step, loss))
            self._note_best(loss)
            values |= {"validation": loss, "best_step": float(history.best_step)}
        self._report(self.step.values | values, message=message or self.step.warning, force=True)

    @torch.no_grad()
    def _show_preview(self) -> None:
        """Make a picture every few seconds, and seldom enough that training hardly notices."""
        if self.preview is None or time.monotonic() < self._next_preview:
            return
        began = time.monotonic()
        shown = self.preview(self.average)
        now = time.monotonic()
        self._next_preview = now + max(PREVIEW_SECONDS, 10 * (now - began))
        self._report(self._values(), preview=shown, force=True)

    def _note_best(self, loss: float) -> None:
        history = self.history
        if history.step == 0:
            # What a run starts from gives way only to what is clearly better.
            loss -= self.step.least_gain(loss)
        if loss < history.best_loss:
            history.best_loss, history.best_step, history.stale = loss, history.step, 0
            if self.step.keeps_best:
                self.best = _copy(self.average.state_dict())
            return
        history.stale += 1
        if history.stale >= 5:
            history.plateau_scale, history.stale = max(history.plateau_scale / 2, 1e-3), 0

    def _report(self, values: dict[str, float], **more: Any) -> None:
        used, seconds = self._progress(), self._elapsed()
        # A budget in minutes is told in steps too, by the pace so far.
        step = self.history.step
        self._reporter.total = self.config.steps or (max(round(step / used), step) if used > 0 else 0)
        self._reporter.update(step, eta=seconds * (1 - used) / used if step else None, values=values, **more)

    def _values(self) -> dict[str, float]:
        return self.step.values | ({"train": self._recent[-1]} if self._recent else {})

    def finish(self, stopped: bool) -> None:
        """Validate a last time, so that the best weights can be the last; a user who stops is not kept waiting."""
        if self.history.step and self.history.skipped == self.history.step:
            raise _diverged(self.history.step)
        if self.history.step % self.config.validate_every and not stopped:
            self._validate()
        self.history.seconds = self._elapsed()
        self._began = time.monotonic()

    def weights_to_keep(self) -> dict[str, Tensor]:
        """The averaged weights: the best by validation where that can be trusted, else the last."""
        return self.best if self.best is not None else _copy(self.average.state_dict())

    def save(self, path: Path) -> None:
        """Write everything that the next step depends on; a full disk is told, and ends nothing."""
        self._saved = time.monotonic()
        rngs: Any = self.fabric.all_gather(self.rng.get_state())
        if not self.fabric.is_global_zero:
            return
        history = asdict(self.history) | {"seconds": self._elapsed()}
        state = {
            "players": {n: p.state_dict() for n, p in self.step.players.items()},
            "optimizers": {n: o.state_dict() for n, o in self.optimizers.items()},
            "average": self.average.state_dict(),
            "best": self.best,
            "rngs": rngs.reshape(self.fabric.world_size, -1).cpu(),
            "history": history,
            "recent": self._recent,
            "precision": self.precision,
            "data": self.data,
        }
        try:
            save_state(path, state)
        except ReconError as error:
            logger.warning("The state of the training was not saved: %s", error)
            self._reporter.update(self.history.step, message=f"The state was not saved: {error}")

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `save` wrote."""
        if state.get("data") != self.data:
            raise ReconError(
                "The interrupted training learned from other images.", "Resume with the same images, or start anew."
            )
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
        if len(state["rngs"]) != self.fabric.world_size:
            raise ReconError(
                f"The interrupted training ran in {len(state['rngs'])} processes, not {self.fabric.world_size}.",
                "Resume it with as many.",
            )
        # A copy, as set_state reads a row of a table from the table's start.
        self.rng.set_state(state["rngs"][self.fabric.global_rank].clone())
        self.history = History(**state["history"])
        self._recent = list(state["recent"])


def _diverged(steps: int) -> ReconError:
    return ReconError(
        f"Training diverged: {steps} steps in a row gave no finite loss.",
        "Lower the learning rate, or look for extreme pixel values in the data.",
    )


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.detach().cpu().clone() for k, v in state.items()}
