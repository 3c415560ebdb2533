"""Quality of upscaling: the shipped models without any training, beside interpolation, and the perceptual stage.

python benchmarks/quality_upscale.py [set5] [micrographs] [speed] [ring] [perceptual] [--minutes 10]

Micrographs are the long exposures of `w2s10`, `fmd` and `gigadb`, made coarse by `data/degradation.py`; the models get
the coarse image and nothing else.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _common import DATA, fluorescence, psnr, report, timed, widefield
from numpy.typing import NDArray
from PIL import Image as PilImage
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr
from torch import nn

from napari_recon import api, read_image
from napari_recon.checkpoint import TrainedModel
from napari_recon.data.degradation import Optics
from napari_recon.losses.adversarial import ADVERSARIAL

Row = dict[str, Any]
Array = NDArray[np.floating]
FILTERS = {"bicubic": PilImage.Resampling.BICUBIC, "Lanczos": PilImage.Resampling.LANCZOS}
# PSF in pixels of the fine image, photons at the brightest value, read noise in photons.
OPTICS = {
    "binned": Optics.gaussian(2, 0.0),
    "PSF 0.5": Optics.gaussian(2, 0.5),
    "PSF 0.7, 500 photons": Optics.gaussian(2, 0.7, photons=500.0, read_noise=2.0),
    "PSF 1.0, 200 photons": Optics.gaussian(2, 1.0, photons=200.0, read_noise=2.0),
}


def interpolate(low: Array, scale: int, name: str) -> Array:
    """Enlarge by a filter of Pillow, in floating point."""
    size = (low.shape[1] * scale, low.shape[0] * scale)
    return np.asarray(PilImage.fromarray(low.astype(np.float32)).resize(size, FILTERS[name]))


def luma(path: Any) -> Array:
    """Y of BT.601 in 16 to 235, as MATLAB's rgb2ycbcr."""
    rgb = np.asarray(PilImage.open(path).convert("RGB"), float)
    return np.asarray(16 + rgb @ np.array([65.481, 128.553, 24.966]) / 255)


def set5() -> list[Row]:
    """`sr_set5`: PSNR of Y, a border of `scale` pixels left out (VDSR 37.53 / 31.35, SRCNN 36.66 / 30.48)."""
    rows = []
    for name, scale in (("upscale-x2", 2), ("upscale-x2-resized", 2), ("upscale-x4", 4)):
        folder = DATA / "sr_set5" / f"x{scale}"
        pairs = [(luma(p), luma(folder / "LR" / p.name)) for p in sorted((folder / "HR").glob("*.png"))]
        inner = (slice(scale, -scale),) * 2
        model = api.load_model(name)

        def score(enlarge: Callable[[Array], Array], pairs: Any = pairs, inner: Any = inner) -> float:
            return float(np.mean([psnr(h[inner], np.clip(enlarge(x), 16, 235)[inner]) for h, x in pairs]))

        row: Row = {"data": f"sr_set5 x{scale}"}
        for kind in FILTERS:
            row[kind] = score(lambda x, kind=kind, scale=scale: interpolate(x, scale, kind))  # type: ignore[misc]
        row["model"], row["napari-recon"] = name, score(lambda x, model=model: api.upscale(x, model, trust=False))  # type: ignore[misc]
        rows.append(row)
    return rows


def clean_micrographs() -> dict[str, Array]:
    """Long exposures: ten widefield fields, three confocal channels, three of spinning disk."""
    images = {f"w2s10 {i}": x for i, x in enumerate(widefield()[1])}
    images |= {f"fmd {c}": truth for c, (_, truth) in fluorescence().items()}
    for name in ("nucleus", "mito-60x-noise1", "membrane"):
        images[f"gigadb {name}"] = read_image(DATA / "gigadb" / f"{name}_highsnr.png").array
    return {k: np.asarray(x, np.float32) for k, x in images.items()}


