"""How much of the energy of small blocks is noise where specimen is everywhere, as learned from simulated noise.

The blocks of an image are held against a first noise curve. A small network weighs them, and their cosines, by how much
they look like noise alone. It tells for each step of brightness how far the noise is from that curve, and how sure that
is; a straight line through the steps is the noise curve. The order of the blocks does not count, as in Zaheer et al.,
"Deep sets" (NeurIPS 2017). Trained by ``scripts/pretrain_noise.py``.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load
from scipy.ndimage import uniform_filter

from napari_recon.data.noise_blocks import View, block_starts, cosines_squared, settled_brightness, shifted
from napari_recon.data.noise_curve import BINS, NoiseCurve

FloatArray = NDArray[np.floating]

SIDE = 8  # of the blocks, in pixels
AROUND = 3 * SIDE  # of their surroundings
BLOCKS = 400  # of each step of brightness
FEWEST = 200  # blocks in all
FEWEST_IN_STEP = 30  # for the noise of a step to be shown


def learned_curve(
    views: Sequence[View], start: NoiseCurve
) -> tuple[NoiseCurve, tuple[tuple[float, float], ...]] | None:
    """Measure white noise, beginning from another estimate of it.

    Returns
    -------
    tuple or None
        The curve, and of each step of brightness its mean and the variance there by itself; None where there are too
        few blocks to tell.
    """
    energy, brightness, step = blocks_against(views, start, BLOCKS)
    if len(step) < FEWEST or start.bright <= start.dark:
        return None
    used = np.flatnonzero(np.bincount(step, minlength=BINS))
    middle = np.array([brightness[step == n].mean() for n in used])
    log_ratio, log_weight = _answers([energy[step == n] for n in used])
    at_dark, at_bright = _line(
        (middle - start.dark) / (start.bright - start.dark),
        start.variance(middle),
        log_ratio,
        np.exp(log_weight),
        np.array([start.at_dark, start.at_bright]),
    )
    variance = start.variance(middle) * np.exp(log_ratio)
    many = np.bincount(step, minlength=BINS)[used] >= FEWEST_IN_STEP
    points = tuple((float(b), float(v)) for b, v in zip(middle[many], variance[many], strict=True))
    return NoiseCurve(start.dark, start.bright, at_dark, at_bright, start.share), points


def blocks_against(
    views: Sequence[View], curve: NoiseCurve, limit: int
) -> tuple[FloatArray, FloatArray, NDArray[np.intp]]:
    """Hold the blocks of an image against a noise curve.

    Returns
    -------
    energy, brightness, step : numpy.ndarray
        (blocks, 64) squares of the cosines of each block in units of the curve, the first of them replaced by the
        energy of the coarse structure around; its brightness; and the number of its step of brightness, with no more
        than `limit` blocks in each.
    """
    starts, _, order = block_starts(views, SIDE, ())
    orders = np.split(order, np.cumsum([len(s) for s in starts])[:-1])
    energies, brightness = [np.empty((0, SIDE**2))], [np.empty(0)]
    for view, corners, places in zip(views, starts, orders, strict=True):
        few = corners[places < limit]
        settled = settled_brightness(view, few, SIDE, curve, 1 / SIDE**2)
        energy = cosines_squared(view.noisy, few, SIDE).reshape(len(few), -1)
        finite = np.isfinite(view.noisy)
        mean = uniform_filter(np.where(finite, view.noisy, view.noisy[finite].mean()), SIDE)
        coarse = uniform_filter(mean**2, AROUND) - uniform_filter(mean, AROUND) ** 2
        energy[:, 0] = shifted(coarse.clip(0), SIDE)[tuple(few.T)] * SIDE**2
        energies.append(energy / curve.variance(settled)[:, None])
        brightness.append(settled)
    energy, settled = np.concatenate(energies).astype(np.float32), np.concatenate(brightness)
    place = (settled - curve.dark) / max(curve.bright - curve.dark, 1e-300)
    return energy, settled, np.clip(place * BINS, 0, BINS - 1).astype(np.intp)


def _answers(energies: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """What the network says to the blocks of each step.

    Returns
    -------
    log_ratio, log_weight : numpy.ndarray
        Logarithm of the variance of the noise in units of the noise curve, and of the weight of this finding.
    """
    weights = _weights()

    def layer(name: str, x: FloatArray) -> FloatArray:
        return np.asarray(x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"])

    def relu(x: FloatArray) -> FloatArray:
        return np.maximum(x, 0)

    seen, found = [], []
    for energy in energies:
        hidden = relu(layer("block.2", relu(layer("block.0", np.log(energy + 0.01)))))
        weighed = layer("weigh", hidden)
        # Rough blocks count little from the start.
        of_block = _softmax(weighed[:, 0] - 2 * np.log(energy[:, 1:].mean(axis=1) + 0.05), axis=0)
        of_cosine = _softmax(weighed[:, 1:], axis=1)
        noise = np.log(of_block @ (of_cosine * energy[:, 1:]).sum(axis=1) + 1e-3)
        found.append(noise)
        seen.append([*hidden.mean(axis=0), noise, np.log(1 + len(energy)) - 4])
    steps = np.array(seen, np.float32)
    both = np.concatenate([steps, np.broadcast_to(steps.mean(axis=0), steps.shape)], axis=1)
    out = layer("step.4", relu(layer("step.2", relu(layer("step.0", both)))))
    return np.array(found) + out[:, 0], np.clip(out[:, 1] + 2, -4, 8)


def _softmax(x: FloatArray, axis: int) -> FloatArray:
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def _line(
    place: FloatArray, start: FloatArray, log_ratio: FloatArray, weight: FloatArray, ends: FloatArray
) -> tuple[float, float]:
    """Ends of the straight line, never falling, through the variances of the steps; relative errors count.

    Where the steps leave its slope open it is that of the start curve, whose ends count a little.
    """
    shift = np.average(log_ratio, weights=weight)
    little = np.exp(_weights()["prior"]) * weight.sum()
    place = np.append(place, [0.0, 1.0])
    weight = np.append(weight, [little, little])
    start = np.append(start, ends)
    found = start * np.exp(np.clip(np.append(log_ratio, [shift, shift]), -6, 6))
    line = start
    for _ in range(3):
        relative = weight / line**2
        middle = np.average(place, weights=relative)
        level = np.average(found, weights=relative)
        spread = np.average((place - middle) ** 2, weights=relative)
        slope = np.average((place - middle) * found, weights=relative) / (spread + 1e-10)
        slope = np.clip(slope, 0, 0.999 * level / max(middle, 1e-3))  # the dark end stays positive
        at_dark = level - slope * middle
        line = np.maximum(at_dark + slope * place, 0.05 * found)
    return float(at_dark), float(at_dark + slope)


@cache
def _weights() -> Mapping[str, FloatArray]:
    return load((files("napari_recon.data") / "noise_learned.safetensors").read_bytes())
