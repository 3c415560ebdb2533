"""Quality of VAEs trained on single noisy images: samples, their mean and spread, and images from the prior.

python benchmarks/quality_vae.py [fmd] [prior] [phantoms] [train400] [--minutes 10 | --steps N] [--models FOLDER]

``fmd`` trains on each noisy channel alone; its truths are means of 50 shots, whose own noise belongs to the intervals.
``prior`` generates from those models and compares with the image they learned. ``phantoms`` trains on simulated
images with known truth, and tells how much wider intervals have to be than what neighbours share shows (GRAIN in
inference/calibration.py). ``train400`` trains on the noisy `train400` for `--minutes` and denoises `bsd68`. Models in
--models are used again instead of trained.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _common import DATA, fluorescence, psnr, report, timed
from numpy.typing import NDArray
from scipy.stats import spearmanr, wasserstein_distance

from napari_recon import api
from napari_recon.checkpoint import TrainedModel
from napari_recon.data.phantoms import random_phantom
from napari_recon.inference import calibration

Row = dict[str, Any]
Pixels = NDArray[Any]
Z90 = calibration.INTERVAL


def trained(name: str, noisy: Pixels, folder: Path | None, **options: Any) -> tuple[TrainedModel, float]:
    """Train on an image, or load what was trained before; also the seconds that the training took."""
    path = folder / f"{name}.safetensors" if folder else None
    if path and path.exists():
        model = api.load_model(path)
        return model, float(model.provenance["wall_seconds"])
    model, seconds = timed(lambda: api.train("vae", noisy, **options))
    model.provenance["wall_seconds"] = seconds
    if path:
        model.save(path)
    return model, seconds


def spectrum(image: Pixels) -> Pixels:
    """Radially averaged power spectrum up to the Nyquist frequency, without the mean."""
    window = np.outer(*(np.hanning(n) for n in image.shape))
    power = np.abs(np.fft.fftshift(np.fft.fft2((image - image.mean()) * window))) ** 2
    y, x = (np.fft.fftshift(np.fft.fftfreq(n)) for n in image.shape)
    bins = (np.hypot(y[:, None], x) * 64).astype(int)
    sums, counts = (np.bincount(bins.ravel(), w) for w in (power.ravel(), None))
    return np.asarray((sums / counts)[1:32])


def spectral_distance(image: Pixels, reference: Pixels) -> float:
    """Mean distance of two power spectra in decibels."""
    return float(np.abs(10 * np.log10(spectrum(image) / spectrum(reference))).mean())


def fmd(folder: Path | None, options: Row) -> Iterator[Row]:
    """Samples of each channel against the mean of 50 shots."""
    for channel, (noisy, truth) in fluorescence().items():
        model, seconds = trained(f"fmd_{channel}", noisy, folder, **options)
        made = api.sample(noisy, model, 100, outputs=("samples", "mean", "std"))
        samples, direct = made.samples, made.mean
        of_fifty, of_all = (
            api.sample(noisy, model, n, outputs=("mean",), mean_of_samples=True).mean for n in (50, 100)
        )
        error = np.abs(direct - truth)
        noise = model.normalization.noise[0]  # type: ignore[union-attr]
        # The truth is the mean of 50 shots, rounded: it errs too.
        of_truth = np.maximum(noise.gain * direct + noise.intercept, noise.read_noise**2) / 50 + 1 / 12
        found = model.provenance["calibration"] or {}
        yield {
            "data": f"fmd {channel}",
            "mean of 50": psnr(truth, of_fifty),
            "mean of 100": psnr(truth, of_all),
            "one pass": psnr(truth, direct),
            "one sample": float(np.mean([psnr(truth, s) for s in samples[:10]])),
            "rank correlation": float(spearmanr(made.std.ravel(), np.abs(of_all - truth).ravel())[0]),
            "factor": found.get("factor"),
            "90 % holds truth": float((error < Z90 * np.sqrt(made.std**2 + of_truth)).mean()),
            "as if truth had no noise": float((error < Z90 * made.std).mean()),
            "90 % holds noisy": found.get("coverage"),
            "spectrum dB: sample": float(np.mean([spectral_distance(s, truth) for s in samples[:10]])),
            "spectrum dB: mean": spectral_distance(of_all, truth),
            "steps": model.provenance["steps"],
            "seconds": seconds,
        }


def prior(folder: Path | None, options: Row) -> Iterator[Row]:
    """64 generated images against the noisy image learned from, beside Gaussian fields."""
    rng = np.random.default_rng(0)
    for channel, (noisy, _) in fluorescence().items():
        model, _ = trained(f"fmd_{channel}", noisy, folder, **options)
        made = api.generate(model, (128, 128), 64, noise=True)
        field = rng.normal(noisy.mean(), noisy.std(), made.shape)
        row: Row = {"data": f"fmd {channel}"}
        parts = np.stack([noisy[y : y + 128, x : x + 128] for y in range(0, 385, 128) for x in range(0, 385, 128)])
        reference = np.mean([spectrum(p.astype(float)) for p in parts], axis=0)
        for name, images in (("generated", made), ("Gaussian field", field)):
            mean = np.mean([spectrum(i) for i in images], axis=0)
            row[f"spectrum dB: {name}"] = float(np.abs(10 * np.log10(mean / reference)).mean())
            row[f"histogram: {name}"] = float(wasserstein_distance(images.ravel()[::7], noisy.ravel()))
        row["spectrum closer by"] = row["spectrum dB: Gaussian field"] / row["spectrum dB: generated"]
        row["histogram closer by"] = row["histogram: Gaussian field"] / row["histogram: generated"]
        yield row


def phantoms(folder: Path | None, options: Row) -> Iterator[Row]:
    """Simulated images: the factor that 90 % intervals need, over what the calibration finds without GRAIN."""
    rng = np.random.default_rng(3)
    for number, photons in enumerate((20, 60, 200)):
        clean = random_phantom((512, 512), rng) * photons
        noisy = (rng.poisson(clean) + rng.normal(0, 1, clean.shape)).astype(np.float32)
        model, _ = trained(f"phantom_{number}", noisy, folder, **options)
        made = api.sample(noisy, model, 50)
        found = (model.provenance["calibration"] or {}).get("factor", float("nan"))
        needed = np.quantile(np.abs(made.mean - clean) / made.std, 0.9) / Z90 * calibration.GRAIN
        yield {"data": f"phantom, {photons} photons", "factor": found, "needed over found without GRAIN": float(needed)}


def train400(folder: Path | None, options: Row) -> Iterator[Row]:
    """Denoise `bsd68` at sigma 25 after training on the noisy `train400`; float noise, not clipped."""
    rng = np.random.default_rng(0)

    def images(name: str) -> list[Pixels]:
        paths = sorted((DATA / name).glob("*.png"))
        return [api.read_image(p).array.astype(np.float32) for p in paths]

    learned = [i + rng.normal(0, 25, i.shape).astype(np.float32) for i in images("train400")]
    model, seconds = trained("train400", learned, folder, **options)  # type: ignore[arg-type]
    scores = []
    for clean in images("bsd68"):
        noisy = clean + rng.normal(0, 25, clean.shape).astype(np.float32)
        scores.append(psnr(clean, api.sample(noisy, model, outputs=("mean",)).mean))
    yield {"data": "bsd68, sigma 25", "one pass": float(np.mean(scores)), "seconds": seconds}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"fmd": fmd, "prior": prior, "phantoms": phantoms, "train400": train400}
    parser.add_argument("parts", nargs="*", default=["fmd", "prior", "phantoms"])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--steps", type=int, help="instead of --minutes")
    parser.add_argument("--models", type=Path)
    args = parser.parse_args()
    if args.models:
        args.models.mkdir(parents=True, exist_ok=True)
    budget: Row = {"steps": args.steps} if args.steps else {"minutes": args.minutes}
    for part in args.parts:
        rows = []
        for row in parts[part](args.models, budget):
            rows.append(row)
            print(row, flush=True)
        report(f"quality_vae_{part}", rows)