def coarse(truth: Array, optics: Optics) -> Array:
    """Make a coarse image; pixels of 0 to 255."""
    x = torch.from_numpy(truth / 255)[None, None]
    return 255 * optics(x, torch.Generator().manual_seed(0))[0, 0].numpy()


def best_linear(low: Array, truth: Array, side: int = 9) -> Array:
    """Enlarge twice by the filters that come nearest to the truth itself: how much a linear method could gain at most.

    What long exposures hold near their pixel size is mostly noise, which nothing can bring back.
    """
    padded = np.pad(low.astype(float), side // 2, mode="reflect")
    seen = np.lib.stride_tricks.sliding_window_view(padded, (side, side)).reshape(-1, side * side)
    square = seen.T @ seen
    square += 1e-11 * np.trace(square) * np.eye(len(square))
    best = np.empty_like(truth)
    for phase in ((slice(i, None, 2), slice(j, None, 2)) for i in range(2) for j in range(2)):
        best[phase] = (seen @ np.linalg.solve(square, seen.T @ truth[phase].ravel())).reshape(low.shape)
    return best


def micrographs() -> list[Row]:
    """Gain over bicubic, on average and at worst, and whether distrust finds the true error."""
    model, rows = api.shipped_upscaler(2), []
    for name, optics in OPTICS.items():
        scores: list[dict[str, float]] = []
        for truth in clean_micrographs().values():
            low = coarse(truth, optics)
            done, trust = api.upscale(low, model, return_trust=True)
            error = np.sqrt(gaussian_filter((done - truth) ** 2, 2.0))
            thin = (slice(8, -8, 4),) * 2  # neighbours tell the same
            scores.append(
                {k: psnr(truth, interpolate(low, 2, k)) for k in FILTERS}
                | {"best linear, knowing the truth": psnr(truth, best_linear(low, truth))}
                | {"napari-recon": psnr(truth, done)}
                | {"rank correlation": float(spearmanr(1 - trust[thin], error[thin], axis=None).statistic)}
                | {"change of mean, %": 100 * abs(float(done.mean() / low.mean()) - 1)}
            )
        gains = [s["napari-recon"] - s["bicubic"] for s in scores]
        row: Row = {"optics": name} | {k: float(np.mean([s[k] for s in scores])) for k in scores[0]}
        row["change of mean, %"] = max(s["change of mean, %"] for s in scores)
        rows.append(row | {"mean gain": float(np.mean(gains)), "least gain": min(gains)})
    return rows


def speed() -> list[Row]:
    """512 x 512 to 1024 x 1024 after a warm-up, without and with the measuring of trust."""
    low, model = np.asarray(fluorescence()["B"][0], np.float32), api.shipped_upscaler(2)
    rows = []
    for trust in (False, True):
        times = [timed(lambda trust=trust: api.upscale(low, model, trust=trust))[1] for _ in range(4)]  # type: ignore[misc]
        rows.append({"512 to 1024": "with trust" if trust else "alone", "seconds": min(times[1:])})
    return rows


def spectrum_distance(truth: Array, image: Array) -> float:
    """Mean difference of the log power spectra over the finer half of all frequencies, in decibels."""
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in truth.shape), indexing="ij"))
    rings = np.digitize(frequency, np.linspace(0.25, 0.5, 17))
    powers = [np.abs(np.fft.fft2(x - x.mean())) ** 2 for x in (truth, image)]
    means = [np.array([p[rings == r].mean() for r in range(1, 17)]) for p in powers]
    return float(np.abs(10 * np.log10(means[1] / means[0])).mean())


