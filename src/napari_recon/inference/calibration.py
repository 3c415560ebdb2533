"""Hold the standard deviation of samples against the real error, without knowing the truth.

Stein's unbiased risk estimate gives the squared error of the mean from the noisy image alone, where the noise is
known (Stein, "Estimation of the mean of a multivariate normal distribution", Annals of Statistics 1981; the derivative
by a random probe: Ramani, Blu and Unser, "Monte-Carlo SURE", IEEE TIP 2008). It is asked of a region that was held out
of the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_recon.checkpoint import TrainedModel
from napari_recon.data.noise_estimate import CORRELATED
from napari_recon.image import Image
from napari_recon.inference.guide import make_guide
from napari_recon.inference.sampling import SampleRunner
from napari_recon.progress import CancelToken, Reporter

SAMPLES = 32
PIXELS = 2**17  # more tell hardly more, and take longer
LEAST_PIXELS = 4096
BLOCK = 8  # side of the blocks over which errors are averaged: that of one pixel is far noisier than its mean
PROBE = 0.1  # step of the derivative, in standard deviations of the noise
BINS = 10
INTERVAL = 1.645  # half-width of the 90 % interval of a normal distribution, in standard deviations


def calibrate(model: TrainedModel, regions: Sequence[Any], device: str, cancel: CancelToken) -> dict[str, Any] | None:
    """Compare predicted with real errors.

    Parameters
    ----------
    model : TrainedModel
        Of the VAE family, with the noise of its training data.
    regions : sequence of array
        Held-out pixels as they were recorded, (N, C, [Z], Y, X).
    device : str
        See `napari_recon.device`.

    Returns
    -------
    dict or None
        ``factor`` by which to multiply the standard deviation of samples; ``reliability``, pairs of predicted standard
        deviation (already multiplied) and real error, in units of the noise, from the surest pixels to the least sure;
        ``coverage``, the share of noisy pixels inside their 90 % interval; ``pixels``, how many were compared. None
        where it cannot be told: too few pixels, noise that is unknown or in step between neighbours.
    """
    assert model.normalization is not None
    noise = model.normalization.noise
    if not noise or any(max(n.correlation) > CORRELATED for n in noise):
        return None
    predicted, real, inside = [], [], []
    left = PIXELS
    for region in regions:
        part = _limit(region, left)
        left -= part.size
        for told in _compare(model, Image(part, "SC" + model.spec.axes), device, cancel):
            predicted.append(told[0])
            real.append(told[1])
            inside.append(told[2])
        if left < LEAST_PIXELS:
            break
    if not predicted or sum(p.size for p in predicted) * BLOCK**2 < LEAST_PIXELS:
        return None
    spread, error = np.concatenate(predicted), np.concatenate(real)
    factor = _factor(spread, error)
    order = np.argsort(spread)
    bins = [
        [float(np.sqrt(factor**2 * spread[b].mean())), float(np.sqrt(max(error[b].mean(), 0.0)))]
        for b in np.array_split(order, BINS)
        if b.size
    ]
    residual, uncertainty = (np.concatenate(x) for x in zip(*inside, strict=True))
    # The mean leans towards the noisy pixel it was made from, so their distance varies less than the noise.
    width = INTERVAL * np.sqrt(np.maximum(1 - factor**2 * uncertainty, 0.05))
    return {
        "factor": factor,
        "reliability": bins,
        "coverage": float((np.abs(residual) < width).mean()),
        "pixels": int(residual.size),
    }


def _factor(spread: NDArray[np.floating], error: NDArray[np.floating]) -> float:
    """Ratio of real to predicted error, both squared errors of blocks; no more than tenfold either way."""
    ratio = error.sum() / max(spread.sum(), 1e-12)
    return float(np.sqrt(np.clip(ratio, 0.01, 100.0)))


def _limit(region: Any, pixels: int) -> NDArray[np.float32]:
    """No more than about `pixels` of a region (N, C, [Z], Y, X), whole planes first."""
    a_plane = int(np.prod(region.shape[1:]))
    count = min(max(pixels // a_plane, 1), region.shape[0])
    part = region[:count]
    if a_plane > pixels:
        side = max(pixels // (a_plane // part.shape[-1]), 64)
        part = part[..., :side]
    return np.asarray(part, dtype=np.float32)


def _compare(model: TrainedModel, image: Image, device: str, cancel: CancelToken) -> list[Any]:
    """For each channel: predicted and real squared errors of blocks, and (residual, predicted) of every pixel.

    All in units of the noise.
    """
    assert model.normalization is not None
    noisy = np.asarray(image.array, np.float64)
    mean, std = _estimate(model, image, ("mean", "std"), device, cancel)
    rng = np.random.default_rng(0)
    probe = rng.choice([-1.0, 1.0], noisy.shape)
    sigma = np.empty_like(noisy)
    for c in range(noisy.shape[1]):
        known = model.normalization.noise[c]
        variance = known.gain * mean[:, c] + known.intercept
        sigma[:, c] = np.sqrt(np.maximum(variance, max(known.read_noise**2, 1e-12)))
    moved = image.with_array((noisy + PROBE * sigma * probe).astype(np.float32))
    (mean_moved,) = _estimate(model, moved, ("mean",), device, cancel)
    residual = (noisy - mean) / sigma
    derivative = probe * (mean_moved - mean) / (PROBE * sigma)
    risk = residual**2 - 1 + 2 * derivative
    predicted = (std / sigma) ** 2
    known_pixels = np.isfinite(noisy)
    return [
        (
            _blocks(np.where(known_pixels, predicted, 0)[:, c]),
            _blocks(np.where(known_pixels, risk, 0)[:, c]),
            (residual[:, c][known_pixels[:, c]], predicted[:, c][known_pixels[:, c]]),
        )
        for c in range(noisy.shape[1])
    ]


def _estimate(
    model: TrainedModel, image: Image, wanted: Sequence[str], device: str, cancel: CancelToken
) -> list[NDArray[np.float64]]:
    assert model.normalization is not None
    guide = make_guide(image, noise=model.normalization.noise, device=device) if model.spec.guided else None
    runner = SampleRunner(
        model,
        image,
        guide=guide,
        count=SAMPLES,
        seed=0,
        wanted=wanted,
        mean_of_samples=False,
        spread=1.0,
        tile_size=None,
        device=device,
        precision="float32",
    )
    return [a.astype(np.float64) for a in runner.run(Reporter(None, "calibrate"), cancel)]


def _blocks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over blocks of the last two axes, flat."""
    rows, columns = (n // BLOCK * BLOCK for n in values.shape[-2:])
    cut = values[..., :rows, :columns].reshape(-1, rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
    means: NDArray[np.float64] = cut.mean(axis=(2, 4)).ravel()
    return means
