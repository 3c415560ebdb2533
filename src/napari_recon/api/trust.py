"""How far an upscaled image can be trusted: composes the measures of `napari_recon.quality.trust`."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
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
from napari_recon.progress import CancelToken, ProgressCallback, Reporter
from napari_recon.quality.trust import disagreement, trust_map, unlike_training, unseen_share
from napari_recon.training.optics import optics_of

LEAST_TRUST = 0.8  # of the whole image, below which its intensities should not be measured
MEAN_KEPT = 0.005  # largest change of the mean, relative to it, that a measurement forgives
WITHIN_NOISE = 1.5  # largest local disagreement, in units of what is tolerated, that counts as agreement
FAINT = 0.05  # of an image's range: detail that fades into the rest, whether the input shows it or not
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


def judge(
    source: Image,
    result: Plane,
    faithful: Plane | None,
    model: TrainedModel,
    fidelity: float,
    noise: Sequence[NoiseEstimate] = (),
) -> Trust:
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
    noise : sequence of NoiseEstimate
        Of each channel of `source`, when it was measured already.
    """
    planes = Judge(source, result, faithful, model, noise)
    pixels = np.empty(planes.shape, np.float32)
    for n, channel in np.ndindex(planes.shape[:2]):
        pixels[n, channel] = planes.plane(n, channel)
    return planes.verdict(from_batch(pixels, source.axes, source.shape), fidelity)


def judge_lazily(
    source: Image,
    result: Any,
    faithful: Any,
    model: TrainedModel,
    fidelity: float,
    noise: Sequence[NoiseEstimate],
    write: Callable[[Any], None],
    on_progress: ProgressCallback | None,
    cancel: CancelToken | None,
) -> Trust:
    """Judge an upscaled image that lies on disk; `write` stores the trust of its pixels, a dask array.

    The other parameters are those of `judge`.
    """
    import dask.array as da
    from dask import config
    from dask.delayed import delayed

    planes = Judge(source, result, faithful, model, noise)
    samples, channels, *sides = planes.shape
    reporter, done = Reporter(on_progress, "trust", total=samples * channels), itertools.count(1)

    def plane(n: int, channel: int) -> Plane:
        if cancel is not None:
            cancel.raise_if_cancelled()
        trust = planes.plane(n, channel)
        reporter.update(next(done))
        return trust

    def lazily(n: int, channel: int) -> Any:
        return da.from_delayed(delayed(plane)(n, channel), sides, np.float32)  # type: ignore[no-untyped-call]

    rows = [da.stack([lazily(n, c) for c in range(channels)]) for n in range(samples)]  # type: ignore[no-untyped-call]
    pixels = from_batch(da.stack(rows), source.axes, source.shape)  # type: ignore[no-untyped-call]
    with config.set(scheduler="synchronous"):  # one plane at a time
        write(pixels)
    return planes.verdict(pixels, fidelity)


