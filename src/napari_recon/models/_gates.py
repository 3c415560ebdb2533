"""Attention gates: layers that weigh each place by a number from 0 to 1, and what their numbers show."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from napari_recon.models._blocks import CONV


class Gate(nn.Sigmoid):
    """The numbers of an attention gate, one for each place: what an attention map is made of."""


class SkipAttention(nn.Module):
    """Additive gate on a skip connection (Oktay et al., "Attention U-Net", MIDL 2018).

    What comes from the coarser level says where the finer features matter.

    Parameters
    ----------
    dims : int
        2 or 3 spatial dimensions.
    skip, coarse : int
        Feature maps of the skip connection, and of the coarser level.
    """

    def __init__(self, dims: int, skip: int, coarse: int) -> None:
        super().__init__()
        inner = max(skip // 2, 1)
        self.look = CONV[dims](skip, inner, 1)
        self.ask = CONV[dims](coarse, inner, 1)
        self.join = nn.Sequential(nn.LeakyReLU(0.1), CONV[dims](inner, 1, 1), Gate())

    def forward(self, skip: Tensor, coarse: Tensor) -> Tensor:
        """Return `skip`, each place times its gate; `coarse` has its sides."""
        out: Tensor = skip * self.join(self.look(skip) + self.ask(coarse))
        return out


@contextmanager
def watched_gates(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the numbers of all gates, (N, 1, *sides) each, of what goes through a network meanwhile."""
    seen: list[Tensor] = []

    def note(module: nn.Module, inputs: object, output: Tensor) -> None:
        seen.append(output.float())

    handles = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, Gate)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def mean_gate(gates: list[Tensor], sides: tuple[int, ...]) -> Tensor:
    """Mean of gates, each enlarged to `sides`: (N, 1, *sides)."""
    mode = "bilinear" if len(sides) == 2 else "trilinear"
    enlarged = [nn.functional.interpolate(g, size=sides, mode=mode, align_corners=False) for g in gates]
    return torch.stack(enlarged).mean(dim=0)
