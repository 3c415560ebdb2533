"""Train the universal denoiser that ships with napari-recon.

    python scripts/pretrain_denoiser.py --out pretraining --images FOLDER [FOLDER ...] --steps 40000
    python scripts/pretrain_denoiser.py --out pretraining --images ... --finish 5000   # anneal and end

The shipped weights: 8500 steps, ``--finish 6500``, then ``--finish 2500 --learning-rate 2.5e-4 --photographs 0.35``
(the first 15000 steps before gain and intercept were told with an error and with half of the phantoms dead leaves),
then the mean of the weights after 15000 and after 17500 steps, ``--mean-with``: better than both on held-out patches.
From these ``--start`` ``--batch 8 --patch 128 --learning-rate 2.5e-4 --finish 1700``, and the mean with them again;
``distil_denoiser.py`` from there.

Images: procedural phantoms, the samples inside the scikit-image wheel, and the freely licensed photographs of any
folder given (the shipped weights used Debian's packages mate-backgrounds, plasma-workspace-wallpapers,
lomiri-wallpapers-16.04, lomiri-wallpapers-20.04, ukui-wallpapers and gnome-backgrounds). No benchmark image is read.

The learning rate stays constant until ``--finish N`` takes it to zero over N further steps: a run can so be made longer
without having been planned. It goes on from ``OUT/last.pt`` when that exists.
"""

import argparse
import copy
import datetime
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PilImage
from torch import Tensor

from napari_recon.checkpoint import TrainedModel
from napari_recon.data.noise import stabilise, stabilised_mean
from napari_recon.data.noise_simulation import correlated_noise, lag1_correlation
from napari_recon.data.phantoms import random_phantom
from napari_recon.device import choose_precision
from napari_recon.models.autoencoder import AutoencoderConfig
from napari_recon.models.universal import UniversalUNet

Photos = list[np.ndarray]


def load_photographs(
    folders: list[Path],
    smallest: int,
    sizes: tuple[int, ...] = (1600, 1000, 640),
    resample: PilImage.Resampling = PilImage.Resampling.BOX,
) -> Photos:
    """Grey versions of all photographs at several sizes, at least halved to be free of noise and JPEG blocks.

    `sizes` are of the longer side; none is less than `smallest` pixels wide or high.
    """
    import skimage

    PilImage.MAX_IMAGE_PIXELS = None
    paths = [p for f in folders for p in sorted(f.rglob("*")) if p.suffix.lower() in {".jpg", ".png", ".webp"}]
    skip = ("screenshot", "images_dark", "1080x1920", "720x1440", "sway", "_3840x", "_5640x")
    paths = [p for p in paths if p.stat().st_size > 100_000 and not any(s in str(p) for s in skip)]
    photos = []
    for path in paths:
        picture = PilImage.open(path).convert("L")
        for longest in sizes:
            if longest * 2 <= max(picture.size) * 1.05:
                ratio = longest / max(picture.size)
                size = (round(picture.width * ratio), round(picture.height * ratio))
                photos.append(np.asarray(picture.resize(size, resample)))
    samples = Path(skimage.__file__).parent / "data"
    for path in sorted(samples.glob("*.png")) + sorted(samples.glob("*.jpg")):
        photos.append(np.asarray(PilImage.open(path).convert("L")))
    return [p for p in photos if min(p.shape) >= smallest]