def patch_distance(truth: Array, image: Array) -> float:
    """Sliced Wasserstein distance of 7 x 7 patches of the finest details (Karras et al., ICLR 2018), 256 directions."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(49, 256))
    directions /= np.linalg.norm(directions, axis=0)
    sorted_ = []
    for x in (truth, image):
        fine = x - gaussian_filter(x, 1.0)
        patches = np.lib.stride_tricks.sliding_window_view(fine, (7, 7))[::3, ::3].reshape(-1, 49)
        sorted_.append(np.sort(patches @ directions, axis=0))
    return float(np.abs(sorted_[0] - sorted_[1]).mean())


def perceptual(minutes: float) -> list[Row]:
    """The perceptual stage, trained on `train400` from the shipped model; scored on `set12`, binned."""
    photos = [read_image(p).array for p in sorted((DATA / "train400").glob("*.png"))]
    model: TrainedModel = api.train(
        "gan", photos, minutes=minutes, perceptual=True, fidelity_share=0.1, learning_rate=2e-4
    )
    optics = Optics.gaussian(2, 0.5)
    rows = []
    for fidelity in (1.0, 0.5, 0.0):
        scores = []
        for path in sorted((DATA / "set12").glob("*.png")):
            truth = np.asarray(read_image(path).array, np.float32)
            done, trust = api.upscale(coarse(truth, optics), model, fidelity=fidelity, return_trust=True)
            error = np.sqrt(gaussian_filter((done - truth) ** 2, 2.0))[8:-8:4, 8:-8:4]
            scores.append(
                {
                    "PSNR": psnr(truth, done),
                    "spectrum distance": spectrum_distance(truth, done),
                    "patch distance": patch_distance(truth, done),
                    "rank correlation": float(spearmanr(1 - trust[8:-8:4, 8:-8:4], error, axis=None).statistic),
                }
            )
        rows.append({"fidelity": fidelity} | {k: float(np.mean([s[k] for s in scores])) for k in scores[0]})
    return rows


def ring() -> list[Row]:
    """The article's plain minimax game on a ring of eight Gaussians: how many of them the generator finds."""
    angles = torch.arange(8) * torch.pi / 4
    centres = 2 * torch.stack([angles.cos(), angles.sin()], dim=1)
    rows = []
    for seed in range(3):
        found = _play(centres, seed)
        distance, nearest = torch.cdist(found, centres).min(dim=1)
        near = distance < 0.25  # five standard deviations
        counts = torch.bincount(nearest[near], minlength=8)
        modes = int((counts > 0.02 * len(found)).sum())
        rows.append({"seed": seed, "modes of 8": modes, "share near a mode": float(near.float().mean())})
    return rows


def _play(centres: torch.Tensor, seed: int, steps: int = 3000) -> torch.Tensor:
    """Train two small networks against each other; points that the generator then makes."""
    torch.manual_seed(seed)
    players = [
        nn.Sequential(nn.Linear(a, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, b))
        for a, b in ((16, 2), (2, 1))
    ]
    generator, discriminator = players
    optimizers = [torch.optim.Adam(p.parameters(), lr=1e-3, betas=(0.5, 0.9)) for p in players]
    game = ADVERSARIAL["minimax"]
    for _ in range(steps):
        real = centres[torch.randint(0, 8, (256,))] + 0.05 * torch.randn(256, 2)
        fake = generator(torch.randn(256, 16))
        loss = game.discriminator(discriminator(real), discriminator(fake.detach()))
        _update(optimizers[1], loss)
        _update(optimizers[0], game.generator(discriminator(real).detach(), discriminator(fake)))
    with torch.no_grad():
        points: torch.Tensor = generator(torch.randn(4000, 16))
    return points


def _update(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


PARTS: dict[str, Callable[[], list[Row]]] = {"set5": set5, "micrographs": micrographs, "speed": speed, "ring": ring}


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=[*PARTS, "perceptual"])
    parser.add_argument("--minutes", type=float, default=10.0, help="to train the perceptual stage for")
    args = parser.parse_args()
    for part in args.parts:
        rows = perceptual(args.minutes) if part == "perceptual" else PARTS[part]()
        report(f"quality_upscale_{part}", rows)


if __name__ == "__main__":
    main()
