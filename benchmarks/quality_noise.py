"""Error of the noise estimate on simulated scenes of known noise: phantoms and two scikit-image samples."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import skimage.data
from _common import report

from napari_recon.data.noise_estimate import estimate_noise
from napari_recon.data.phantoms import PHANTOMS

CAMERAS = ((1, 0, 2, 200), (3, 100, 6, 200), (1, 0, 2, 20), (2, 100, 1, 50))  # gain, offset, read noise, photons


def scenes() -> Iterator[np.ndarray[Any, Any]]:
    """Clean images in [0, 1]."""
    for kind in ("dead_leaves", "puncta", "membranes", "nuclei", "filaments"):
        for seed in (2, 4, 7):
            yield PHANTOMS[kind]((256, 256), np.random.default_rng(seed)).astype(float)
    yield skimage.data.camera() / 255
    yield skimage.data.moon() / 255


def main() -> None:
    """Compare estimated with true noise at five brightness levels of each scene."""
    levels, gains = [], []
    for scene in scenes():
        for gain, offset, read_noise, photons in CAMERAS:
            rng = np.random.default_rng(1)
            noisy = rng.poisson(scene * photons) * gain + offset + rng.normal(0, read_noise, scene.shape)
            found = estimate_noise([noisy[None]])
            gains.append(abs(found.gain / gain - 1))
            for share in (0.05, 0.1, 0.5, 0.9, 0.99):
                level = float(np.quantile(scene, share)) * photons * gain
                sigma = np.sqrt(max(found.variance(level + offset), 0.0))
                levels.append(abs(sigma / np.sqrt(gain * level + read_noise**2) - 1))
    rows = [
        {"what": what, "median error": float(np.median(e)), "one in ten above": float(np.quantile(e, 0.9))}
        for what, e in (("noise level", levels), ("gain", gains))
    ]
    report("quality_noise", rows)


if __name__ == "__main__":
    main()
