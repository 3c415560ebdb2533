"""Teach the small network of `napari_recon.data.noise_network` to tell noise from specimen.

    python scripts/pretrain_noise.py --images FOLDER [FOLDER ...] --out noise --core-minutes 40

Images are those of `pretrain_denoiser.py`, reduced more sharply, without the two that `benchmarks/quality_noise.py`
looks at. Their noise is simulated, so its variance is known: Gaussian and Poisson-Gaussian, half of it a little in
step, some rounded. The noise curve that the network is to mend is the one fitted to the image, at times made worse.

Many scenes are made first, which takes 70 ms each and is not counted; each serves many times, with other blocks of it.
It writes ``OUT/noise_learned.safetensors``, and goes on from ``OUT/last.pt`` when that exists; ``--start`` begins with
the weights of such a file.
"""

import argparse
import math
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import skimage.data
import torch
from _core_minutes import CoreMinutes
from PIL import Image as PilImage
from pretrain_denoiser import CleanPatches, Photos, load_photographs
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from napari_recon.data.noise_blocks import FINE, View, measure_band
from napari_recon.data.noise_curve import BINS, NoiseCurve
from napari_recon.data.noise_learned import BLOCKS, SIDES, blocks_against, table
from napari_recon.data.noise_network import Answer, Blocks, answer, shapes

FEATURES = (64, 48)  # of the blocks of each size
SCORES = ("level", "gain", "read", "gain_within", "read_within")


class Truth(NamedTuple):
    """The true noise of a scene, in units of its pixels.

    Parameters
    ----------
    gain, intercept : float
        Of the variance.
    lowest : float
        Value where the read noise is judged: without light, or of the darkest pixels where those are not dark.
    levels : tuple of float
        Values of dark, middling and bright pixels without noise.
    """

    gain: float
    intercept: float
    lowest: float
    levels: tuple[float, float, float]


class Scene(NamedTuple):
    """Blocks of an image of each size, as `blocks_against` finds them, energies in half precision, sorted by step."""

    start: NoiseCurve
    truth: Truth
    blocks: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]


class Batch(NamedTuple):
    """Some scenes for the network, and what it should find, in units of the dark end of the first curve.

    Parameters
    ----------
    sizes, start, contrast :
        As for `answer`.
    truth : Tensor
        (N, 2): variance at both ends.
    places : Tensor
        (N, 4): of the levels and of the lowest value.
    """

    sizes: tuple[Blocks, ...]
    start: Tensor
    contrast: Tensor
    truth: Tensor
    places: Tensor


class NoiseNetwork(nn.Module):
    """The weights of `answer`."""

    def __init__(self) -> None:
        super().__init__()
        layers: dict[str, nn.Linear] = {}
        for name, (inputs, outputs) in shapes(SIDES, FEATURES).items():
            layers[name] = nn.Linear(inputs, outputs)
            if name in {"out", "ends.2"}:
                nn.init.zeros_(layers[name].weight)
                nn.init.zeros_(layers[name].bias)
        self.names = list(layers)
        self.layers = nn.ModuleList(layers.values())
        self.prior = nn.Parameter(torch.tensor(-4.0))
        self.position = nn.Parameter(0.1 * torch.randn(len(SIDES) * BINS, layers["one"].in_features))

    def weights(self) -> dict[str, Tensor]:
        """By the names that `answer` uses."""
        named = {"prior": self.prior, "position": self.position}
        for name, layer in zip(self.names, self.layers, strict=True):
            named |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
        return named

    @torch.no_grad()
    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Take over weights by those names."""
        for name, weight in self.weights().items():
            weight.copy_(weights[name])

    def forward(self, batch: Batch) -> Answer:
        """Apply them."""
        return answer(torch, self.weights(), batch.sizes, batch.start, batch.contrast)


def add_noise(clean: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Truth]:
    """Make a noisy image of values in [0, 1]."""
    levels = np.quantile(clean, [0.05, 0.5, 0.99])
    lowest = float(np.quantile(clean, 0.001))
    if rng.random() < 0.3:
        sigma = math.exp(rng.uniform(math.log(1.5), math.log(60))) / 255
        noisy, gain, intercept = clean + sigma * _hardly_in_step(clean.shape, rng), 0.0, sigma**2
    else:
        photons = math.exp(rng.uniform(math.log(5), math.log(3000)))
        read = math.exp(rng.uniform(math.log(0.3), math.log(8)))
        dark = rng.choice([0, rng.uniform(0, 0.2)], p=[0.7, 0.3])
        light, levels = photons * (dark + (1 - dark) * clean), dark + (1 - dark) * levels
        lowest = dark + (1 - dark) * lowest if dark else 0.0
        if rng.random() < 0.55:
            noisy = rng.poisson(light) + read * rng.standard_normal(clean.shape)
        else:
            noisy = light + np.sqrt(light + read**2) * _hardly_in_step(clean.shape, rng)
        noisy, gain, intercept = noisy / photons, 1 / photons, (read / photons) ** 2
    if rng.random() < 0.25:
        step = math.exp(rng.uniform(math.log(0.05), math.log(0.8))) * math.sqrt(gain * 0.02 + intercept)
        noisy, intercept = np.round(noisy / step) * step, intercept + step**2 / 12
    return noisy, Truth(gain, intercept, lowest, tuple(map(float, levels)))


def _hardly_in_step(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Noise of variance one, most of it with a correlation that passes for white."""
    white = rng.standard_normal(shape)
    if rng.random() < 0.25:
        return white
    for axis in (0, 1):
        share = rng.uniform(0, 0.05) * (rng.random() < 0.7)
        neighbours = np.roll(white, 1, axis) + np.roll(white, -1, axis)
        white = (white + share * neighbours) / math.sqrt(1 + 2 * share**2)
    return white


