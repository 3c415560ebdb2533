"""Train the upscalers that ship with napari-recon.

    python scripts/pretrain_upscaler.py --out pretraining/x2 --scale 2 --images FOLDER [FOLDER ...]
    python scripts/pretrain_upscaler.py --out pretraining/x4 --scale 4 --start MODEL.safetensors --images ...
    python scripts/pretrain_upscaler.py --out resized --scale 2 --name upscale-x2-resized --bicubic 1 --images ...

Images: as for `pretrain_denoiser.py`, procedural phantoms, scikit-image's samples and the freely licensed photographs
of any folder given. No benchmark image is read.

Low resolution is made in two ways: half of the patches (``--bicubic``) by MATLAB's bicubic, rounded to 8 bits, as the
public test sets were; the others by a microscope's optics: Gaussian PSF, area binning, Poisson and read noise of random
strengths. What a microscope is shown is mostly softer than its pixels, as lenses draw it, and never free of grain, as
long exposures are: without that the network sharpens noise. The noise tells the network which of the two it sees.

The budget is processor time, so that other work on the machine changes nothing. It goes on from ``OUT/last.pt`` when
that exists; the learning rate falls over the second half of the budget, which a later run can so make longer.
"""

import argparse
import datetime
import math
from pathlib import Path

import torch
from _core_minutes import CoreMinutes
from PIL import Image as PilImage
from pretrain_denoiser import CleanPatches, load_photographs
from torch import Tensor, nn

from napari_recon.checkpoint import TrainedModel
from napari_recon.data.degradation import area_bin, bicubic_downsample, blur, gaussian_kernels, shot_and_read_noise
from napari_recon.device import choose_precision
from napari_recon.models._blocks import channels_last
from napari_recon.models.gan import GANConfig, build
from napari_recon.models.generators import enlarge
from napari_recon.quality.trust import typical_roughness

Pairs = list[tuple[Tensor, Tensor]]


def by_bicubic(fine: Tensor, scale: int) -> Tensor:
    """Low-resolution images of (N, 1, Y, X) in [0, 1] as public test sets have them."""
    return (bicubic_downsample(fine, scale).clamp(0, 1) * 255).round() / 255


def by_optics(fine: Tensor, scale: int, rng: torch.Generator) -> Tensor:
    """Low-resolution images of (N, 1, Y, X) in [0, 1] as microscopes of random sharpness and light make them."""
    n = len(fine)
    sigma = torch.where(_chance(n, 0.2, rng), 0.0, _uniform(n, 0, 0.5 * scale, rng))
    micrographs = area_bin(blur(fine, gaussian_kernels(sigma)), scale)
    photons = _log_uniform(n, 50, 1e6, rng)[:, None, None, None]
    read = _log_uniform(n, 0.3, 5, rng)[:, None, None, None]
    noisy = shot_and_read_noise(micrographs, photons, read, rng)
    return torch.where(_chance(n, 0.3, rng)[:, None, None, None], micrographs, noisy)


def _uniform(n: int, low: float, high: float, rng: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=rng)


def _log_uniform(n: int, low: float, high: float, rng: torch.Generator) -> Tensor:
    return torch.exp(_uniform(n, math.log(low), math.log(high), rng))


def _chance(n: int, share: float, rng: torch.Generator) -> Tensor:
    return torch.rand(n, generator=rng) < share


def sharp(fine: Tensor, rng: torch.Generator) -> Tensor:
    """Blur half of the images a little, and raise the contrast of some until they saturate, as published ones do."""
    n = len(fine)
    fine = blur(fine, gaussian_kernels(torch.where(_chance(n, 0.5, rng), 0.0, _uniform(n, 0, 0.8, rng))))
    contrast = torch.where(_chance(n, 0.6, rng), 1.0, _log_uniform(n, 1, 4, rng))[:, None, None, None]
    mean = fine.mean(dim=(1, 2, 3), keepdim=True)
    return (mean + contrast * (fine - mean)).clamp(0, 1)


def soft(fine: Tensor, rng: torch.Generator) -> Tensor:
    """Blur most of the images, as lenses do, and add grain to most, as long exposures have."""
    n = len(fine)
    fine = blur(fine, gaussian_kernels(torch.where(_chance(n, 0.3, rng), 0.0, _uniform(n, 0, 2.5, rng))))
    grain = torch.where(_chance(n, 0.2, rng), 0.0, _log_uniform(n, 5e-4, 0.05, rng))
    return fine + grain[:, None, None, None] * torch.randn(fine.shape, generator=rng)


