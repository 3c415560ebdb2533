"""Hold the spread of samples against the real error, without knowing the truth.

White noise of neighbouring pixels is unrelated; what the residuals of neighbours have in common is the error of the
mean, but for the noise that the mean took over, which a random probe of its derivative tells (as in Monte-Carlo SURE,
Ramani et al., IEEE TIP 2008). Unlike the squared residual this needs no exact knowledge of the noise's strength, beside
which the error is small. Neighbours in the samples have in common what they should have. It is asked of a region that
was held out of the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_recon.checkpoint import TrainedModel
from napari_recon.data.noise_estimate import CORRELATED
from napari_recon.image import Image
from napari_recon.inference.guide import make_guide
from napari_recon.inference.sampling import SampleRunner
from napari_recon.progress import CancelToken, ProgressCallback, Reporter

FloatArray = NDArray[np.float64]

SAMPLES = 24
PIXELS = 2**17  # more tell hardly more, and take longer
LEAST_PIXELS = 8192
PROBE = 0.1  # step of the derivative, in standard deviations of the noise
BINS = 8
INTERVAL = 1.645  # half-width of the 90 % interval of a normal distribution, in standard deviations
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
# Errors have finer grain and heavier tails than what neighbours have in common shows: so much wider, at most, the 90 %
# intervals of phantoms had to be, whose truth is known (benchmarks/quality_vae.py phantoms).
GRAIN = 1.2


class Pairs(NamedTuple):
    """Neighbouring pixels of a held-out region, each array flat; in units of the noise.

    `predicted` is the variance of the samples, `shared` their covariance, `real` an unbiased estimate of the covariance
    of the error, `residual` of the first of the two and `taken` the noise that the mean took over from it.
    """

    predicted: FloatArray
    shared: FloatArray
    real: FloatArray
    residual: FloatArray
    taken: FloatArray


def calibrate(
    model: TrainedModel, regions: Sequence[Any], device: str, on_progress: ProgressCallback | None = None
) -> dict[str, Any] | None:
    """Compare predicted with real errors.

    Parameters
    ----------
    model : TrainedModel
        Of the VAE family, with the noise of its training data.
    regions : sequence of array
        Held-out pixels as they were recorded, (N, C, [Z], Y, X).
    device : str
        See `napari_recon.device`.
    on_progress : callable, optional
        Receives events.

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
    if sum(int(np.prod(r.shape)) for r in regions) < LEAST_PIXELS:
        return None
    found: list[Pairs] = []
    left = PIXELS
    for region in regions:
        if left < LEAST_PIXELS:
            break
        part = _limit(region, left)
        left -= part.size
        found += _compare(model, Image(part, "SC" + model.spec.axes), device, on_progress)
    pairs = Pairs(*(np.concatenate(x) for x in zip(*found, strict=True))) if found else None
    if pairs is None or pairs.real.size < LEAST_PIXELS * len(NEIGHBOURS):
        return None
    factor = _factor(pairs)
    order = np.argsort(pairs.predicted)
    reliability, inside = [], 0.0
    for group in np.array_split(order, BINS):
        there = Pairs(*(x[group] for x in pairs))
        predicted, local = there.predicted.mean(), _factor(there)
        reliability.append([factor * float(np.sqrt(predicted)), local * float(np.sqrt(predicted))])
        # The mean leans towards the noisy pixel that it was made from.
        variance = 1 + factor**2 * there.predicted - 2 * there.taken.mean()
        inside += float((np.abs(there.residual) < INTERVAL * np.sqrt(np.maximum(variance, 0.05))).sum())
    return {
        "factor": factor,
        "reliability": reliability,
        "coverage": inside / pairs.residual.size,
        "pixels": pairs.residual.size // len(NEIGHBOURS),
    }


def _factor(pairs: Pairs) -> float:
    """Ratio of real to predicted error, no more than tenfold either way."""
    ratio = pairs.real.sum() / max(pairs.shared.sum(), 1e-12)
    return float(np.sqrt(np.clip(GRAIN**2 * ratio, 0.01, 100.0)))


def _limit(region: Any, pixels: int) -> NDArray[np.float32]:
    """No more than about `pixels` of a region (N, C, [Z], Y, X), whole planes first."""
    a_plane = int(np.prod(region.shape[1:]))
    count = min(max(pixels // a_plane, 1), region.shape[0])
    part = region[:count]
    if a_plane > pixels:
        side = max(pixels // (a_plane // part.shape[-1]), 64)
        part = part[..., :side]
    return np.asarray(part, dtype=np.float32)


def _compare(model: TrainedModel, image: Image, device: str, on_progress: ProgressCallback | None) -> list[Pairs]:
    """Compare the neighbours of a region (N, C, [Z], Y, X) in each direction."""
    assert model.normalization is not None
    noisy = np.asarray(image.array, np.float64)
    mean, *drawn = _estimate(model, image, ("mean", "samples"), device, on_progress)
    sigma = np.empty_like(noisy)
    for c, known in enumerate(model.normalization.noise):
        variance = known.gain * mean[:, c] + known.intercept
        sigma[:, c] = np.sqrt(np.maximum(variance, max(known.read_noise**2, 1e-12)))
    probe = np.random.default_rng(0).choice([-1.0, 1.0], noisy.shape)
    moved = image.with_array((noisy + PROBE * sigma * probe).astype(np.float32))
    (mean_moved,) = _estimate(model, moved, ("mean",), device, on_progress)
    slope = (mean_moved - mean) / (PROBE * sigma)
    residual = (noisy - mean) / sigma
    spread = (np.stack(drawn) - np.mean(drawn, axis=0)) / sigma * np.sqrt(SAMPLES / (SAMPLES - 1))
    found = []
    for shift in NEIGHBOURS:
        (r, near_r), (p, near_p), (d, near_d), (s, near_s) = (
            _shifted(x, shift) for x in (residual, probe, slope, spread)
        )
        real = r * near_r + p * near_d + near_p * d
        good = np.isfinite(real)
        told = Pairs((s**2).mean(axis=0), (s * near_s).mean(axis=0), real, r, p * d)
        found.append(Pairs(*(x[good] for x in told)))
    return found


def _estimate(
    model: TrainedModel, image: Image, wanted: Sequence[str], device: str, on_progress: ProgressCallback | None
) -> list[FloatArray]:
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
    return [a.astype(np.float64) for a in runner.run(Reporter(on_progress, "calibrate"), CancelToken())]


def _shifted(values: FloatArray, shift: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """Every pixel that has a neighbour `shift` (down, right) of it, and that neighbour."""
    down, right = shift
    rows, columns = values.shape[-2:]
    left, near_left = max(-right, 0), max(right, 0)
    width = columns - abs(right)
    return (
        values[..., : rows - down, left : left + width],
        values[..., down:, near_left : near_left + width],
    )
