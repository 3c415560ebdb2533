"""Generated texture beside its source: brick, grass and gravel of scikit-image.

A texture is learned from the left three quarters of each image; the right quarter is held out. Told are the distances
of power spectrum and histogram from the source, beside those of the held-out part and of random fields; how near the
nearest neighbourhood of the source comes to one that was generated, beside one that was held out (a copy would be at
0); and the step across the border of a seamless texture laid beside itself, next to a step inside (1: no seam).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from _common import report, timed
from numpy.typing import NDArray
from scipy.signal import fftconvolve
from scipy.stats import wasserstein_distance
from skimage import data

from napari_recon import generate, train

NAMES = ("brick", "grass", "gravel")
WINDOW = 128  # side of what a spectrum is measured on
NEIGHBOURHOOD = 24  # side of what is looked for in the source
LOOKED_FOR = 40

Pixels = NDArray[np.float64]


def spectrum(image: Pixels) -> Pixels:
    """Mean power spectrum of overlapping windows in dB, without the mean."""
    taper = np.outer(np.hanning(WINDOW), np.hanning(WINDOW))
    starts = [range(0, n - WINDOW + 1, WINDOW // 4) for n in image.shape]
    windows = [image[i : i + WINDOW, j : j + WINDOW] for i in starts[0] for j in starts[1]]
    power = np.mean([np.abs(np.fft.rfft2((w - w.mean()) * taper)) ** 2 for w in windows], axis=0)
    return 10 * np.log10(power + 1e-9).ravel()[1:]


def nearest(image: Pixels, source: Pixels) -> float:
    """Median, over places of an image, of the RMS distance to the nearest neighbourhood of the source; in its std."""
    size, rng = NEIGHBOURHOOD, np.random.default_rng(0)
    box = np.ones((size, size))
    energy = fftconvolve(source**2, box, mode="valid")
    found = []
    for _ in range(LOOKED_FOR):
        i, j = (rng.integers(0, n - size + 1) for n in image.shape)
        patch = image[i : i + size, j : j + size]
        distance = energy - 2 * fftconvolve(source, patch[::-1, ::-1], mode="valid") + (patch**2).sum()
        found.append(np.sqrt(max(distance.min(), 0) / size**2) / source.std())
    return float(np.median(found))


def random_phases(source: Pixels, rng: np.random.Generator) -> Pixels:
    """A Gaussian field with the spectrum of the source: all that its second moments say."""
    white = rng.normal(size=source.shape)
    amplitude = np.abs(np.fft.fft2(source - source.mean())) / np.sqrt(source.size)
    return np.fft.ifft2(np.fft.fft2(white) * amplitude).real + source.mean()


def seam(tile: Pixels) -> float:
    """Step across the border over the step inside, the larger of both axes."""
    steps = [np.abs(tile.take(0, a) - tile.take(-1, a)).mean() / np.abs(np.diff(tile, axis=a)).mean() for a in (0, 1)]
    return float(max(steps))


def main(names: list[str], minutes: float) -> None:
    rows = []
    for name in names:
        image = getattr(data, name)()
        cut = image.shape[1] * 3 // 4
        source, held_out = (x.astype(np.float64) for x in (image[:, :cut], image[:, cut:]))
        rng = np.random.default_rng(0)
        model, seconds = timed(lambda source=source: train("texture", source, minutes=minutes))
        made = generate(model, source.shape, 2, seed=1).astype(np.float64)
        tile = generate(model, (256, 256), seed=2, tileable=True)[0].astype(np.float64)
        candidates = {
            "generated": made[0],
            "held out": held_out,
            "white noise": rng.normal(source.mean(), source.std(), source.shape),
            "random phases": random_phases(source, rng),
        }
        target = spectrum(source)
        for kind, pixels in candidates.items():
            rows.append(
                {
                    "texture": name,
                    "what": kind,
                    "spectrum dB": float(np.abs(spectrum(pixels) - target).mean()),
                    "histogram": wasserstein_distance(pixels.ravel(), source.ravel()) / source.std(),
                    "nearest": nearest(pixels, source),
                }
            )
        rows[-len(candidates)] |= {
            "seam": seam(tile),
            "two seeds": nearest(made[1], made[0]),
            "steps": model.provenance["steps"],
            "minutes": seconds / 60,
        }
        report(Path(__file__).stem, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--names", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--minutes", type=float, default=3.0)
    arguments = parser.parse_args()
    main(arguments.names, arguments.minutes)