def make_pairs(clean: Tensor, first: int, scale: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Low-resolution images and what they were made of: the `first` by bicubic, the others by optics."""
    parts = []
    if first:
        fine = sharp(clean[:first], rng)
        parts.append((by_bicubic(fine, scale), fine))
    if first < len(clean):
        fine = soft(clean[first:], rng)
        parts.append((by_optics(fine, scale, rng), fine))
    coarse, fine = (torch.cat(p) for p in zip(*parts, strict=True))
    return coarse, fine


def distance(error: Tensor, first: int) -> Tensor:
    """Charbonnier's distance of the `first` patches plus the mean root-mean-square of the rest, one by one.

    Edges count most in the first, as in the PSNR of whole photographs; in the second dim and smooth fields count as
    much as any.
    """
    public, optical = error[:first].square(), error[first:].square()
    charbonnier = public.add(1e-6).sqrt().mean(dim=(1, 2, 3))
    roots = optical.mean(dim=(1, 2, 3)).add(1e-8).sqrt()
    return 2 * torch.cat([charbonnier, roots]).mean()


@torch.no_grad()
def validate(network: nn.Module, pairs: Pairs, first: int, scale: int) -> dict[str, float]:
    """Mean gain over bicubic enlargement in decibels, for each way of making low resolution."""
    gains = []
    for low, fine in pairs:
        errors = [(f(low) - fine).square().mean(dim=(1, 2, 3)) for f in (network, lambda x: enlarge(x, scale))]
        gains.append(10 * torch.log10((errors[1] + 1e-8) / (errors[0] + 1e-8)))
    table = torch.stack(gains)
    parts = {"gain_bicubic_db": table[:, :first], "gain_optics_db": table[:, first:]}
    return {name: round(float(part.mean()), 3) for name, part in parts.items() if part.numel()}


def start_from(network: nn.Module, scale: int, path: Path) -> None:
    """Take over the weights of a model file, but for the last layer's where it is of another scale."""
    model = TrainedModel.load(path)
    assert isinstance(model.config, GANConfig)
    kept = {k: v for k, v in model.weights.items() if model.config.scale == scale or "tail" not in k}
    network.load_state_dict(kept, strict=False)


def export(network: nn.Module, config: GANConfig, path: Path, use: str, step: int, minutes: float, seen: Pairs) -> None:
    """Write the model file as it ships, in half precision; `seen` is like what it learned from."""
    provenance = {
        "created": datetime.date.today().isoformat(),
        "script": "scripts/pretrain_upscaler.py",
        "steps": step,
        "core_minutes": round(minutes, 1),
        "roughness": typical_roughness(image.numpy() for low, _ in seen for image in low[:, 0]),
        "data": "procedural phantoms, scikit-image samples, freely licensed photographs (see the card)",
        "licence": "BSD-3-Clause",
        "use": use,
    }
    weights = {k: v.detach().clone() for k, v in network.state_dict().items()}
    TrainedModel("gan", config, weights, None, provenance, name=path.stem).save(path, half=True)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scale", type=int, required=True)
    parser.add_argument("--images", type=Path, nargs="*", default=[])
    parser.add_argument("--name", help="of the model; upscale-x2 or upscale-x4 when left out")
    parser.add_argument("--use", default="", help="which images it is for, in words")
    parser.add_argument("--bicubic", type=float, default=0.5, help="share of the patches made coarse by bicubic")
    parser.add_argument("--start", type=Path, help="begin with the weights of this model file, of any scale")
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--core-minutes", type=float, default=45.0)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--patch", type=int, default=40, help="side of a patch at low resolution")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--photographs", type=float, default=0.7, help="share of the patches that are photographs")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    # What software made smaller has its light spread otherwise than in squares.
    light = args.scale == 2 and args.bicubic < 1
    config = GANConfig(scale=args.scale, features=args.features, blocks=args.blocks, keeps_light=light)
    side, name = args.patch * args.scale, args.name or f"upscale-x{args.scale}"

    # What was made smaller by software is sharp to the last pixel.
    if args.bicubic == 1:
        photos = load_photographs(args.images, side, (1000, 640, 400), PilImage.Resampling.LANCZOS)
    else:
        photos = load_photographs(args.images, side)
    held_out, photos = photos[::15], [p for i, p in enumerate(photos) if i % 15]
    print(f"{len(photos)} photographs at {sum(p.size for p in photos) / 1e6:.0f} megapixels", flush=True)
    fixed = torch.Generator().manual_seed(1)
    unseen = CleanPatches(held_out, seed=1, phantoms=40, share=args.photographs)
    first, first_unseen = (round(args.bicubic * n) for n in (args.batch, 32))
    validation = [make_pairs(unseen.draw(32, side), first_unseen, args.scale, fixed) for _ in range(4)]

    torch.manual_seed(args.seed)
    network = channels_last(build(config))
    precision = choose_precision(torch.device("cpu"))
    if args.start:
        start_from(network, args.scale, args.start)
    inner = [p for name, p in network.named_parameters() if "body" in name or "merge" in name]
    training = CoreMinutes(network, inner, args.out, args.core_minutes, args.learning_rate)
    rng = torch.Generator().manual_seed(args.seed + training.step)
    patches = CleanPatches(photos, seed=args.seed + training.step, share=args.photographs)

    while training.used < 1:
        coarse, fine = make_pairs(patches.draw(args.batch, side), first, args.scale, rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
            enlarged = network(coarse)
        training.update(distance(enlarged - fine, first))
        if training.step % 250 == 0 or training.used >= 1:
            averaged = training.averaged
            training.note(validate(averaged, validation, first_unseen, args.scale))
            target = args.out / f"{name}.safetensors"
            export(averaged, config, target, args.use, training.step, training.minutes, validation)


if __name__ == "__main__":
    main()
