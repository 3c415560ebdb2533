"""A training on a CPU for so many minutes of a core, which goes on where it was stopped."""

import copy
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class Muon:
    """Gradient descent with momentum whose steps are made orthogonal, for the 3x3 kernels between equal layers.

    Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024), a step scaled to the size of
    Adam's as by Liu et al., "Muon is scalable for LLM training" (2025), so that one learning rate serves both.
    """

    def __init__(self, parameters: list[nn.Parameter], momentum: float = 0.95) -> None:
        self.parameters, self.momentum = parameters, momentum
        self.moments = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Take a step of this size along the gradients."""
        for p, moment in zip(self.parameters, self.moments, strict=True):
            assert p.grad is not None
            moment.lerp_(p.grad, 1 - self.momentum)
            matrix = _orthogonal(p.grad.lerp(moment, self.momentum).flatten(1))
            p.add_(matrix.view_as(p), alpha=-rate * 0.2 * math.sqrt(max(matrix.shape)))


def _orthogonal(matrix: Tensor) -> Tensor:
    """Nearest matrix of orthonormal rows, by five Newton-Schulz iterations (rows not more than columns)."""
    x = matrix / (matrix.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x


class CoreMinutes:
    """Trains a network: Muon for its inner kernels, Adam for the rest, and a running mean of the weights.

    The learning rate rises over a hundred steps and falls to zero over the second half of the minutes.

    Parameters
    ----------
    network : nn.Module
        With the weights to begin from.
    inner : list of nn.Parameter
        Those for Muon.
    out : path
        Folder of ``last.pt``, from which the training goes on when that exists, and of ``log.jsonl``.
    core_minutes, learning_rate : float
        Length of the whole training, and its highest rate.
    """

    def __init__(
        self, network: nn.Module, inner: list[nn.Parameter], out: Path, core_minutes: float, learning_rate: float
    ) -> None:
        self.network, self.averaged = network, copy.deepcopy(network).requires_grad_(False)
        chosen = {id(p) for p in inner}
        self.muon = Muon(inner)
        self.adam = torch.optim.Adam([p for p in network.parameters() if id(p) not in chosen], betas=(0.9, 0.99))
        self.out, self.core_minutes, self.learning_rate = out, core_minutes, learning_rate
        self.step, before = 0, 0.0
        self._last = out / "last.pt"
        self._losses: list[float] = []
        if self._last.exists():
            saved: dict[str, Any] = torch.load(self._last, weights_only=True)
            self.network.load_state_dict(saved["network"])
            self.averaged.load_state_dict(saved["averaged"])
            self.adam.load_state_dict(saved["adam"])
            self.muon.moments = saved["muon"]
            self.step, before = saved["step"], saved["minutes"]
        self._began = time.process_time() - 60 * before
        self.used = min(before / core_minutes, 1.0)  # share of the minutes, after the last step

    @property
    def minutes(self) -> float:
        """Minutes of a core so far, those before an interruption too."""
        return (time.process_time() - self._began) / 60

    def update(self, loss: Tensor) -> None:
        """Take one step."""
        rate = self.learning_rate * min(1.0, (self.step + 1) / 100, 2 * (1 - self.used))
        self.network.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.adam.param_groups[0]["lr"] = rate
        self.adam.step()
        self.muon.step(rate)
        self.step += 1
        self.used = min(self.minutes / self.core_minutes, 1.0)
        with torch.no_grad():
            decay = min(0.999, self.step / (self.step + 20))
            torch._foreach_lerp_(list(self.averaged.parameters()), list(self.network.parameters()), 1 - decay)
        self._losses.append(float(loss.detach()))

    def note(self, scores: dict[str, float]) -> None:
        """Log the mean loss since the last note, and scores; save all that the next step depends on."""
        loss = sum(self._losses) / len(self._losses)
        self._losses.clear()
        entry = {"step": self.step, "core_minutes": round(self.minutes, 2), "loss": round(loss, 5)} | scores
        with (self.out / "log.jsonl").open("a") as log:
            log.write(json.dumps(entry) + "\n")
        print(entry, flush=True)
        state = {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "adam": self.adam.state_dict(),
            "muon": self.muon.moments,
            "step": self.step,
            "minutes": self.minutes,
        }
        temporary = self._last.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self._last)
