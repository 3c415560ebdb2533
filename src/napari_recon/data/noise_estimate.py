"""Measure the noise of an image from the image alone, or of a movie from what changes between its frames.

The flattest blocks tell whether neighbouring pixels are in step (`noise_correlation`). Then the energy of small blocks
in the frequencies that specimen reaches least is fitted against brightness (`noise_blocks`, `noise_curve`). In a single
image of white noise a small network tells noise from specimen better, starting from that (`noise_learned`). Otherwise
it is fitted once with a view to smooth specimen and once to sharp edges; the quieter finding counts, as specimen only
adds to noise. In a movie the difference of two frames holds no specimen where nothing moves, and is one more finding.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from napari_recon.data.float32 import check_float32
from napari_recon.data.noise_blocks import FINE, IN_STEP, WHITE, View, crops, load, measure_band, windows
from napari_recon.data.noise_correlation import BLOCK, LEAST, noise_correlation
from napari_recon.data.noise_curve import NoiseCurve, curve_points
from napari_recon.data.noise_learned import learned_curve
from napari_recon.data.noise_movie import frame_differences

MOST_GROWTH = 1.25  # of the variance of frame differences from one frame to two
CLEARLY_FRAME = 0.95  # of the variance of frame differences: each frame by itself knows less, what moves is no noise
EMPTY = np.zeros((BLOCK, BLOCK))
CLEARLY_NOISY = 4.0  # variance in units of that of rounding, which otherwise is no longer white
SOME = 2**16  # pixels, of which to learn by which step pixel values are rounded
CORRELATED = 0.1  # lag-1 correlation from which neighbouring pixels share noise
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class NoiseEstimate:
    """Noise of one channel, in the units of its pixels.

    Parameters
    ----------
    gain : float
        Increase of the variance per unit of signal; 0 when the noise does not depend on the signal.
    intercept : float
        Variance at the pixel value zero (negative where a camera offset is larger than the read noise).
    offset : float
        Mean of its darkest regions, taken as the camera's offset.
    read_noise : float
        Standard deviation of the noise at that level.
    correlation : tuple of float
        Correlation of the noise of neighbouring pixels along Y and along X; 0 for white noise.
    saturated, clipped : float
        Share of pixels at the highest and at the lowest value, where those are piled up.
    snr : float
        Standard deviation of the image over that of its noise.
    peak_snr : float
        Range of the image (without its outermost thousandths) over the noise of its brightest pixels.
    confidence : float
        0 to 1: share of the brightness steps whose own noise agrees with the line through all.
    temporal : bool
        Whether it was measured on the differences of a movie's frames.
    curve : tuple of (float, float)
        Brightness and variance at each step of brightness, for a plot; kept out of model files.
    """

    gain: float
    intercept: float
    offset: float = 0.0
    read_noise: float = 0.0
    correlation: tuple[float, float] = (0.0, 0.0)
    saturated: float = 0.0
    clipped: float = 0.0
    snr: float = 0.0
    peak_snr: float = 0.0
    confidence: float = 1.0
    temporal: bool = False
    curve: tuple[tuple[float, float], ...] = field(default=(), compare=False)

    def variance(self, value: float) -> float:
        """Return the variance of the noise at a pixel value."""
        return self.gain * value + self.intercept

    def simulate(self, clean: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float32]:
        """Add noise of this gain and intercept to clean pixel values; white, whatever the correlation is."""
        white = rng.standard_normal(clean.shape)
        if self.gain <= 0:
            return np.asarray(clean + math.sqrt(max(self.intercept, 0.0)) * white, np.float32)
        # Only read_noise**2 - gain * offset can be seen in one image: the share that is negative must be an offset.
        offset = max(-self.intercept, 0.0) / self.gain
        photons = rng.poisson(np.maximum(clean - offset, 0) / self.gain)
        return np.asarray(self.gain * photons + offset + math.sqrt(max(self.intercept, 0.0)) * white, np.float32)

    @property
    def mask_axis(self) -> str:
        """Axes along which neighbours share noise: ``"none"``, ``"y"``, ``"x"`` or ``"both"``."""
        least = max(CORRELATED, 0.3 * max(self.correlation))  # less than that is the other direction seen askew
        axes = [axis for axis, r in zip("yx", self.correlation, strict=True) if r > least]
        return {0: "none", 1: "".join(axes), 2: "both"}[len(axes)]

    def to_json(self) -> dict[str, Any]:
        """Return as JSON types, without the points of the curve."""
        values = asdict(self)
        del values["curve"]
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Rebuild from `to_json`; raises `ValueError`, `TypeError` or `KeyError` on values that cannot be."""
        along_y, along_x = map(float, values["correlation"])
        rest = {"correlation": (along_y, along_x), "temporal": bool(values.get("temporal"))}
        numbers: dict[str, Any] = {name: float(value) for name, value in values.items() if name not in rest}
        made = cls(**(numbers | rest))
        if not np.isfinite([made.gain, made.intercept, along_y, along_x]).all():
            raise ValueError("gain, intercept and correlation must be finite")
        if not (made.gain > 0 or made.intercept >= 0):
            raise ValueError("noise without a gain has a variance of 0 or more")
        return made


