"""Error of the noise estimate on simulated scenes of known noise: phantoms and two scikit-image samples.

Gain and read noise can be told apart only where a scene has dark pixels (less shot than read noise) and bright ones
(more shot than read noise), and specimen is not everywhere stronger than the noise. The rows say how often that is so.
The same scenes with noise that neighbours share, by a Gaussian blur of these widths in pixels, are rows of their own.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import skimage.data
from _common import report
from scipy.ndimage import gaussian_filter, gaussian_laplace

from napari_recon.data.noise_estimate import estimate_noise
from napari_recon.data.phantoms import PHANTOMS

CAMERAS = ((1, 0, 2, 200), (3, 100, 6, 200), (1, 0, 2, 20), (2, 100, 1, 50))  # gain, offset, read noise, photons
KINDS = ("dead_leaves", "puncta", "membranes", "nuclei", "filaments", "texture")
BLURS = (0.0, 0.7, 1.0)
DARK, BRIGHT = 0.1, 0.98  # quantiles of the pixels that show the read noise and the gain

Scene = np.ndarray[Any, Any]


def scenes() -> Iterator[tuple[str, Scene]]:
    """Clean images in [0, 1]."""
    for kind in KINDS:
        for seed in (2, 4, 7):
            yield kind, PHANTOMS[kind]((256, 256), np.random.default_rng(seed)).astype(float)
    yield "photographs", skimage.data.camera() / 255
    yield "photographs", skimage.data.moon() / 255


def identifiable(scene: Scene, photons: float, read_electrons: float) -> bool:
    """Whether dark and bright parts of the clean scene are smooth enough to show read noise and gain."""
    dark, bright = np.quantile(scene, [DARK, BRIGHT])
    noise = np.sqrt(scene * photons + read_electrons**2)
    smooth = np.abs(gaussian_laplace(scene * photons, 1)) < 0.2 * noise
    seen = min(smooth[scene <= dark].mean(), smooth[scene >= bright].mean()) > 0.3
    return bool(seen and dark * photons < read_electrons**2 < bright * photons)


def photograph(scene: Scene, camera: tuple[float, float, float, float], blur: float) -> Scene:
    """Add the noise of a camera to a clean scene."""
    gain, offset, read_noise, photons = camera
    rng = np.random.default_rng(1)
    if not blur:
        return rng.poisson(scene * photons) * gain + offset + rng.normal(0, read_noise, scene.shape)
    in_step = gaussian_filter(rng.standard_normal(scene.shape), blur)
    level = gain * photons * scene
    return level + offset + np.sqrt(gain * level + read_noise**2) * in_step / in_step.std()


def main() -> None:
    """Compare estimated with true noise for each kind of scene, then where it is identifiable and where not."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for (kind, scene), camera, blur in itertools.product(scenes(), CAMERAS, BLURS):
        gain, offset, read_noise, photons = camera
        estimate = estimate_noise([photograph(scene, camera, blur)[None]])
        levels = np.quantile(scene, (0.05, 0.5, 0.99)) * photons * gain
        sigma = np.sqrt([max(estimate.variance(level + offset), 0.0) for level in levels])
        at_offset = np.sqrt(max(estimate.variance(offset), 0.0))
        errors = (
            float(np.abs(sigma / np.sqrt(gain * levels + read_noise**2) - 1).max()),
            abs(estimate.gain / gain - 1),
            float(abs(at_offset / read_noise - 1)),
        )
        where = "identifiable" if identifiable(scene, photons, read_noise / gain) else "not identifiable"
        for name in (f"all, blur {blur}",) if blur else (kind, where, "all"):
            found.setdefault(name, []).append(errors)
    report("quality_noise", [_row(name, np.array(errors)) for name, errors in sorted(found.items())])


def _row(name: str, errors: Scene) -> dict[str, Any]:
    level, gain, read_noise = errors.T
    return {
        "scenes": name,
        "number": len(errors),
        "worst level, median error": float(np.median(level)),
        "one in ten above": float(np.quantile(level, 0.9)),
        "within 25 %": float((level < 0.25).mean()),
        "gain, median error": float(np.median(gain)),
        "gain within 10 %": float((gain < 0.1).mean()),
        "read noise within 15 %": float((read_noise < 0.15).mean()),
    }


if __name__ == "__main__":
    main()