class CleanPatches:
    """Endless clean patches in [0, 1]: a share from photographs, the rest from phantoms that are slowly replaced."""

    def __init__(self, photos: Photos, seed: int, phantoms: int = 300, share: float = 0.5) -> None:
        self.rng = np.random.default_rng(seed)
        self.photos, self.share = photos, share
        area = np.array([p.size for p in photos], float) ** 0.5
        self.chance = area / area.sum() if len(photos) else area
        self.phantoms = [random_phantom((256, 256), self.rng) for _ in range(phantoms)]
        self.draws = 0

    def draw(self, count: int, size: int) -> Tensor:
        """(count, 1, size, size) float32."""
        self.draws += 1
        if self.draws % 3 == 0:
            self.phantoms[self.rng.integers(len(self.phantoms))] = random_phantom((256, 256), self.rng)
        return torch.from_numpy(np.stack([self._patch(size) for _ in range(count)]))[:, None]

    def _patch(self, size: int) -> np.ndarray:
        rng = self.rng
        for _ in range(5):  # a nearly flat patch teaches little: redraw it most of the time
            if self.photos and rng.random() < self.share:
                source = self.photos[rng.choice(len(self.photos), p=self.chance)]
            else:
                source = self.phantoms[rng.integers(len(self.phantoms))]
            y, x = (rng.integers(0, n - size + 1) for n in source.shape)
            patch = source[y : y + size, x : x + size]
            patch = patch.astype(np.float32) / 255 if patch.dtype == np.uint8 else patch
            if patch.std() > 0.03 or rng.random() < 0.2:
                break
        if rng.random() < 0.5:
            patch = patch.T
        patch = patch[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
        if rng.random() < 0.3:  # dark fields with few bright things, as in fluorescence
            patch = patch ** rng.uniform(0.5, 2.5)
        if rng.random() < 0.15:
            patch = 1 - patch
        return np.ascontiguousarray(patch, dtype=np.float32)


def degrade(clean: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return (noisy, target, noise description) of variance-stabilised images, noise near one."""
    n = len(clean)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=rng, device=clean.device)

    kind = torch.rand(n, generator=rng, device=clean.device)
    blur = torch.zeros(n, 2, device=clean.device)
    even = uniform(0.3, 1.35, n, 1).expand(n, 2)
    uneven = uniform(0.0, 1.35, n, 2)
    blur = torch.where((kind > 0.55)[:, None], even, blur)
    blur = torch.where((kind > 0.85)[:, None], uneven, blur)
    stripes = torch.zeros(n, 2, device=clean.device)
    striped = (kind > 0.45) & (kind <= 0.5)
    stripes = torch.where(striped[:, None], uniform(0.0, 0.4, n, 2), stripes)
    noise = correlated_noise(tuple(clean.shape), blur, stripes, rng)

    sigma = torch.exp(uniform(math.log(2), math.log(100), n)) / 255
    photons = torch.exp(uniform(math.log(2), math.log(2000), n))
    read = torch.exp(uniform(math.log(0.3), math.log(8), n))
    signal_dependent = torch.rand(n, generator=rng, device=clean.device) < 0.5
    error = torch.randn(n, 2, generator=rng, device=clean.device)
    noisy, target = torch.empty_like(clean), torch.empty_like(clean)
    for i in range(n):
        if signal_dependent[i]:
            s = clean[i] * photons[i]
            intercept = float(read[i] ** 2)
            if kind[i] <= 0.45:
                raw = torch.poisson(s, generator=rng) + read[i] * noise[i]
            else:
                raw = s + (s + intercept).sqrt() * noise[i]
            # Gain and intercept are estimates at work: 12 and 20 % off, as `estimate_noise` is on phantoms.
            gain, level = float(error[i, 0].mul(0.12).exp()), intercept * float(error[i, 1].mul(0.2).exp())
            noisy[i] = stabilise(raw, gain, level)
            target[i] = stabilised_mean(s, gain, level, s + intercept)
        else:
            target[i] = clean[i] / sigma[i]
            noisy[i] = target[i] + noise[i]
    centre = noisy.mean(dim=(1, 2, 3), keepdim=True)
    spread = noisy.std(dim=(1, 2, 3), keepdim=True)
    centre = centre + spread * torch.randn(n, 1, 1, 1, generator=rng, device=clean.device)
    # The network is told the noise as well as it can be estimated, not better.
    told_sigma = torch.exp(0.08 * torch.randn(n, 1, generator=rng, device=clean.device))
    told_correlation = lag1_correlation(noise) + 0.04 * torch.randn(n, 2, generator=rng, device=clean.device)
    told = torch.cat([told_sigma, told_sigma * told_correlation.clamp(-0.2, 1)], dim=1)
    return noisy - centre, target - centre, told


def residual_error(network: torch.nn.Module, noisy: Tensor, target: Tensor, told: Tensor) -> Tensor:
    """Root mean squared error of each patch, in units of the noise."""
    precision = choose_precision(noisy.device)
    with torch.autocast(noisy.device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
        denoised = network(noisy, told)
    return (denoised.float() - target).square().mean(dim=(1, 2, 3)).add(1e-8).sqrt()


@torch.no_grad()
def validate(network: torch.nn.Module, batches: list[tuple[Tensor, Tensor, Tensor]]) -> float:
    """Mean gain over the noisy image in decibels, on patches never trained on."""
    errors = torch.cat([residual_error(network, *b) for b in batches])
    noisy = torch.cat([(b[0] - b[1]).square().mean(dim=(1, 2, 3)).sqrt() for b in batches])
    return float(20 * torch.log10(noisy / errors).mean())


def export(network: torch.nn.Module, out: Path, step: int, script: str = "scripts/pretrain_denoiser.py") -> None:
    """Write the model file as it ships, in half precision."""
    provenance = {
        "created": datetime.date.today().isoformat(),
        "script": script,
        "steps": step,
        "data": "procedural phantoms, scikit-image samples, freely licensed photographs (see the card)",
        "licence": "BSD-3-Clause",
    }
    weights = {k: v.detach().cpu() for k, v in network.state_dict().items()}
    config = AutoencoderConfig(network="universal")
    TrainedModel("autoencoder", config, weights, None, provenance, name="universal").save(
        out / "universal.safetensors", half=True
    )


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=Path, nargs="*", default=[])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--finish", type=int, default=0, help="go on for this many steps with a falling learning rate")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=6e-4)
    parser.add_argument("--photographs", type=float, default=0.5, help="share of the patches that are photographs")
    parser.add_argument("--start", type=Path, help="begin a run with the weights of this model file")
    parser.add_argument("--mean-with", type=Path, help="only export the mean of OUT/last.pt and this model file")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    if args.mean_with:
        state = torch.load(args.out / "last.pt", map_location="cpu", weights_only=True)
        other = TrainedModel.load(args.mean_with).weights
        network = UniversalUNet()
        network.load_state_dict({name: (w + other[name].float()) / 2 for name, w in state["averaged"].items()})
        export(network, args.out, state["step"])
        return
    device = torch.device(args.device)
    photos = load_photographs(args.images, args.patch)
    held_out, photos = photos[::15], [p for i, p in enumerate(photos) if i % 15]
    print(f"{len(photos)} photographs at {sum(p.size for p in photos) / 1e6:.0f} megapixels", flush=True)
    fixed = torch.Generator(device).manual_seed(1)
    unseen = CleanPatches(held_out, seed=1, phantoms=60)
    validation = [degrade(unseen.draw(32, 64).to(device), fixed) for _ in range(8)]

    torch.manual_seed(args.seed)
    network = UniversalUNet()
    if args.start:
        network.load_state_dict({k: v.float() for k, v in TrainedModel.load(args.start).weights.items()})
    network = network.to(device, memory_format=torch.channels_last)
    averaged = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=args.learning_rate, weight_decay=1e-4, betas=(0.9, 0.99))
    step = 0
    last = args.out / "last.pt"
    if last.exists():
        saved = torch.load(last, map_location=device, weights_only=True)
        network.load_state_dict(saved["network"])
        averaged.load_state_dict(saved["averaged"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]
    rng = torch.Generator(device).manual_seed(args.seed + step)
    clean = CleanPatches(photos, seed=args.seed + step, share=args.photographs)

    def save() -> None:
        state = {"network": network.state_dict(), "averaged": averaged.state_dict(), "step": step}
        torch.save({**state, "optimizer": optimizer.state_dict()}, last.with_suffix(".tmp"))
        last.with_suffix(".tmp").replace(last)
        export(averaged, args.out, step)

    first, end = step, step + args.finish if args.finish else args.steps
    began, running = time.time(), 0.0
    while step < end:
        fall = (end - step) / args.finish if args.finish else 1.0
        optimizer.param_groups[0]["lr"] = args.learning_rate * fall * min(1.0, (step + 1) / 300)
        loss = residual_error(network, *degrade(clean.draw(args.batch, args.patch).to(device), rng)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            decay = min(0.999, step / (step + 100))
            torch._foreach_lerp_(list(averaged.parameters()), list(network.parameters()), 1 - decay)
        running += float(loss.detach())
        if step % 500 == 0 or step == end:
            entry = {
                "step": step,
                "loss": round(running / (500 if step % 500 == 0 else step % 500), 4),
                "validation_gain_db": round(validate(averaged, validation), 3),
                "seconds_a_step": round((time.time() - began) / (step - first), 3),
            }
            running = 0.0
            with (args.out / "log.jsonl").open("a") as log:
                log.write(json.dumps(entry) + "\n")
            print(entry, flush=True)
            save()
    save()


if __name__ == "__main__":
    main()