def make_scene(clean: np.ndarray, rng: np.random.Generator) -> Scene | None:
    """Add noise and look at the blocks; None where the first curve is of no use."""
    if rng.random() < 0.5:
        clean = (clean - clean.min()) / max(clean.max() - clean.min(), 0.02)
    noisy, truth = add_noise(clean, rng)
    view = View(noisy, noisy)
    found = measure_band([view], FINE, (0.0, 0.0), (), 1e-9, all_blocks=True)
    if not found or found[0].bright <= found[0].dark or found[0].at_dark < 1e-8:
        return None
    return look(noisy, found[0], truth)


def look(noisy: np.ndarray, start: NoiseCurve, truth: Truth) -> Scene:
    """The blocks of an image."""
    view, blocks = View(noisy, noisy), []
    for side in SIDES:
        energy, place, step = blocks_against([view], start, side, BLOCKS)
        order = np.argsort(step, kind="stable")
        half = np.clip(energy[order], 1e-7, 6e4).astype(np.float16)
        blocks.append((half, place[order].astype(np.float32), step[order].astype(np.int8)))
    return Scene(start, truth, tuple(blocks))


def draw(scenes: list[Scene], rng: np.random.Generator, most: int) -> Batch:
    """Some blocks of each scene, held against a first curve that is at times worse than the one found."""
    rows = [_row(scene, rng, most) for scene in scenes]
    sizes = tuple(
        Blocks(*(torch.from_numpy(np.stack(part)) for part in zip(*(row[0][n] for row in rows), strict=True)))
        for n in range(len(SIDES))
    )
    rest = [torch.from_numpy(np.stack([row[n] for row in rows])).float() for n in range(1, 5)]
    return Batch(sizes, *rest)


def _row(scene: Scene, rng: np.random.Generator, most: int) -> tuple[list[Blocks], *tuple[np.ndarray, ...]]:
    found, truth = scene.start, scene.truth
    wrong = np.ones(2)
    if rng.random() < 0.5:
        wrong = np.exp(rng.normal(0.05, 0.15) + rng.normal(0, 0.12, 2))
    ends = np.array([found.at_dark, found.at_bright]) * wrong
    if rng.random() < 0.05:
        ends[:] = math.sqrt(ends[0] * ends[1])
    start = NoiseCurve(found.dark, found.bright, float(ends[0]), float(max(ends)), found.share)
    span, flip = found.bright - found.dark, rng.random() < 0.5
    tables = []
    for side, (energy, place, step) in zip(SIDES, scene.blocks, strict=True):
        cuts = np.searchsorted(step, np.arange(BINS + 1))
        chosen = []
        for first, last in pairwise(cuts):
            begin = first + int(rng.integers(0, max(last - first - most, 0) + 1))
            chosen.append(np.arange(begin, min(begin + most, last)))
        index = np.concatenate(chosen)
        value = found.dark + place[index] * span
        some = energy[index].astype(np.float32)
        if flip:
            some = some.reshape(-1, side, side).transpose(0, 2, 1).reshape(-1, side**2)
        some *= (found.variance(value) / start.variance(value)).astype(np.float32)[:, None]
        tables.append(table(some, place[index], step[index], start, most))
    values = np.array([found.dark, found.bright])
    true = (truth.gain * values + truth.intercept) / start.at_dark
    places = (np.array([*truth.levels, truth.lowest]) - found.dark) / span
    contrast = np.array([math.log(span / math.sqrt(start.at_dark))])
    return tables, np.array([1, start.at_bright / start.at_dark]), contrast, true, places


def between(ends: Tensor, place: Tensor) -> Tensor:
    """The straight line through both ends."""
    return ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * place


