"""What neighbouring planes bring the universal denoiser, on simulated stacks and movies and on real ones without truth.

Simulated: phantoms that stand still, move, fade, blink, or lie in planes some pixels apart, with 10 and 50 photons at
the brightest and a read noise of 1.5. Real: noise is added, and the answer compared with the image less that noise,
which is independent of it (Pang et al., "Recorrupted-to-Recorrupted", CVPR 2021); the difference of two such errors is
that of the unknown true ones.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from _common import DATA, report
from scipy.ndimage import gaussian_filter, shift

from napari_recon import Image, denoise, measure_noise, read_image
from napari_recon.data.phantoms import PHANTOMS

FRAMES, SIDE = 9, 192
MOST = 12  # planes of a real image
ADDED = 0.5  # noise that is added, in that of the image
REAL = ("stardist_img3d", "membrane_2d_timelapse", "cancer_cell_migration_CCBY")

Scene = np.ndarray[Any, Any]


def drifting(kind: str, step: float, fading: float = 0.0) -> Scene:
    """Return a phantom that moves by `step` pixels, and fades by a share, from frame to frame."""
    large = PHANTOMS[kind]((SIDE + 64, SIDE + 64), np.random.default_rng(3)).astype(np.float32)
    moved = (shift(large, (0.6 * step * k, 0.8 * step * k), order=1, mode="nearest") for k in range(FRAMES))
    return np.stack([m[32:-32, 32:-32] * (1 - fading) ** k for k, m in enumerate(moved)])


def blinking() -> Scene:
    """Return spots on nuclei, each there in three of ten frames."""
    rng = np.random.default_rng(7)
    ground = PHANTOMS["nuclei"]((SIDE, SIDE), rng)
    places, strength = rng.integers(5, SIDE - 5, (60, 2)), rng.uniform(0.3, 1, 60)
    frames = np.zeros((FRAMES, SIDE, SIDE))
    for frame in frames:
        on = rng.random(60) < 0.3
        frame[tuple(places[on].T)] = strength[on]
    return 0.4 * ground + 18 * gaussian_filter(frames, (0, 1.6, 1.6))


def volume(apart: int) -> Scene:
    """Return planes some pixels apart of spots, blurred more along Z than in the plane."""
    rng = np.random.default_rng(1)
    points = np.zeros((FRAMES * apart + 16, SIDE, SIDE), np.float32)
    points[tuple(rng.integers(0, n, 40 * len(points)) for n in points.shape)] = 1
    return gaussian_filter(points, (3.5, 1.4, 1.4))[8 : 8 + FRAMES * apart : apart]


def scenes() -> Iterator[tuple[str, str, Scene]]:
    """Name, axes and clean pixels in [0, 1]."""
    for kind in ("nuclei", "filaments", "texture"):
        for step in (0, 0.2, 0.5, 1, 3):
            yield f"{kind}, {step} pixels a frame", "TYX", drifting(kind, step)
    yield "membranes, fading by 5 % a frame", "TYX", drifting("membranes", 0, 0.05)
    yield "spots blinking on nuclei", "TYX", blinking()
    for apart in (1, 3, 6):
        yield f"spots, planes {apart} pixels apart", "ZYX", volume(apart)


def simulated() -> Iterator[dict[str, Any]]:
    """Compare plane by plane with neighbours against the truth."""
    for name, axes, scene in scenes():
        clean = scene / np.percentile(scene, 99.9)
        for photons in (10, 50):
            rng = np.random.default_rng(0)
            noisy = (rng.poisson(clean * photons) + rng.normal(0, 1.5, clean.shape)).astype(np.float32)
            found = [denoise(noisy, axes=axes, plane_by_plane=alone) for alone in (True, False)]
            psnr = [10 * np.log10(photons**2 / np.mean((f - clean * photons) ** 2)) for f in found]
            alone, helped = (round(float(p), 2) for p in psnr)
            row = {"scene": f"{name}, {photons} photons", "plane by plane": alone, "neighbours": helped}
            yield {**row, "gain": round(helped - alone, 2)}


def real() -> Iterator[dict[str, Any]]:
    """Compare squared errors, in variances of the noise, but for a constant."""
    for name in REAL:
        image = read_image(DATA / "micro_demo" / f"{name}.tif")
        image = image.crop({image.axes[0]: slice(0, MOST)})
        noisy = np.asarray(image.array, np.float32)
        estimate = measure_noise(image)[0].estimate
        variance = (estimate.gain * denoise(image).array + estimate.intercept).clip(0)
        noise = np.random.default_rng(0).normal(size=noisy.shape) * np.sqrt(variance)
        more = 1 + ADDED**2
        told = dataclasses.replace(estimate, gain=estimate.gain * more, intercept=estimate.intercept * more)
        again = Image((noisy + ADDED * noise).astype(np.float32), image.axes)
        errors = []
        for alone in (True, False):
            answer = denoise(again, noise=[told], plane_by_plane=alone).array
            squares = np.sum((answer - (noisy - noise / ADDED)) ** 2, axis=(1, 2))
            errors.append(squares / variance.sum(axis=(1, 2)) - 1 - 1 / ADDED**2)
        better = int((errors[1] < errors[0]).sum())
        alone, helped = (round(float(e.mean()), 4) for e in errors)
        better_in = f"{better} of {len(noisy)} planes"
        yield {"scene": f"{name}, error", "plane by plane": alone, "neighbours": helped, "better in": better_in}


if __name__ == "__main__":
    report("quality_neighbours", [*simulated(), *real()])
