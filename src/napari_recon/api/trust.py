"""How far an upscaled image can be trusted: composes the measures of `napari_recon.quality.trust`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from napari_recon.axes import from_batch, to_batch
from napari_recon.checkpoint import TrainedModel
from napari_recon.data.degradation import Optics
from napari_recon.data.noise_estimate import NoiseEstimate, estimate_noise
from napari_recon.image import Image
from napari_recon.models.gan import GANConfig
from napari_recon.models.generators import enlarge
from napari_recon.quality.trust import disagreement, trust_map, unlike_training, unseen_share
from napari_recon.training.optics import optics_of

LEAST_TRUST = 0.8  # of the whole image, below which its intensities should not be measured
MEAN_KEPT = 0.005  # largest change of the mean, relative to it, that a measurement forgives
WITHIN_NOISE = 1.5  # largest local disagreement, in units of what is tolerated, that counts as agreement
PLANES_LOOKED_AT = 16  # of a stack, to compare it with the training data
Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Trust:
    """How far an upscaled image can be trusted.

    Parameters
    ----------
    pixels : numpy.ndarray
        float32 of the shape of the result, 0 (made up) to 1 (shown by the input).
    value : float
        Mean of `pixels`, each weighted by the local contrast of the result.
    agreement : float
        Share of the input that the result agrees with, within its noise.
    mean_change : float
        Largest change of a channel's mean intensity, relative to it; where the mean is near zero, to a tenth of the
        standard deviation.
    warning : str
        In what the image is unlike the training data; empty when it is not.
    quantifiable : bool
        Whether intensities of the result may be measured.
    """

    pixels: NDArray[np.float32]
    value: float
    agreement: float
    mean_change: float
    warning: str
    quantifiable: bool

    def summary(self) -> dict[str, Any]:
        """Everything but the pixels, as JSON types."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "pixels"}


def judge(source: Image, result: Plane, faithful: Plane | None, model: TrainedModel, fidelity: float) -> Trust:
    """Judge an upscaled image.

    Parameters
    ----------
    source : Image
        What was upscaled.
    result : numpy.ndarray
        The upscaled pixels, of the axes of `source`.
    faithful : numpy.ndarray or None
        The same from the faithful weights alone; None when `result` is that.
    model : TrainedModel
        Of the GAN family, whose optics the result is held against.
    fidelity : float
        That of `result`; intensities below 1 are not measured.
    """
    optics = optics_of(cast(GANConfig, model.config), model.provenance.get("psf"))
    low, high = (to_batch(a, source.axes) for a in (source.array, result))
    sure = None if faithful is None else to_batch(faithful, source.axes)
    pixels = np.empty(high.shape, np.float32)
    agreed, changes, worth = [], [], np.zeros(2)
    for channel in range(low.shape[1]):
        noise = estimate_noise([low[:, channel]])
        for n in range(low.shape[0]):
            seen, shown = (_finite(batch[n, channel]) for batch in (low, high))
            known = None if sure is None else _finite(sure[n, channel])
            pixels[n, channel], share, weight = _judge_plane(seen, shown, known, noise, optics)
            agreed.append(share)
            worth += (float((weight * pixels[n, channel]).sum()), float(weight.sum()))
        changes.append(_mean_change(low[:, channel], high[:, channel]))
    value = float(worth[0] / worth[1]) if worth[1] > 0 else 1.0
    some = low.reshape(-1, *low.shape[2:])[:: max(len(low) * low.shape[1] // PLANES_LOOKED_AT, 1)]
    warning = unlike_training(map(_finite, some), model.provenance.get("roughness"))
    return Trust(
        pixels=from_batch(pixels, source.axes, source.shape),
        value=value,
        agreement=float(np.mean(agreed)),
        mean_change=max(changes),
        warning=warning,
        quantifiable=fidelity == 1 and value >= LEAST_TRUST and max(changes) <= MEAN_KEPT and not warning,
    )


def _judge_plane(
    low: Plane, high: Plane, sure: Plane | None, noise: NoiseEstimate, optics: Optics
) -> tuple[Plane, float, Plane]:
    """Trust, the share of the input that is agreed with, and the local contrast of one plane."""
    scale = optics.scale
    seen = optics.expected(torch.from_numpy(high)[None, None])
    unseen = high - enlarge(seen, scale)[0, 0].numpy()
    sigma = np.sqrt(np.maximum(noise.gain * low + noise.intercept, 0))
    disagreed = disagreement(low, seen[0, 0].numpy(), sigma)
    typical = float(np.median(sigma))
    shares = [unseen_share(unseen, high, scale, typical)]
    if sure is not None:
        shares.append(unseen_share(high - sure, high, scale, typical))
    weight = np.abs(high - high.mean())
    return trust_map(disagreed, shares, scale), float((disagreed <= WITHIN_NOISE).mean()), weight


def _mean_change(before: Any, after: Any) -> float:
    first, second = (float(np.nanmean(x, dtype=np.float64)) for x in (before, after))
    return abs(second - first) / max(abs(first), 0.1 * float(np.nanstd(after)), float(np.finfo(np.float32).tiny))


def _finite(plane: Any) -> Plane:
    """A plane whose missing pixels are its mean."""
    values = np.asarray(plane, np.float32)
    known = np.isfinite(values)
    if known.all():
        return values
    return np.where(known, values, values[known].mean() if known.any() else 0).astype(np.float32)
