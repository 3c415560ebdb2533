"""How much of the energy of small blocks is noise where specimen is everywhere, as learned from simulated noise.

The blocks of an image are held against a first noise curve. A small network weighs them, and their cosines, by how much
they look like noise alone, and tells how far the noise is from that curve (`noise_network`). Trained by
``scripts/pretrain_noise.py``.
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
from napari_recon.data.noise_network import Blocks, answer

FloatArray = NDArray[np.floating]

SIDES = (8, 4)  # of the blocks, in pixels: the smaller reach darker and brighter places, and in between sharp edges
AROUND = 3  # sides of a block: its surroundings
BLOCKS = 400  # of each step of brightness
FEWEST = 200  # blocks in all
LEAST_CONTRAST = 1.0  # range of brightness in units of the noise: in less, gain is not seen
FEWEST_IN_STEP = 30  # for the noise of a step to be shown


def learned_curve(
    views: Sequence[View], start: NoiseCurve
) -> tuple[NoiseCurve, tuple[tuple[float, float], ...]] | None:
    """Measure white noise, beginning from another estimate of it.

    Returns
    -------
    tuple or None
        The curve, and of each step of brightness its mean and the variance there by itself; None where there are too
        few blocks, or too little contrast, to tell.
    """
    contrast = (start.bright - start.dark) / np.sqrt(start.at_dark)
    if contrast < LEAST_CONTRAST:
        return None
    sorted_blocks = [blocks_against(views, start, side, BLOCKS) for side in SIDES]
    if len(sorted_blocks[0][2]) < FEWEST:
        return None
    tables = [table(*blocks, start, BLOCKS) for blocks in sorted_blocks]
    ends = np.array([[1.0, start.at_bright / start.at_dark]], np.float32)
    one = [Blocks(*(part[None] for part in t)) for t in tables]
    found = answer(np, _weights(), one, ends, np.array([[np.log(contrast)]], np.float32))
    at_dark, at_bright = (float(v) * start.at_dark for v in found.ends[0])
    largest = tables[0]
    variance = largest.start * np.exp(found.log_ratio[0, :BINS]) * start.at_dark
    brightness = start.dark + largest.place * (start.bright - start.dark)
    many = largest.present.sum(axis=1) >= FEWEST_IN_STEP
    points = tuple((float(b), float(v)) for b, v in zip(brightness[many], variance[many], strict=True))
    return NoiseCurve(start.dark, start.bright, at_dark, at_bright, start.share), points


def blocks_against(
    views: Sequence[View], curve: NoiseCurve, side: int, limit: int
) -> tuple[FloatArray, FloatArray, NDArray[np.intp]]:
    """Hold the blocks of an image against a noise curve.

    Returns
    -------
    energy, place, step : numpy.ndarray
        (blocks, side²) squares of the cosines of each block in units of the curve, the first of them replaced by the
        energy of the coarse structure around; its brightness, 0 at the dark end of the curve and 1 at the bright one;
        and the number of its step of brightness, with no more than `limit` blocks in each.
    """
    starts, _, order = block_starts(views, side, ())
    orders = np.split(order, np.cumsum([len(s) for s in starts])[:-1])
    energies, brightness = [np.empty((0, side**2))], [np.empty(0)]
    for view, corners, places in zip(views, starts, orders, strict=True):
        few = corners[places < limit]
        settled = settled_brightness(view, few, side, curve, 1 / side**2)
        energy = cosines_squared(view.noisy, few, side).reshape(len(few), -1)
        finite = np.isfinite(view.noisy)
        mean = uniform_filter(np.where(finite, view.noisy, view.noisy[finite].mean()), side)
        coarse = uniform_filter(mean**2, AROUND * side) - uniform_filter(mean, AROUND * side) ** 2
        energy[:, 0] = shifted(coarse.clip(0), side)[tuple(few.T)] * side**2
        energies.append(energy / curve.variance(settled)[:, None])
        brightness.append(settled)
    place = (np.concatenate(brightness) - curve.dark) / max(curve.bright - curve.dark, 1e-300)
    energy = np.concatenate(energies).astype(np.float32)
    return energy, place, np.clip(place * BINS, 0, BINS - 1).astype(np.intp)


def table(energy: FloatArray, place: FloatArray, step: NDArray[np.intp], start: NoiseCurve, most: int) -> Blocks:
    """Sort blocks into the table that the network reads; without the leading axis of several images."""
    sorted_energy = np.zeros((BINS, most, energy.shape[1]), np.float32)
    present = np.zeros((BINS, most), np.float32)
    middle = (np.arange(BINS) + 0.5) / BINS
    for n in range(BINS):
        members = np.flatnonzero(step == n)[:most]
        sorted_energy[n, : len(members)], present[n, : len(members)] = energy[members], 1
        if len(members):
            middle[n] = place[members].mean()
    variance = start.variance(start.dark + middle * (start.bright - start.dark)) / start.at_dark
    return Blocks(sorted_energy, present, middle.astype(np.float32), variance.astype(np.float32))


@cache
def _weights() -> Mapping[str, FloatArray]:
    return load((files("napari_recon.data") / "noise_learned.safetensors").read_bytes())
