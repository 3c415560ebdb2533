"""Quality of the shipped universal denoiser without any training, beside classical filters.

python benchmarks/quality_universal.py [bsd68] [correlated] [fmd] [w2s10] [gigadb] [adapt]

Noise levels are estimated, never given. Gaussian noise is not clipped. Filters whose packages (bm3d, PyWavelets)
are not installed are left out.
"""

import argparse
from typing import Any

import numpy as np
from _common import CLASSICAL, DATA, fluorescence, plain_nl_means, psnr, report, timed, widefield
from scipy.ndimage import gaussian_filter

from napari_recon import api, read_image
from napari_recon.quality.metrics import si_psnr

Row = dict[str, Any]
Array = np.ndarray[Any, Any]


def bsd68() -> list[Row]:
    """White Gaussian noise of three levels (BM3D is published for these: 31.07, 28.57, 25.62 dB)."""
    truths = [read_image(p).array.astype(np.float32) for p in sorted((DATA / "bsd68").glob("*.png"))]
    rows = []
    for sigma in (15, 25, 50):
        rng = np.random.default_rng(0)
        noisy = [t + rng.normal(0, sigma, t.shape).astype(np.float32) for t in truths]
        done, took = timed(lambda noisy=noisy: [api.denoise(n) for n in noisy])  # type: ignore[misc]
        row = {
            "data": f"bsd68 sigma {sigma}",
            "noisy": _mean(psnr, truths, noisy),
            "universal": _mean(psnr, truths, done),
        }
        for name in ("NL-means", "TV"):
            row[name] = _mean(psnr, truths, [CLASSICAL[name](n) for n in noisy])
        rows.append(row | {"seconds an image": took / len(truths)})
    return rows


def correlated() -> list[Row]:
    """Noise blurred to a lag-1 correlation near 0.6, as demosaicing and resampling leave it, on `set12`."""
    rng = np.random.default_rng(0)
    truths = [read_image(p).array.astype(np.float32) for p in sorted((DATA / "set12").glob("*.png"))]
    noisy = []
    for truth in truths:
        noise = gaussian_filter(rng.normal(size=truth.shape), 0.71)
        noisy.append((truth + 25 * noise / noise.std()).astype(np.float32))
    row = {"data": "set12, correlated sigma 25", "noisy": _mean(psnr, truths, noisy)}
    row["universal"] = _mean(psnr, truths, [api.denoise(n) for n in noisy])
    for name in ("NL-means", "TV"):
        row[name] = _mean(psnr, truths, [CLASSICAL[name](n) for n in noisy])
    return [row]


def fmd() -> list[Row]:
    """Confocal fluorescence."""
    return [_compare(f"fmd {c}", noisy, truth, psnr) for c, (noisy, truth) in fluorescence().items()]


def w2s10() -> list[Row]:
    """Widefield fluorescence, ten fields, scale-invariant PSNR."""
    rows = [_compare(f"w2s10 {i}", n, t, si_psnr) for i, (n, t) in enumerate(zip(*widefield(), strict=True))]
    keys = [k for k in rows[0] if k != "data"]
    return [{"data": "w2s10, mean of 10"} | {k: float(np.mean([r[k] for r in rows])) for k in keys}]


def gigadb() -> list[Row]:
    """Short against long exposures, scale-invariant PSNR."""
    rows = []
    for name in ("nucleus", "mito-60x-noise1", "membrane"):
        noisy, truth = (read_image(DATA / "gigadb" / f"{name}_{kind}.png").array for kind in ("lowsnr", "highsnr"))
        rows.append(_compare(f"gigadb {name}", noisy, truth, si_psnr))
    return rows


def adapt() -> list[Row]:
    """The switch 'adapt to this image' against the model as it ships."""
    rows = []
    for channel, (noisy, truth) in fluorescence().items():
        plain = psnr(truth, api.denoise(noisy))
        done, took = timed(lambda noisy=noisy: api.denoise(noisy, adapt=True))  # type: ignore[misc]
        rows.append({"data": f"fmd {channel}", "universal": plain, "adapted": psnr(truth, done), "seconds": took})
    noisy, truth = (stack[::3] for stack in widefield())
    plain = np.mean([si_psnr(t, api.denoise(n)) for n, t in zip(noisy, truth, strict=True)])
    adapted = np.mean([si_psnr(t, api.denoise(n, adapt=True)) for n, t in zip(noisy, truth, strict=True)])
    return [*rows, {"data": "w2s10, every third", "universal": float(plain), "adapted": float(adapted)}]


def _compare(data: str, noisy: Array, truth: Array, score: Any) -> Row:
    api.denoise(noisy)  # warm-up, so that the time is that of a second image
    done, took = timed(lambda: api.denoise(noisy))
    row: Row = {"data": data, "noisy": score(truth, noisy.astype(np.float32)), "universal": score(truth, done)}
    for name, run in {"NL-means, plain": plain_nl_means, **CLASSICAL}.items():
        filtered = run(noisy)
        if filtered is not None:
            row[name] = score(truth, filtered)
    return row | {"seconds": took}


def _mean(score: Any, truths: list[Array], images: list[Array]) -> float:
    return float(np.mean([score(t, i) for t, i in zip(truths, images, strict=True)]))


PARTS = {"bsd68": bsd68, "correlated": correlated, "fmd": fmd, "w2s10": w2s10, "gigadb": gigadb, "adapt": adapt}


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS))
    for part in parser.parse_args().parts:
        report(f"quality_universal_{part}", PARTS[part]())


if __name__ == "__main__":
    main()
