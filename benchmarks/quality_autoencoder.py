"""Quality of autoencoders trained on two CPU cores: `fmd`, `w2s10`, and the article's CIFAR-10 example.

python benchmarks/quality_autoencoder.py [fmd] [adapt] [w2s10] [cifar10] [--seconds 190]

``fmd`` and ``w2s10`` train the blind-spot U-Net from nothing on the noisy images alone; ``adapt`` does what `train`
does by default, which is to go on from the universal denoiser.
"""

import argparse
import io
import zipfile
from typing import Any

import numpy as np
from _common import CLASSICAL, DATA, fluorescence, psnr, report, timed, widefield
from PIL import Image as PilImage

from napari_recon import api
from napari_recon.quality.metrics import si_psnr

Row = dict[str, Any]


def fmd(seconds: float, start_from: str | None) -> list[Row]:
    """Train on each noisy channel alone and compare with the mean of 50 shots."""
    rows = []
    for channel, (noisy, truth) in fluorescence().items():
        rows.append({"data": f"fmd {channel}", "method": "noisy", "psnr": psnr(truth, noisy)})
        for name, run in CLASSICAL.items():
            done, took = timed(lambda run=run, noisy=noisy: run(noisy))  # type: ignore[misc]
            if done is not None:
                rows.append({"data": f"fmd {channel}", "method": name, "psnr": psnr(truth, done), "seconds": took})
        model, took = timed(
            lambda noisy=noisy: api.train("autoencoder", noisy, minutes=seconds / 60, start_from=start_from)  # type: ignore[misc]
        )
        done = api.denoise(noisy, model)
        method = "blind-spot U-Net" if start_from is None else "universal, fine-tuned"
        rows.append(
            {
                "data": f"fmd {channel}",
                "method": method,
                "psnr": psnr(truth, done),
                "seconds": took,
                "steps": model.provenance["steps"],
            }
        )
        print(rows[-1], flush=True)
    return rows


def w2s10(seconds: float) -> list[Row]:
    """Train one model on the ten noisy fields."""
    noisy, truth = widefield()
    rows: list[Row] = [{"data": "w2s10", "method": "noisy", "si_psnr": _mean_si_psnr(truth, noisy)}]
    for name, run in CLASSICAL.items():
        done = [run(n) for n in noisy]
        if done[0] is not None:
            rows.append({"data": "w2s10", "method": name, "si_psnr": _mean_si_psnr(truth, np.stack(done))})  # type: ignore[arg-type]
    model, took = timed(lambda: api.train("autoencoder", noisy, axes="TYX", minutes=seconds / 60, start_from=None))
    score = _mean_si_psnr(truth, api.denoise(noisy, model, axes="TYX"))
    row = {"data": "w2s10", "method": "blind-spot U-Net, one for ten", "si_psnr": score, "seconds": took}
    return [*rows, row | {"steps": model.provenance["steps"]}]


def _mean_si_psnr(truth: np.ndarray[Any, Any], image: np.ndarray[Any, Any]) -> float:
    return float(np.mean([si_psnr(t, i) for t, i in zip(truth, image, strict=True)]))


def cifar10(seconds: float) -> list[Row]:
    """The article's example: a code of 128 numbers for a 32 x 32 colour image, beside PCA of the same length."""
    images: dict[str, list[np.ndarray[Any, Any]]] = {"train": [], "test": []}
    with zipfile.ZipFile(DATA / "cifar10" / "cifar10_jpg_train5000_test1000.zip") as archive:
        for name in archive.namelist():
            part = next((p for p in images if name.startswith(p) or f"/{p}/" in name), None)
            if part and name.endswith(".jpg"):
                picture = PilImage.open(io.BytesIO(archive.read(name))).convert("RGB")
                images[part].append(np.asarray(picture, np.float32) / 255)
    train, test = (np.stack(images[p]) for p in ("train", "test"))
    model, took = timed(
        lambda: api.train(
            "autoencoder",
            train,
            axes="SYXC",
            network="bottleneck",
            channels=3,
            code_length=128,
            minutes=seconds / 60,
            batch_size=64,
            patch_size=32,
            learning_rate=1e-3,
        )
    )
    loss = float(np.mean((api.denoise(test, model, axes="SYXC") - test) ** 2))
    flat, unseen = train.reshape(len(train), -1), test.reshape(len(test), -1)
    mean = flat.mean(axis=0)
    axes = np.linalg.svd(flat - mean, full_matrices=False)[2][:128]
    pca = float(np.mean(((unseen - mean) @ axes.T @ axes + mean - unseen) ** 2))
    return [
        {"data": "cifar10 test", "method": "bottleneck, code 128", "mse": loss, "seconds": took},
        {"data": "cifar10 test", "method": "PCA, 128 components", "mse": pca},
    ]


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["fmd", "adapt", "w2s10", "cifar10"])
    parser.add_argument("--seconds", type=float, default=185.0, help="training time of each model")
    args = parser.parse_args()
    if "fmd" in args.parts:
        report("quality_autoencoder_fmd", fmd(args.seconds, None))
    if "adapt" in args.parts:
        report("quality_autoencoder_adapt", fmd(args.seconds, "auto"))
    if "w2s10" in args.parts:
        report("quality_autoencoder_w2s10", w2s10(args.seconds))
    if "cifar10" in args.parts:
        report("quality_autoencoder_cifar10", cifar10(2 * args.seconds))


if __name__ == "__main__":
    main()
