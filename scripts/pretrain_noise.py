"""Teach the small network of `napari_recon.data.noise_learned` to tell noise from specimen.

    python scripts/pretrain_noise.py --images FOLDER [FOLDER ...] --out noise --core-minutes 40

Images are those of `pretrain_denoiser.py`, reduced more sharply, without the two that `benchmarks/quality_noise.py`
looks at. Their noise is simulated, so its variance is known: Gaussian and Poisson-Gaussian, some of it a little in
step, some rounded. The noise curve that the network is to mend is the true one, made wrong by chance, mostly too high.

It writes ``OUT/noise_learned.safetensors``, and goes on from ``OUT/last.pt`` when that exists; ``--start`` begins with
the weights of such a file.
"""

import argparse
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import skimage.data
import torch
from _core_minutes import CoreMinutes
from PIL import Image as PilImage
from pretrain_denoiser import CleanPatches, load_photographs
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from napari_recon.data.noise_blocks import View
from napari_recon.data.noise_curve import BINS, NoiseCurve
from napari_recon.data.noise_learned import SIDE, blocks_against

COSINES = SIDE**2
ROUNDS = 3  # of the fit of a line
PLACES = ("dark", "middle", "bright", "lowest")  # where the variance is compared with the truth


class Scenes(NamedTuple):
    """Blocks of some images, as `blocks_against` sorts them, and the noise they hold, all in units of the dark end.

    Parameters
    ----------
    energy, present : Tensor
        (N, BINS, blocks, 64) squares of the cosines; (N, BINS, blocks) 1 for blocks, 0 for what fills the table up.
    place : Tensor
        (N, BINS): mean brightness of each step, 0 at the dark end and 1 at the bright one.
    start, truth : Tensor
        (N, 2): variance at both ends by the first curve, and in truth.
    lowest : Tensor
        (N,): place of the darkest pixels without noise, not above 0.
    """

    energy: Tensor
    present: Tensor
    place: Tensor
    start: Tensor
    truth: Tensor
    lowest: Tensor


class NoiseNetwork(nn.Module):
    """What `noise_learned` computes with numpy, to be trained."""

    def __init__(self, features: int = 48, width: int = 64) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(COSINES, features), nn.ReLU(), nn.Linear(features, features), nn.ReLU())
        self.weigh = nn.Linear(features, COSINES)
        self.step = nn.Sequential(
            nn.Linear(2 * (features + 2), width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2)
        )
        self.prior = nn.Parameter(torch.tensor(-4.0))
        nn.init.zeros_(self.step[-1].weight)
        nn.init.zeros_(self.step[-1].bias)

    def forward(self, scenes: Scenes) -> tuple[Tensor, Tensor]:
        """Logarithms (N, BINS) of the variance in units of the first curve, and of the weight of this finding."""
        energy, present = scenes.energy, scenes.present
        hidden = self.block((energy + 0.01).log())
        weighed = self.weigh(hidden)
        count = present.sum(dim=-1, keepdim=True)
        smooth = weighed[..., 0] - 2 * (energy[..., 1:].mean(dim=-1) + 0.05).log()
        of_block = torch.softmax(smooth.masked_fill(present == 0, -30), dim=-1) * present
        of_block = of_block / of_block.sum(dim=-1, keepdim=True).clamp_min(1e-12)
        of_cosine = torch.softmax(weighed[..., 1:], dim=-1)
        noise = (of_block * (of_cosine * energy[..., 1:]).sum(dim=-1)).sum(dim=-1, keepdim=True)
        any_there = (count > 0).float()
        noise = (noise + 1e-3).log() * any_there
        seen = (hidden * present[..., None]).sum(dim=-2) / count.clamp_min(1)
        steps = torch.cat([seen, noise, (1 + count).log() - 4], dim=-1)
        mean = (steps * any_there).sum(dim=1, keepdim=True) / any_there.sum(dim=1, keepdim=True)
        log_ratio, log_weight = self.step(torch.cat([steps, mean.expand_as(steps)], dim=-1)).unbind(-1)
        return noise[..., 0] + log_ratio, (log_weight + 2).clamp(-4, 8) - 30 * (count[..., 0] == 0)

    def line(self, log_ratio: Tensor, log_weight: Tensor, start: Tensor, scenes: Scenes) -> Tensor:
        """Ends (N, 2) of the straight line through the steps, whose first curve is `start`."""
        weight = log_weight.exp()
        total = weight.sum(dim=-1, keepdim=True)
        shift = (weight * log_ratio).sum(dim=-1, keepdim=True) / total
        weight = torch.cat([weight, (self.prior.exp() * total).expand(-1, 2)], dim=-1)
        place = torch.cat([scenes.place, torch.zeros_like(shift), torch.ones_like(shift)], dim=-1)
        start = torch.cat([start, scenes.start], dim=-1)
        found = start * torch.cat([log_ratio, shift, shift], dim=-1).clamp(-6, 6).exp()
        line = start
        for _ in range(ROUNDS):
            relative = weight / line.detach() ** 2
            relative = relative / relative.sum(dim=-1, keepdim=True)
            middle, level = (relative * place).sum(dim=-1), (relative * found).sum(dim=-1)
            off = place - middle[:, None]
            slope = (relative * off * found).sum(dim=-1) / ((relative * off**2).sum(dim=-1) + 1e-10)
            slope = torch.minimum(slope.clamp_min(0), 0.999 * level / middle.clamp_min(1e-3))
            at_dark = level - slope * middle
            line = torch.maximum(at_dark[:, None] + slope[:, None] * place, 0.05 * found)
        return torch.stack([at_dark, at_dark + slope], dim=-1)


