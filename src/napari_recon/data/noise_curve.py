"""The noise curve, variance against brightness, from the energies of many small blocks.

Some blocks show noise alone, others specimen too, and which is not known. Of noise alone the energy follows a
chi-square distribution about the curve; specimen multiplies it by an unknown factor. Both are fitted together as a
mixture, whose shares may differ from one brightness to the next. That is the idea of Foi et al., "Practical
Poissonian-Gaussian noise modeling and fitting for single-image raw-data" (IEEE TIP 2008), with the mixture in place of
their detection of edges.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import gammaln, xlogy

FloatArray = NDArray[np.float64]

BINS = 8  # steps of brightness, each with its own share of blocks without specimen
EXCESS = np.geomspace(0.15, 1e4, 240)  # energy of specimen over that of noise: less is not told from noise
LOG_RATIO = np.linspace(-8, 14, 4401)  # of the energy over that of noise; where the two densities are tabulated
SIGNIFICANT = 10.0  # log-likelihood that a rise must gain over equal noise; overlapping blocks inflate it fourfold
FLAT_SHARE = 0.3  # of blocks taken as flat
CONTRADICTED = 5.0  # log-likelihood that flat blocks must gain by a curve of their own
SPREAD = 1.3  # standard deviations above its mean: nine in ten of blocks with noise alone are less rough
FEWEST_FLAT = 100  # in each step of brightness
CLEARLY = 0.9  # of a variance: less of a difference is chance, and the lower of two estimates would be too low
STEEPEST = 1e-3  # the curve stays above this share of its lower end, wherever it is continued


@dataclass(frozen=True)
class NoiseCurve:
    """A straight noise curve between two levels of brightness, and what it was fitted to.

    Parameters
    ----------
    dark, bright : float
        Brightness of the darkest and of the brightest fiftieth of the blocks.
    at_dark, at_bright : float
        Variance of the noise there.
    share : float
        Share of the blocks that show noise alone, mean over all steps of brightness.
    """

    dark: float
    bright: float
    at_dark: float
    at_bright: float
    share: float

    @property
    def gain(self) -> float:
        """Slope, never negative."""
        return (self.at_bright - self.at_dark) / (self.bright - self.dark) if self.bright > self.dark else 0.0

    @property
    def intercept(self) -> float:
        """Variance at the value zero."""
        return self.at_dark - self.gain * self.dark

    def variance(self, brightness: FloatArray) -> FloatArray:
        """Variance of the noise, positive also beyond the ends."""
        return np.maximum(self.gain * brightness + self.intercept, STEEPEST * min(self.at_dark, self.at_bright))

    def lowered_to(self, other: Self, clearly: float = CLEARLY) -> Self:
        """Take over the other curve at either end where it is clearly lower: specimen only adds to noise.

        They are compared where both were measured, since a curve that is too steep falls too low beyond its end.
        """
        dark, bright = max(self.dark, other.dark), min(self.bright, other.bright)
        if dark >= bright:
            return self
        ends = np.array([dark, bright])
        own, others = self.variance(ends), other.variance(ends)
        lower = others < clearly * own
        lower[0] &= others[1] * clearly <= own[1]  # a curve too high at its bright end is tilted, its dark end too low
        low = np.where(lower, others, own)
        return type(self)(dark, bright, float(low[0]), float(max(low)), max(self.share, other.share))


def fit_curve(brightness: FloatArray, energy: FloatArray, freedom: float) -> NoiseCurve:
    """Fit a noise curve that does not fall.

    Parameters
    ----------
    brightness, energy : numpy.ndarray
        Of each block: its mean, and the mean square of its noise and specimen. Energies must be positive.
    freedom : float
        Degrees of freedom of an energy.
    """
    dark, bright = (float(q) for q in np.quantile(brightness, [0.02, 0.98]))
    log_energy = np.log(energy)
    misfit = _misfit(brightness, log_energy, freedom, dark, bright)
    low, high = np.sort(brightness)[[len(brightness) // 10, -len(brightness) // 10]]
    starts = [np.quantile(log_energy[end], [0.05, 0.3]) for end in (brightness <= low, brightness >= high)]
    first = min(((a, b) for a in starts[0] for b in starts[1]), key=lambda p: misfit(*p)[0])
    level = min(np.quantile(log_energy, np.linspace(0.02, 0.6, 12)), key=lambda p: misfit(p, p)[0])
    equal = minimize(lambda p: misfit(p[0], p[0])[0], [level], method="Nelder-Mead", options={"maxfev": 25})
    ends = np.array([equal.x[0]] * 2)
    if bright > dark:
        a, b = first
        simplex = [(a, b), (a + 0.4, b), (a, b + 0.4)]
        options = {"initial_simplex": simplex, "xatol": 0.005, "fatol": 0.5, "maxfev": 60}
        rising = minimize(lambda p: misfit(*p)[0], (a, b), method="Nelder-Mead", options=options)
        if rising.fun < equal.fun - SIGNIFICANT and rising.x[1] > rising.x[0]:
            ends = rising.x
    at_dark, at_bright = np.exp(ends)
    return NoiseCurve(dark, bright, float(at_dark), float(at_bright), float(misfit(*ends)[1].mean()))


def flattest(brightness: FloatArray, roughness: FloatArray, freedom: float) -> NDArray[np.bool_]:
    """Mark blocks no rougher than noise is, and in each step of brightness the flattest share, but not too few.

    Roughness is in units of the noise and has so many degrees of freedom.
    """
    steps = _steps(brightness, *(float(q) for q in np.quantile(brightness, [0.02, 0.98])))
    flat: NDArray[np.bool_] = roughness < 1 + SPREAD * np.sqrt(2 / freedom)
    for step in range(BINS):
        inside = np.flatnonzero(steps == step)
        inside = inside[np.argsort(roughness[inside], kind="stable")]
        flat[inside[: max(round(FLAT_SHARE * len(inside)), FEWEST_FLAT)]] = True
    return flat


def lower_where_flat(
    curve: NoiseCurve, brightness: FloatArray, energy: FloatArray, freedom: float, coarser: NoiseCurve | None
) -> NoiseCurve | None:
    """Fit a curve to flat blocks; None where they do not contradict the curve of all blocks by being quieter.

    None also where they are quieter than the coarser band: white noise is not, noise a little in step is.
    """
    flat = fit_curve(brightness, energy, freedom)
    ends = np.array([flat.dark, flat.bright])
    if flat.bright - flat.dark < 0.5 * (curve.bright - curve.dark):  # too narrow to tell the slope
        return None
    middle = ends.mean()
    if flat.variance(middle) >= curve.variance(middle):
        return None
    if coarser is not None and flat.variance(middle) < CLEARLY * coarser.variance(middle):
        return None
    misfit = _misfit(brightness, np.log(energy), freedom, flat.dark, flat.bright)
    gained = misfit(*np.log(curve.variance(ends)))[0] - misfit(*np.log(flat.variance(ends)))[0]
    return flat if gained > CONTRADICTED else None


def curve_points(
    curve: NoiseCurve, brightness: FloatArray, energy: FloatArray, freedom: float
) -> dict[int, tuple[float, float]]:
    """Brightness and variance of the noise in each step of brightness by itself, to be held against the curve."""
    steps = _steps(brightness, curve.dark, curve.bright)
    variance = curve.variance(brightness)
    factors = np.linspace(-1.5, 1.5, 31)
    # Every step with every factor at once, each pair as a step of its own.
    log_ratio = np.log(energy / variance)[:, None] - factors
    pairs = steps[:, None] * len(factors) + np.arange(len(factors))
    misfit = _mixture(log_ratio.ravel(), pairs.ravel(), BINS * len(factors), freedom)[0].reshape(BINS, -1)
    best = factors[misfit.argmin(axis=1)]
    points = {}
    for step in range(BINS):
        inside = steps == step
        if inside.sum() >= 30:
            points[step] = float(brightness[inside].mean()), float(variance[inside].mean() * np.exp(best[step]))
    return points


def _misfit(
    brightness: FloatArray, log_energy: FloatArray, freedom: float, dark: float, bright: float
) -> Callable[[float, float], tuple[float, FloatArray]]:
    """Function of the logarithmic variances at both ends: minus the log-likelihood, and the shares of noise alone."""
    steps = _steps(brightness, dark, bright)
    place = (brightness - dark) / (bright - dark) if bright > dark else np.zeros(len(brightness))

    def misfit(log_dark: float, log_bright: float) -> tuple[float, FloatArray]:
        low, high = np.exp([log_dark, log_bright])
        variance = np.maximum(low + (high - low) * place, STEEPEST * min(low, high))
        misfits, shares = _mixture(log_energy - np.log(variance), steps, BINS, freedom)
        return float(misfits.sum()), shares

    return misfit


def _mixture(
    log_ratio: FloatArray, steps: NDArray[np.intp], count: int, freedom: float
) -> tuple[FloatArray, FloatArray]:
    """For each step: minus the log-likelihood at the best share of blocks without specimen, and this share."""
    log_alone, odds = _densities(round(freedom, 1))
    place = ((log_ratio - LOG_RATIO[0]) / (LOG_RATIO[1] - LOG_RATIO[0])).astype(np.intp)
    np.clip(place, 0, len(LOG_RATIO) - 1, out=place)
    log_alone, odds = log_alone[place], odds[place]
    more = 1 - odds
    members = np.maximum(np.bincount(steps, minlength=count), 1)
    share = np.full(count, 0.5)
    for _ in range(10):  # expectation maximisation
        share = share * np.bincount(steps, 1 / (odds + share[steps] * more), minlength=count) / members
    share = np.clip(share, 0.001, 0.999)
    likelihood = log_alone + np.log(odds + share[steps] * more)
    return np.bincount(steps, -likelihood, minlength=count).astype(np.float64), share


@lru_cache(maxsize=32)
def _densities(freedom: float) -> tuple[FloatArray, FloatArray]:
    """For each logarithmic ratio: log-density for noise alone, and that with specimen of any strength over it."""
    ratio = np.exp(LOG_RATIO)

    def density(excess: float) -> FloatArray:
        scaled: FloatArray = ratio / (1 + excess)
        # Gamma distribution of unit mean; scipy.stats takes seconds to import.
        shape = freedom / 2
        return np.asarray(np.exp(xlogy(shape, shape * scaled) - shape * scaled - gammaln(shape)))

    alone = np.maximum(density(0.0), 1e-200)
    with_specimen = np.maximum(np.mean([density(e) for e in EXCESS], axis=0), 1e-200)
    return np.log(alone), with_specimen / alone


def _steps(brightness: FloatArray, dark: float, bright: float) -> NDArray[np.intp]:
    return np.searchsorted(np.linspace(dark, bright, BINS + 1)[1:-1], brightness)
