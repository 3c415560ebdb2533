"""Generated texture beside its source: brick, grass and gravel of scikit-image.

A texture is learned from the left three quarters of each image; the right quarter is held out. Told are the distances
of power spectrum and histogram from the source, beside those of the held-out part and of random fields; how near the
nearest neighbourhood of the source comes to one that was generated, beside one that was held out (a copy would be at
0); how near it comes in a texture from another seed; and the mean step across all borders of seamless textures laid
beside themselves, next to a step inside (1: no seam), with how far a line inside strays from that.
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
from skimage.io import imsave

from napari_recon import generate, train

NAMES = ("brick", "grass", "gravel")
WINDOW = 128  # side of what a spectrum is measured on
NEIGHBOURHOOD = 24  # side of what is looked for in the source
LOOKED_FOR = 40
TILES = 16  # seamless ones

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


def seams(tiles: Pixels) -> tuple[float, float]:
    """Step across the borders of tiles (N, Y, X) over the mean step inside, and its standard error by lines inside."""
    across, inside = [], []
    for tile in tiles:
        for axis in (0, 1):
            lines = np.abs(np.diff(tile, axis=axis)).mean(1 - axis)
            across.append(np.abs(tile.take(0, axis) - tile.take(-1, axis)).mean() / lines.mean())
            inside.append(lines / lines.mean())
    return float(np.mean(across)), float(np.std(inside) / np.sqrt(len(across)))


def main(names: list[str], minutes: float, pictures: Path | None) -> None:
    rows = []
    for name in names:
        image = getattr(data, name)()
        cut = image.shape[1] * 3 // 4
        source, held_out = (x.astype(np.float64) for x in (image[:, :cut], image[:, cut:]))
        rng = np.random.default_rng(0)
        model, seconds = timed(lambda source=source: train("texture", source, minutes=minutes))
        made = generate(model, source.shape, 2, seed=1).astype(np.float64)
        tiles = generate(model, (256, 256), TILES, seed=2, tileable=True).astype(np.float64)
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
        border, error = seams(tiles)
        rows[-len(candidates)] |= {
            "seam": border,
            "of lines inside": error,
            "two seeds": nearest(made[1], made[0]),
            "steps": model.provenance["steps"],
            "minutes": seconds / 60,
        }
        report(Path(__file__).stem, rows)
        if pictures is not None:
            shown = np.hstack([source, made[0], made[1]]).clip(0, 255)
            imsave(pictures / f"{name}.png", shown.astype(np.uint8), check_contrast=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--names", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--pictures", type=Path, help="folder for the source beside textures from two seeds")
    arguments = parser.parse_args()
    main(arguments.names, arguments.minutes, arguments.pictures)