def add_noise(clean: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float, float, float]:
    """The noisy image, gain and intercept of its noise, and the value of the darkest pixels, for values in [0, 1]."""
    lowest = float(np.quantile(clean, 0.001))
    if rng.random() < 0.4:
        sigma = math.exp(rng.uniform(math.log(1.5), math.log(60))) / 255
        noisy, gain, intercept = clean + sigma * _hardly_in_step(clean.shape, rng), 0.0, sigma**2
    else:
        photons = math.exp(rng.uniform(math.log(5), math.log(3000)))
        read = math.exp(rng.uniform(math.log(0.3), math.log(8)))
        dark = rng.choice([0, rng.uniform(0, 0.2)])
        light, lowest = photons * (dark + (1 - dark) * clean), dark + (1 - dark) * lowest
        if rng.random() < 0.6:
            noisy = rng.poisson(light) + read * rng.standard_normal(clean.shape)
        else:
            noisy = light + np.sqrt(light + read**2) * _hardly_in_step(clean.shape, rng)
        noisy, gain, intercept = noisy / photons, 1 / photons, (read / photons) ** 2
    if rng.random() < 0.25:
        level = math.exp(rng.uniform(math.log(0.05), math.log(0.8))) * math.sqrt(gain * 0.02 + intercept)
        noisy, intercept = np.round(noisy / level) * level, intercept + level**2 / 12
    return noisy, gain, intercept, lowest