def losses(network: NoiseNetwork, batch: Batch) -> tuple[Tensor, Tensor]:
    """Loss, and `SCORES` (N, 5) of each scene, not a number where they say nothing.

    The likelihood of each step by itself, by Laplace's distribution, teaches it how sure it can be. Of gain and read
    noise, which few scenes show well, large errors count little more than middling ones.
    """
    found = network(batch)
    place, start, present = (
        torch.cat([p(b) for b in batch.sizes], dim=1)
        for p in (lambda b: b.place, lambda b: b.start, lambda b: b.present.sum(dim=-1) > 0)
    )
    least = 0.02 * batch.truth.amin(dim=1, keepdim=True)
    off = found.log_ratio - (between(batch.truth, place).maximum(least) / start).log()
    unlikely = (off.abs() * (0.5 * found.log_weight).exp() - 0.5 * found.log_weight) * present
    places = torch.cat([torch.tensor([0.0, 1.0]).expand(len(start), 2), batch.places], dim=1)
    true, ends = between(batch.truth, places), between(found.ends, places)
    low = 0.1 * true
    level = (ends.maximum(low) / true).log().abs()[:, :5].mean(dim=1)
    read = ends[:, 5] / true[:, 5]
    slope, true_slope = (e[:, 1] - e[:, 0] for e in (found.ends, batch.truth))
    counts = true_slope > 1e-3 * batch.truth[:, 0]
    gain = torch.where(counts, slope / true_slope.clamp_min(1e-9), 1.0)
    missed_gain, missed_read = (torch.where(r > 1, r.clamp_min(1).log(), 1 - r) for r in (gain, read))
    loss = 0.3 * unlikely.sum() / present.sum() + (level + level / (level + 0.05) * 0.1).mean()
    loss = loss + 0.3 * (missed_gain / (missed_gain + 0.1)).mean() + 0.3 * (missed_read / (missed_read + 0.3)).mean()
    with torch.no_grad():
        sigma = read.clamp_min(0).sqrt()
        within = torch.where(counts, ((gain - 1).abs() < 0.1).float(), torch.nan), ((sigma - 1).abs() < 0.15).float()
        off = torch.where(counts, missed_gain.clamp_max(1), torch.nan)
        scores = torch.stack([level, off, missed_read.clamp_max(1), *within], dim=1)
    return loss, scores


def make_scenes(clean: CleanPatches, count: int, rng: np.random.Generator) -> list[Scene]:
    """So many scenes."""
    scenes: list[Scene] = []
    while len(scenes) < count:
        size = int(rng.choice([128, 192, 256], p=[0.15, 0.2, 0.65]))
        made = make_scene(clean.draw(1, size).numpy()[0, 0].astype(float), rng)
        scenes += [made] if made else []
    return scenes


def photographs(folders: list[Path]) -> Photos:
    """All but those that the benchmark looks at."""
    photos = load_photographs(folders, 256, resample=PilImage.Resampling.LANCZOS)
    looked_at = [skimage.data.camera(), skimage.data.moon()]
    return [p for p in photos if not any(np.array_equal(p, other) for other in looked_at)]


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=Path, nargs="*", default=[])
    parser.add_argument("--start", type=Path)
    parser.add_argument("--scenes", type=int, default=12000)
    parser.add_argument("--core-minutes", type=float, default=40)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    photos = photographs(args.images)
    unseen = CleanPatches(photos[::15], seed=98, phantoms=60, share=0.6)
    validation = make_scenes(unseen, 300, np.random.default_rng(99))
    clean = CleanPatches([p for i, p in enumerate(photos) if i % 15], args.seed, 200, share=0.6)
    scenes = make_scenes(clean, args.scenes, np.random.default_rng(args.seed))
    fixed = np.random.default_rng(97)
    checks = [draw(validation[i : i + 20], fixed, BLOCKS) for i in range(0, len(validation), 20)]

    network = NoiseNetwork()
    if args.start:
        network.load_weights(load_file(args.start))
    training = CoreMinutes(network, [], args.out, args.core_minutes, args.learning_rate)
    rng = np.random.default_rng(args.seed + training.step)
    while training.used < 1:
        some = [scenes[i] for i in rng.integers(0, len(scenes), 16)]
        most = int(rng.choice([50, 100, 200], p=[0.3, 0.5, 0.2]))
        training.update(losses(network, draw(some, rng, most))[0])
        if training.step % 1000 == 0 or training.used >= 1:
            with torch.no_grad():
                errors = torch.cat([losses(training.averaged, b)[1] for b in checks]).nanmean(dim=0)
            training.note(dict(zip(SCORES, errors.tolist(), strict=True)))
            save_file(training.averaged.weights(), args.out / "noise_learned.safetensors")


if __name__ == "__main__":
    main()
