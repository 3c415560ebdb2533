"""The main job from beginning to end on a real micrograph, without a window."""

import json
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from napari_recon import api
from napari_recon.image import Image
from napari_recon.io import read_image, write_image
from napari_recon.io._files import make_folder
from napari_recon.progress import ProgressCallback

SAMPLE = "nucleus_lowsnr.png"
TRUTH = "nucleus_highsnr.png"
MINUTES = 1.0


def run_headless(folder: Path, on_progress: ProgressCallback | None = None, minutes: float = MINUTES) -> dict[str, Any]:
    """Train on the noisy sample alone, denoise it, and compare with the long exposure.

    Parameters
    ----------
    folder : path
        Gets noisy.tif, denoised.tif, model.safetensors, before_after.png and scores.json.
    on_progress : callable, optional
        Receives progress events.
    minutes : float
        Time to train for.

    Returns
    -------
    dict
        What scores.json holds: scale-invariant PSNR before and after, seconds, files.
    """
    make_folder(folder)
    samples = files("napari_recon") / "plugin" / "samples"
    noisy, truth = (read_image(Path(str(samples / name))) for name in (SAMPLE, TRUTH))
    start = time.perf_counter()
    model = api.train("autoencoder", noisy, minutes=minutes, on_progress=on_progress)
    trained = time.perf_counter()
    denoised = api.denoise(noisy, model, on_progress=on_progress)
    finished = time.perf_counter()
    write_image(folder / "noisy.tif", noisy)
    write_image(folder / "denoised.tif", denoised)
    model.save(folder / "model.safetensors")
    write_image(folder / "before_after.png", _side_by_side([noisy.array, denoised.array, truth.array], noisy))
    scores = {
        "noisy_si_psnr": api.evaluate(truth, noisy)["si_psnr"],
        "denoised_si_psnr": api.evaluate(truth, denoised)["si_psnr"],
        "training_seconds": round(trained - start, 1),
        "denoising_seconds": round(finished - trained, 2),
        "steps": model.provenance["steps"],
        "folder": str(folder),
    }
    (folder / "scores.json").write_text(json.dumps(scores, indent=2))
    return scores


def _side_by_side(pictures: list[Any], like: Image) -> Image:
    """Noisy, denoised and long exposure in one 8-bit picture, each stretched over its own range."""
    shown = []
    for picture in pictures:
        low, high = np.percentile(picture, [0.5, 99.8])
        shown.append((np.clip((picture - low) / (high - low), 0, 1) * 255).astype(np.uint8))
    return Image(np.concatenate(shown, axis=1), like.axes)
