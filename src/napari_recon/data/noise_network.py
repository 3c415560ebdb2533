"""The small network of `noise_learned`, for numpy at work and for torch in training: both know the functions used here.

The blocks of each step of brightness are pooled, whatever their order and number, as in Zaheer et al., "Deep sets"
(NeurIPS 2017). Each step then tells how far the noise is from a first curve, seeing what the others found too; a
straight line goes through them, and what all steps show together moves its two ends.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from napari_recon.data.noise_curve import BINS

ROUNDS = 3  # of the fit of a line
NEGLIGIBLE = 1e-3  # energy in units of the noise

Array = Any  # of numpy or of torch
Weights = Mapping[str, Array]


class Blocks(NamedTuple):
    """Blocks of one size of some images, sorted by steps of brightness.

    Parameters
    ----------
    energy, present : array
        (N, BINS, blocks, side²) squares of the cosines; (N, BINS, blocks) 1 for blocks, 0 for what fills the table up.
    place : array
        (N, BINS): mean brightness of each step, 0 at the dark end of the first curve and 1 at its bright one.
    start : array
        (N, BINS): variance there by the first curve, in units of its dark end.
    """

    energy: Array
    present: Array
    place: Array
    start: Array


class Answer(NamedTuple):
    """What the network finds.

    Parameters
    ----------
    log_ratio, log_weight : array
        (N, steps) logarithms of the variance in units of the first curve, and of the weight of this finding.
    ends : array
        (N, 2): variance at both ends, in units of the dark end of the first curve.
    """

    log_ratio: Array
    log_weight: Array
    ends: Array


def answer(xp: Any, weights: Weights, sizes: Sequence[Blocks], start: Array, contrast: Array) -> Answer:
    """Apply the network.

    Parameters
    ----------
    xp : module
        numpy or torch.
    weights : mapping
        Of the layers by name.
    sizes : sequence of Blocks
        One for each size of block.
    start, contrast : array
        (N, 2) variance at both ends by the first curve, in units of the dark end; (N, 1) logarithm of the range between
        the ends in units of the noise at the dark one.
    """

    def layer(name: str, x: Array) -> Array:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def relu(x: Array) -> Array:
        return xp.clip(x, 0, None)

    of_steps, found, counts = [], [], []
    for n, blocks in enumerate(sizes):
        seen, noise, count = _pooled(xp, weights, f"blocks.{n}", blocks)
        of_steps.append(relu(layer(f"steps.{n}", xp.concatenate([seen, noise[..., None], count[..., None]], -1))))
        found.append(noise)
        counts.append(count)
    place = xp.concatenate([b.place for b in sizes], 1)
    present = xp.concatenate([b.present.sum(-1) for b in sizes], 1)
    started = xp.concatenate([b.start for b in sizes], 1)
    noise = xp.concatenate(found, 1)
    there = xp.clip(present, 0, 1)
    rest = [noise, *counts, place * there, xp.log(start[:, 1:]), contrast]
    all_steps = relu(layer("all", xp.concatenate([s.mean(1) for s in of_steps] + rest, -1)))
    hidden = xp.concatenate(of_steps, 1) + weights["position"]
    hidden = relu(layer("one", relu(hidden + layer("to_one", all_steps)[:, None])))
    out = layer("out", hidden)
    log_ratio = noise + out[..., 0]
    log_weight = xp.clip(out[..., 1] + 2, -4, 8) - 30 * (1 - there)
    line = _line(xp, weights, place, started, log_ratio, log_weight, start)
    short = relu(layer("short", hidden))
    rest = [log_ratio * there, xp.exp(0.5 * log_weight - 1) * there, xp.log(line), all_steps]
    ends = xp.concatenate([short.reshape(short.shape[0], -1), *rest], -1)
    moved = line * xp.exp(xp.clip(layer("ends.2", relu(layer("ends.1", relu(layer("ends.0", ends))))), -4, 4))
    dark, bright = moved[:, :1], moved[:, 1:]
    return Answer(log_ratio, log_weight, xp.concatenate([dark, dark + xp.clip(bright - dark, 0, None)], -1))


def _pooled(xp: Any, weights: Weights, name: str, blocks: Blocks) -> tuple[Array, Array, Array]:
    """What the blocks of each step show: (N, BINS, features), and (N, BINS) logarithms of the noise and the number."""

    def layer(number: int, x: Array) -> Array:
        return x @ weights[f"{name}.{number}.weight"].T + weights[f"{name}.{number}.bias"]

    energy, present = blocks.energy, blocks.present
    hidden = xp.clip(layer(0, xp.log(energy + 0.01)), 0, None)
    hidden = xp.clip(layer(1, hidden), 0, None)
    weighed = layer(2, hidden)
    # Rough blocks count little from the start.
    smooth = weighed[..., 0] - 2 * xp.log(energy[..., 1:].mean(-1) + 0.05) - 30 * (1 - present)
    of_block = _softmax(xp, smooth) * present
    of_cosine = _softmax(xp, weighed[..., 1:])
    there = xp.clip(present.sum(-1), 0, 1)
    noise = xp.log((of_block * (of_cosine * energy[..., 1:]).sum(-1)).sum(-1) + NEGLIGIBLE) * there
    count = xp.clip(present.sum(-1), 1, None)
    mean = (hidden * present[..., None]).sum(-2) / count[..., None]
    weighed_mean = (hidden * of_block[..., None]).sum(-2)
    effective = -xp.log((of_block**2).sum(-1) + 1e-4)
    return xp.concatenate([mean, weighed_mean, effective[..., None] - 3], -1), noise, xp.log(1 + present.sum(-1)) - 4


def _softmax(xp: Any, x: Array) -> Array:
    powers = xp.exp(x - xp.amax(x, -1)[..., None])
    return powers / powers.sum(-1)[..., None]


def _line(
    xp: Any, weights: Weights, place: Array, started: Array, log_ratio: Array, log_weight: Array, ends: Array
) -> Array:
    """Ends (N, 2) of the straight line, never falling, through the variances of the steps; relative errors count.

    Where the steps leave its slope open it is that of the first curve, whose ends count a little.
    """
    weight = xp.exp(log_weight)
    total = weight.sum(-1)[:, None]
    shift = (weight * log_ratio).sum(-1)[:, None] / total
    little = xp.exp(weights["prior"]) * total
    weight = xp.concatenate([weight / total, little / total, little / total], -1)
    place = xp.concatenate([place, 0 * shift, 0 * shift + 1], -1)
    started = xp.concatenate([started, ends], -1)
    found = started * xp.exp(xp.clip(xp.concatenate([log_ratio, shift, shift], -1), -6, 6))
    line = started
    for _ in range(ROUNDS):
        relative = weight / line**2
        relative = relative / relative.sum(-1)[:, None]
        middle, level = (relative * place).sum(-1), (relative * found).sum(-1)
        off = place - middle[:, None]
        slope = (relative * off * found).sum(-1) / ((relative * off**2).sum(-1) + 1e-10)
        # The dark end stays positive.
        slope = xp.minimum(xp.clip(slope, 0, None), 0.98 * level / xp.clip(middle, 1e-3, None))
        at_dark = level - slope * middle
        line = xp.maximum(at_dark[:, None] + slope[:, None] * place, 0.05 * found)
    return xp.stack([at_dark, at_dark + slope], -1)


def shapes(sides: Sequence[int], features: Sequence[int], width: int = 96, few: int = 8) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of each layer, for blocks of these sides."""
    steps = len(sides) * BINS
    layers: dict[str, tuple[int, int]] = {}
    for n, (side, f) in enumerate(zip(sides, features, strict=True)):
        layers |= {f"blocks.{n}.0": (side**2, f), f"blocks.{n}.1": (f, f), f"blocks.{n}.2": (f, side**2)}
        layers[f"steps.{n}"] = 2 * f + 3, width
    seen = len(sides) * width + 3 * steps + 2
    layers |= {"all": (seen, width), "to_one": (width, width), "one": (width, width), "out": (width, 2)}
    layers |= {"short": (width, few), "ends.0": (steps * (few + 2) + 2 + width, width), "ends.1": (width, width)}
    return layers | {"ends.2": (width, 2)}