def estimate_noise(stacks: Sequence[NDArray[Any]], time_steps: Sequence[int] = ()) -> NoiseEstimate:
    """Estimate Poisson-Gaussian noise and its correlation.

    Parameters
    ----------
    stacks : sequence of numpy.ndarray
        Images of one channel, any number of leading axes before (Y, X).
    time_steps : sequence of int, optional
        For each stack, how many entries of its first axis lie between one time and the next of the same scene; 0 for
        what is no movie.

    Returns
    -------
    NoiseEstimate
        For an image without measurable noise, `gain` is 0 and `intercept` tiny but positive.

    Raises
    ------
    ReconError
        When float32 cannot hold the image.
    """
    views = [View(part, part) for part in (load(stacks[i], index) for i, index in crops(stacks))]
    views = [v for v in views if np.isfinite(v.bright).any()] or [View(EMPTY, EMPTY)]
    values = np.concatenate([v.bright[np.isfinite(v.bright)] for v in views])
    check_float32(values, "The image")  # no model could be told of that noise
    low, high = float(values.min()), float(values.max())
    clipped, saturated = float((values == low).mean()), float((values == high).mean())
    # A piled-up lowest or highest value hides noise: such places would look too quiet.
    walls = ([low] if clipped > 0.005 else []) + ([high] if saturated > 0.0005 else [])
    # Never less than rounding: a noiseless image must not be divided by zero.
    floor = max((high - low) ** 2 * 1e-10, (1e-6 * max(abs(low), abs(high))) ** 2, float(np.finfo(np.float32).tiny))
    if all(np.issubdtype(s.dtype, np.integer) for s in stacks):
        floor = max(floor, 1 / 12)
    found = _measure(views, walls, floor)
    still = _measure_still(stacks, time_steps, walls, floor)
    if still is not None:
        found = _Found(still.curve.lowered_to(found.curve, CLEARLY_FRAME), still.correlation, still.points)
    curve = found.curve
    gain, offset = curve.gain, curve.dark
    intercept = max(curve.intercept, floor - gain * offset)
    noise_variance = max(gain * float(values.mean()) + intercept, floor)
    darkest, brightest = np.percentile(values, [0.1, 99.9])
    agree = [abs(y / float(curve.variance(np.array(x))) - 1) < 0.25 for x, y in found.points]
    return NoiseEstimate(
        gain=gain,
        intercept=intercept,
        offset=offset,
        read_noise=float(np.sqrt(gain * offset + intercept)),
        correlation=found.correlation,
        saturated=saturated if saturated > 0.0005 else 0.0,
        clipped=clipped if clipped > 0.005 else 0.0,
        snr=float(np.sqrt(max(values.var() - noise_variance, 0) / noise_variance)),
        peak_snr=float((brightest - darkest) / np.sqrt(max(gain * brightest + intercept, floor))),
        confidence=float(np.mean(agree)) if agree else 0.0,
        temporal=still is not None,
        curve=found.points,
    )


class _Found(NamedTuple):
    curve: NoiseCurve
    correlation: tuple[float, float]
    points: tuple[tuple[float, float], ...]


def _measure(views: Sequence[View], walls: Sequence[float], floor: float) -> _Found:
    """Correlation first, then the lower of the noise curves in the bands that suit it."""
    noisy, bright = windows(views, BLOCK, BLOCK // 2, 6000, walls)
    correlation = noise_correlation(bright, noisy)
    white = max(correlation) < LEAST
    # The learned finding replaces the others where it was taught: a single image, white noise, no cut-off values.
    if white and views[0].noisy is views[0].bright and not walls:
        start = measure_band(views, FINE, correlation, walls, floor, all_blocks=True)
        least = CLEARLY_NOISY * max(floor, _rounding(views[0].bright))
        learned = learned_curve(views, start[0]) if start and start[0].at_dark > least else None
        if learned:
            return _Found(learned[0], correlation, learned[1])
    measured: list[tuple[NoiseCurve, FloatArray, FloatArray, float]] = []
    for band in reversed(WHITE if white else IN_STEP):  # the coarser first, to check the finer
        found = measure_band(views, band, correlation, walls, floor, measured[0][0] if measured else None)
        measured = [found, *measured] if found else measured
    if not measured and walls:
        return _measure(views, (), floor)
    if not measured:
        return _Found(NoiseCurve(0.0, 0.0, floor, floor, 0.0), correlation, ())
    curve = measured[0][0]
    for other in measured[1:]:
        curve = curve.lowered_to(other[0])
    # What each band finds at each brightness by itself; again the quieter counts.
    points = [curve_points(curve, x, energy, freedom) for _, x, energy, freedom in measured]
    steps = sorted(set().union(*points))
    quietest = [min((p[s] for p in points if s in p), key=lambda point: point[1]) for s in steps]
    return _Found(curve, correlation, tuple(quietest))


def _rounding(pixels: FloatArray) -> float:
    """Variance that rounding to the smallest step between two pixel values adds; also of integers kept as floats."""
    some = pixels.ravel()[:SOME]
    steps = np.diff(np.unique(some[np.isfinite(some)]))
    return float(steps.min() ** 2 / 12) if len(steps) else 0.0


def _measure_still(
    stacks: Sequence[NDArray[Any]], time_steps: Sequence[int], walls: Sequence[float], floor: float
) -> _Found | None:
    """Noise of a movie from what changes between frames; None where that tells less than each frame by itself."""
    near, far = (frame_differences(stacks, time_steps, lag) for lag in (1, 2)) if any(time_steps) else ([], [])
    if not near:
        return None
    found, later = _measure(near, walls, floor), _measure(far, walls, floor)
    # Noise differs as much after two frames as after one. Where it does not, the scene moves everywhere, or the frames
    # share noise, as running means and repeated frames do.
    grown = [later.curve.at_dark / found.curve.at_dark, later.curve.at_bright / found.curve.at_bright]
    return found if max(grown) < MOST_GROWTH else None