def _hardly_in_step(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """White noise of variance one, or in one of four cases with a correlation that passes for white."""
    white = rng.standard_normal(shape)
    if rng.random() < 0.75:
        return white
    y, x = rng.uniform(0, 0.06, 2)
    for axis, share in enumerate((y, x)):
        neighbours = np.roll(white, 1, axis) + np.roll(white, -1, axis)
        white = (white + share * neighbours) / math.sqrt(1 + 2 * share**2)
    return white


def scene(clean: np.ndarray, rng: np.random.Generator, most: int) -> tuple[np.ndarray, ...]:
    """One of the `Scenes`."""
    noisy, gain, intercept, lowest = add_noise(clean, rng)
    wide = np.lib.stride_tricks.sliding_window_view(noisy, (SIDE, SIDE))[::2, ::2].mean(axis=(2, 3))
    dark, bright = np.quantile(wide, [0.02, 0.98])
    truth = np.maximum(gain * np.array([dark, bright]) + intercept, 1e-12)
    wrong = np.exp(rng.normal([0.1, 0.15], [0.3, 0.35]))
    if rng.random() < 0.15:
        wrong *= math.exp(rng.normal(0.3, 0.7))
    low, high = truth * wrong
    if rng.random() < 0.15:
        low = high = math.sqrt(low * high)
    curve = NoiseCurve(dark, bright, low, max(low, high), 1.0)
    energy, brightness, step = blocks_against([View(noisy, noisy)], curve, most)
    table, present = np.zeros((BINS, most, COSINES)), np.zeros((BINS, most))
    place = (np.arange(BINS) + 0.5) / BINS
    for n in range(BINS):
        members = np.flatnonzero(step == n)[:most]
        table[n, : len(members)], present[n, : len(members)] = energy[members], 1
        if len(members):
            place[n] = (brightness[members].mean() - dark) / (bright - dark)
    start = np.array([curve.at_dark, curve.at_bright])
    return table, present, place, start / low, truth / low, np.array(min((lowest - dark) / (bright - dark), 0.0))


def draw(clean: CleanPatches, rng: np.random.Generator, count: int = 16) -> Scenes:
    """Some scenes, all as large and with as many blocks."""
    size, most = int(rng.choice([128, 192, 256])), int(rng.choice([50, 100, 200, 400], p=[0.2, 0.4, 0.25, 0.15]))
    rows = [scene(patch.astype(float), rng, most) for patch in clean.draw(count, size).numpy()[:, 0]]
    return Scenes(*(torch.from_numpy(np.stack(part)).float() for part in zip(*rows, strict=True)))


def losses(network: NoiseNetwork, scenes: Scenes) -> tuple[Tensor, Tensor]:
    """Loss, and the errors (N, 4) of the logarithm of the variance at the dark end, between, bright, and at the lowest.

    The likelihood of each step by itself, by Laplace's distribution, teaches it how sure it can be.
    """

    def between(ends: Tensor, place: Tensor) -> Tensor:
        return ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * place

    log_ratio, log_weight = network(scenes)
    start = between(scenes.start, scenes.place).clamp_min(1e-3)
    truth = between(scenes.truth, scenes.place).clamp_min(1e-3)
    off = (log_ratio - (truth / start).log()).abs()
    unlikely = off * (0.5 * log_weight).exp() - 0.5 * log_weight
    there = (scenes.present.sum(dim=-1) > 0).float()
    ends = network.line(log_ratio, log_weight, start, scenes)
    lowest = scenes.lowest.clamp_min(-0.3)[:, None]
    places = torch.cat([torch.zeros_like(lowest), torch.full_like(lowest, 0.5), torch.ones_like(lowest), lowest], dim=1)
    least = 0.05 * scenes.truth[:, :1]
    error = (between(ends, places).maximum(least).log() - between(scenes.truth, places).maximum(least).log()).abs()
    loss = 0.3 * (unlikely * there).sum() / there.sum() + error[:, :3].mean() + 0.3 * error[:, 3].clamp_max(1).mean()
    return loss, error.detach()


def mirrored(scenes: Scenes) -> Scenes:
    """The same of the transposed images."""
    energy = scenes.energy.unflatten(-1, (SIDE, SIDE)).mT.flatten(-2)
    return scenes._replace(energy=energy)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=Path, nargs="*", default=[])
    parser.add_argument("--start", type=Path)
    parser.add_argument("--core-minutes", type=float, default=40)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    photos = load_photographs(args.images, 256, resample=PilImage.Resampling.LANCZOS)
    looked_at = [skimage.data.camera(), skimage.data.moon()]
    photos = [p for p in photos if not any(np.array_equal(p, other) for other in looked_at)]
    unseen, fixed = CleanPatches(photos[::15], seed=98, phantoms=60, share=0.65), np.random.default_rng(99)
    validation = [draw(unseen, fixed) for _ in range(10)]

    network = NoiseNetwork()
    if args.start:
        network.load_state_dict(load_file(args.start))
    training = CoreMinutes(network, [], args.out, args.core_minutes, args.learning_rate)
    rng = np.random.default_rng(args.seed + training.step)
    clean = CleanPatches([p for i, p in enumerate(photos) if i % 15], args.seed + training.step, 200, share=0.65)
    while training.used < 1:
        scenes = draw(clean, rng)
        training.update(losses(network, mirrored(scenes) if rng.random() < 0.5 else scenes)[0])
        if training.step % 200 == 0 or training.used >= 1:
            with torch.no_grad():
                errors = torch.cat([losses(training.averaged, v)[1] for v in validation]).mean(dim=0)
            training.note(dict(zip(PLACES, errors.tolist(), strict=True)))
            save_file(training.averaged.state_dict(), args.out / "noise_learned.safetensors")


if __name__ == "__main__":
    main()
