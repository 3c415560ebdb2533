"""Teach the universal denoiser to answer once as it answers eight times.

    python scripts/distil_denoiser.py --images FOLDER [FOLDER ...] --teacher MODEL.safetensors --out distilled

The mean of the answers to an image turned and mirrored in all eight ways is better than each by 0.2 dB (self-ensemble,
Timofte et al., CVPR 2016). It is also near the mean of all images that a noisy one may come from, around which the
truth scatters: a steadier target than the truth (Hinton et al., "Distilling the knowledge in a neural network", 2015).
Images and noise are those of `pretrain_denoiser.py`. The shipped weights took 57 minutes of one core in bfloat16.

It goes on from ``OUT/last.pt`` when that exists; the learning rate falls to zero over the second half of its minutes.
"""

import argparse
import copy
from pathlib import Path

import torch
from _core_minutes import CoreMinutes
from pretrain_denoiser import CleanPatches, UniversalUNet, degrade, export, load_photographs, validate
from torch import Tensor, nn

from napari_recon.checkpoint import TrainedModel
from napari_recon.device import choose_precision

MIRRORED = ((), (-1,), (-2,), (-2, -1))
KEPT = 64  # batches with the teacher's answer
USES = 4  # of each of them, in orientations by chance
LEAST = 1e-3  # error of the teacher, of the variance of the noise; less counts as this much


def turn(image: Tensor, transposed: bool, axes: tuple[int, ...]) -> Tensor:
    """One of the eight orientations of (N, 1, Y, X)."""
    return (image.mT if transposed else image).flip(axes).contiguous()


def turn_told(told: Tensor, transposed: bool) -> Tensor:
    """What is told of the noise of a turned image: along Y and along X may change places."""
    return told[:, [0, 2, 1]] if transposed else told


def eight_answers(network: nn.Module, noisy: Tensor, told: Tensor) -> Tensor:
    """Mean answer to the image in all orientations."""
    answers = []
    for axes in MIRRORED:
        answers.append(network(noisy.flip(axes), told).float().flip(axes))
        answers.append(network(turn(noisy, True, axes), turn_told(told, True)).float().flip(axes).mT)
    return torch.stack(answers).mean(dim=0)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=Path, nargs="*", default=[])
    parser.add_argument("--teacher", type=Path, required=True, help="model file of the universal denoiser")
    parser.add_argument("--core-minutes", type=float, default=57)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--learning-rate", type=float, default=1.5e-4)
    parser.add_argument("--photographs", type=float, default=0.5, help="share of the patches that are photographs")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    photos = load_photographs(args.images, args.patch)
    held_out, photos = photos[::15], [p for i, p in enumerate(photos) if i % 15]
    print(f"{len(photos)} photographs at {sum(p.size for p in photos) / 1e6:.0f} megapixels", flush=True)
    unseen, fixed = CleanPatches(held_out, seed=1, phantoms=60), torch.Generator().manual_seed(1)
    validation = [degrade(unseen.draw(8, 128), fixed) for _ in range(16)]

    network = UniversalUNet()
    network.load_state_dict({k: v.float() for k, v in TrainedModel.load(args.teacher).weights.items()})
    network = network.to(memory_format=torch.channels_last)
    teacher = copy.deepcopy(network).requires_grad_(False)
    inner = [p for p in network.parameters() if p.shape[-1] == 3 and p.shape[0] == p.shape[1]]
    training = CoreMinutes(network, inner, args.out, args.core_minutes, args.learning_rate)
    rng = torch.Generator().manual_seed(args.seed + training.step)
    clean = CleanPatches(photos, seed=args.seed + training.step, share=args.photographs)
    bfloat16 = choose_precision(torch.device("cpu")) is torch.bfloat16
    kept: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    while training.used < 1:
        if not kept or training.step % USES == 0:
            noisy, truth, told = degrade(clean.draw(args.batch, args.patch), rng)
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                answer = eight_answers(teacher, noisy, told)
            # Decibels count: so each patch is weighed by the error that the teacher leaves.
            weight = (answer - truth).square().mean(dim=(1, 2, 3)).clamp_min(LEAST).rsqrt()
            kept = [*kept[-KEPT + 1 :], (noisy, answer, told, weight)]
        which, mirror, transposed = (int(torch.randint(n, (), generator=rng)) for n in (len(kept), len(MIRRORED), 2))
        noisy, target, told, weight = kept[which]
        orientation = bool(transposed), MIRRORED[mirror]
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            answer = network(turn(noisy, *orientation), turn_told(told, bool(transposed)))
        error = (answer.float() - turn(target, *orientation)).square().mean(dim=(1, 2, 3))
        training.update((weight * error).mean())
        if training.step % 100 == 0 or training.used >= 1:
            training.note({"validation_gain_db": round(validate(training.averaged, validation), 3)})
            script = "scripts/pretrain_denoiser.py, then scripts/distil_denoiser.py"
            export(training.averaged, args.out, training.step, script)


if __name__ == "__main__":
    main()
