"""What the benchmark scripts share: where the data are, how results are shown and kept."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_recon import measure_noise
from napari_recon.data.noise import stabilise, unstabilise

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("NAPARI_RECON_DATA", ROOT.parent / "shared" / "data"))
RESULTS = ROOT / "benchmarks" / "results"


def machine() -> dict[str, Any]:
    """Describe the machine the figures come from."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x.split(":", 1)[1].strip() for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        name = names[0] if names else name
    return {
        "cpu": name,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def table(rows: list[dict[str, Any]]) -> None:
    """Print rows under the names of their columns."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns, *([_show(row.get(c)) for c in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip(), flush=True)


def report(name: str, rows: list[dict[str, Any]]) -> None:
    """Print rows as a table and keep them in ``benchmarks/results/NAME.json``."""
    table(rows)
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"machine": machine(), "rows": rows}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n")


def _show(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def psnr(truth: NDArray[Any], image: NDArray[Any], data_range: float = 255.0) -> float:
    """Peak signal-to-noise ratio in decibels."""
    error = np.mean((np.asarray(truth, np.float64) - np.asarray(image, np.float64)) ** 2)
    return float(10 * np.log10(data_range**2 / error))


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """Call a function; return its result and the seconds it took."""
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def _stabilised(run: Callable[[NDArray[np.float32]], NDArray[Any]], noisy: NDArray[Any]) -> NDArray[np.float32]:
    """Apply a filter for unit Gaussian noise as its authors would: on the variance-stabilised image.

    All filters get the noise that napari-recon measures, so that they differ in the filter alone.
    """
    noise = measure_noise(noisy)[0].estimate
    image = stabilise(np.asarray(noisy, np.float32), noise.gain, noise.intercept)
    low = float(image.min())
    done = np.asarray(run((image - low).astype(np.float32)), np.float64) + low
    return np.asarray(unstabilise(done, noise.gain, noise.intercept), np.float32)


def nl_means(noisy: NDArray[Any]) -> NDArray[np.float32]:
    """Non-local means of scikit-image, with the settings its documentation suggests."""
    from skimage.restoration import denoise_nl_means

    def run(image: NDArray[np.float32]) -> NDArray[Any]:
        done = denoise_nl_means(image, patch_size=5, patch_distance=6, h=0.8, sigma=1.0, fast_mode=True)
        return np.asarray(done)

    return _stabilised(run, noisy)


def plain_nl_means(noisy: NDArray[Any]) -> NDArray[np.float32] | None:
    """Non-local means as in scikit-image's documentation, as if noise were Gaussian; None without PyWavelets."""
    from skimage.restoration import denoise_nl_means, estimate_sigma

    image = np.asarray(noisy, np.float32)
    try:
        sigma = float(estimate_sigma(image))
    except ImportError:
        return None
    done = denoise_nl_means(image, patch_size=5, patch_distance=6, h=0.8 * sigma, sigma=sigma, fast_mode=True)
    return np.asarray(done, np.float32)


def total_variation(noisy: NDArray[Any]) -> NDArray[np.float32]:
    """Total-variation denoising (Chambolle) of scikit-image."""
    from skimage.restoration import denoise_tv_chambolle

    return _stabilised(lambda image: np.asarray(denoise_tv_chambolle(image, weight=1.0)), noisy)


def bm3d(noisy: NDArray[Any]) -> NDArray[np.float32] | None:
    """BM3D, None where the package is not installed."""
    try:
        from bm3d import bm3d as run
    except ImportError:
        return None
    return _stabilised(lambda image: np.asarray(run(image, sigma_psd=1.0)), noisy)


CLASSICAL: dict[str, Callable[[NDArray[Any]], NDArray[np.float32] | None]] = {
    "NL-means": nl_means,
    "TV": total_variation,
    "BM3D": bm3d,
}


def fluorescence() -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """The confocal pairs of `fmd`: name to (noisy, truth), uint8."""
    from napari_recon import read_image

    folder = DATA / "fmd"
    return {
        c: tuple(read_image(folder / f"Confocal_BPAE_{c}_{kind}.png").array for kind in ("noisy", "gt"))  # type: ignore[misc]
        for c in "BGR"
    }


def widefield() -> tuple[NDArray[Any], NDArray[Any]]:
    """The ten fields of `w2s10`: (noisy, truth), uint8 (10, 512, 512)."""
    import tifffile

    folder = DATA / "w2s10"
    return tifffile.imread(folder / "w2s_n2v10_avg1.tif"), tifffile.imread(folder / "w2s_n2v10_avg400.tif")
