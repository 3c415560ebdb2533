"""The registry of losses: ``loss(prediction, target, weight) -> scalar tensor``."""

from collections.abc import Callable

from torch import Tensor

from napari_recon.losses.reconstruction import charbonnier, l1, mse

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]

LOSSES: dict[str, Loss] = {"mse": mse, "l1": l1, "charbonnier": charbonnier}