class Judge:
    """Judges an upscaled image plane by plane, and the whole when all of them are judged; for `judge`'s parameters.

    Nothing but single planes is loaded of arrays that lie on disk.
    """

    def __init__(
        self,
        source: Image,
        result: Any,
        faithful: Any,
        model: TrainedModel,
        noise: Sequence[NoiseEstimate] = (),
    ) -> None:
        self._low, self._high = (to_batch(a, source.axes) for a in (source.array, result))
        self._sure = None if faithful is None else to_batch(faithful, source.axes)
        self._optics = optics_of(cast(GANConfig, model.config), model.provenance.get("psf"))
        self._typical = model.provenance.get("roughness")
        channels = self._low.shape[1]
        self._noise = noise or [estimate_noise([self._low[:, channel]]) for channel in range(channels)]
        self._agreed: list[float] = []
        self._worth = np.zeros(2)
        self._sums = np.zeros((channels, 2, 3))  # of each channel, before and after: pixels, their sum, and squares
        self.shape = tuple(int(n) for n in self._high.shape)

    def plane(self, n: int, channel: int) -> Plane:
        """Trust of each pixel of one plane."""
        low, high = (np.asarray(batch[n, channel], np.float32) for batch in (self._low, self._high))
        known = None if self._sure is None else _finite(self._sure[n, channel])
        trust, share, weight = _judge_plane(_finite(low), _finite(high), known, self._noise[channel], self._optics)
        self._agreed.append(share)
        self._worth += (float((weight * trust).sum()), float(weight.sum()))
        self._sums[channel] += [_sums(low), _sums(high)]
        return trust

    def verdict(self, pixels: Any, fidelity: float) -> Trust:
        """Judge the whole, of which `pixels` is the trust."""
        value = float(self._worth[0] / self._worth[1]) if self._worth[1] > 0 else 1.0
        low = self._low.reshape(-1, *self._low.shape[2:])
        warning = unlike_training(map(_finite, low[:: max(len(low) // PLANES_LOOKED_AT, 1)]), self._typical)
        change = max(map(_mean_change, self._sums))
        return Trust(
            pixels=pixels,
            value=value,
            agreement=float(np.mean(self._agreed)),
            mean_change=change,
            warning=warning,
            quantifiable=fidelity == 1 and value >= LEAST_TRUST and change <= MEAN_KEPT and not warning,
        )


def _judge_plane(
    low: Plane, high: Plane, sure: Plane | None, noise: NoiseEstimate, optics: Optics
) -> tuple[Plane, float, Plane]:
    """Trust, the share of the input that is agreed with, and the local contrast of one plane."""
    scale = optics.scale
    seen = _expected(optics, high)
    unseen = high - enlarge(torch.from_numpy(seen)[None, None], scale)[0, 0].numpy()
    sigma = np.sqrt(np.maximum(noise.gain * low + noise.intercept, 0))
    disagreed = disagreement(low, seen, sigma)
    typical = float(np.median(sigma))
    # Where the image is flat noise is all there is, and how much of it is fine says nothing of the error.
    faint = FAINT * float(np.percentile(low, 99.9) - np.percentile(low, 0.1))
    shares = [unseen_share(unseen, high, scale, math.hypot(typical, faint))]
    if sure is not None:
        shares.append(unseen_share(high - sure, high, scale, typical))
    weight = np.abs(high - high.mean())
    return trust_map(disagreed, shares, scale), float((disagreed <= WITHIN_NOISE).mean()), weight


def _expected(optics: Optics, high: Plane) -> Plane:
    """What the optics make of a plane, which is mirrored more than once where it is narrower than their PSF."""
    reach = [k // 2 for k in np.shape(optics.kernel)] or [0, 0]
    margins = [-(-r // optics.scale) if r >= n else 0 for r, n in zip(reach, high.shape, strict=True)]
    wide = np.pad(high, [(m * optics.scale,) * 2 for m in margins], mode="reflect")
    seen: Plane = optics.expected(torch.from_numpy(wide)[None, None])[0, 0].numpy()
    return seen[tuple(slice(m, n - m) for m, n in zip(margins, seen.shape, strict=True))]


def _sums(plane: Plane) -> tuple[float, float, float]:
    values = plane[np.isfinite(plane)].astype(np.float64)
    return values.size, float(values.sum()), float(np.square(values).sum())


def _mean_change(sums: NDArray[np.float64]) -> float:
    """Change of the mean, given the number, sum and squares of the pixels before and after."""
    first, second = sums[:, 1] / np.maximum(sums[:, 0], 1)
    deviation = math.sqrt(max(sums[1, 2] / max(sums[1, 0], 1) - second**2, 0))
    return float(abs(second - first) / max(abs(first), 0.1 * deviation, float(np.finfo(np.float32).tiny)))


def _finite(plane: Any) -> Plane:
    """A plane whose missing pixels are its mean."""
    values = np.asarray(plane, np.float32)
    known = np.isfinite(values)
    if known.all():
        return values
    return np.where(known, values, values[known].mean() if known.any() else 0).astype(np.float32)
