"""Intensities to the range a network works in, and back: measured once per channel, kept in the model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_recon.data.float32 import as_float32, check_float32
from napari_recon.data.noise import stabilise, unstabilise
from napari_recon.data.noise_blocks import crops
from napari_recon.data.noise_estimate import NoiseEstimate, estimate_noise
from napari_recon.errors import ReconError

Batch = NDArray[Any]  # (N, C, [Z], Y, X)


@dataclass(frozen=True)
class Normalization:
    """How each channel is transformed.

    Parameters
    ----------
    mean, std : tuple of float
        Subtracted and divided by, after the stabilisation if there is one. A `std` of 0 is that of a blank channel,
        every pixel of which is `mean`.
    noise : tuple of NoiseEstimate
        Noise of each channel; empty when it was not measured.
    stabilised : bool
        Whether the noise is made equally strong everywhere, where it is known.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    noise: tuple[NoiseEstimate, ...] = ()
    stabilised: bool = True

    @property
    def channels(self) -> int:
        """Number of channels it was measured on."""
        return len(self.mean)

    def check_channels(self, channels: int) -> None:
        """Raise `ReconError` when an image has another number of channels."""
        if channels != self.channels:
            raise ReconError(
                f"The model was trained on {_channels(self.channels)}; the image has {channels}.",
                "Choose the same channels as in training (of a colour image one, or its grey), or check the axes.",
            )

    def forward(self, batch: Batch, channel: int) -> NDArray[np.float32]:
        """Normalise pixels of one channel to float32."""
        values = as_float32(batch)
        if not self.std[channel]:
            return np.where(np.isfinite(values), np.float32(0), values)
        if self.noise and self.stabilised:
            estimate = self.noise[channel]
            # Where noise hardly depends on the signal, stabilised values are huge before their mean is taken away.
            values = stabilise(values.astype(np.float64), estimate.gain, estimate.intercept)
        return ((values - self.mean[channel]) / self.std[channel]).astype(np.float32)

    def inverse(self, batch: NDArray[np.float32], channel: int) -> NDArray[np.float32]:
        """Return normalised pixels of one channel to their original units, as float32."""
        if not self.std[channel]:
            return np.full(batch.shape, self.mean[channel], np.float32)
        values: NDArray[np.floating] = batch.astype(np.float64) * self.std[channel] + self.mean[channel]
        if self.noise and self.stabilised:
            estimate = self.noise[channel]
            values = unstabilise(values, estimate.gain, estimate.intercept)
        return values.astype(np.float32)

    def noise_level(self, channel: int) -> tuple[float, float, float]:
        """Noise in normalised units, and that times its correlation along Y and X (what `UniversalUNet` is told)."""
        sigma = 1.0 / (self.std[channel] or 1.0)
        along_y, along_x = self.noise[channel].correlation
        return sigma, sigma * along_y, sigma * along_x

    def noise_line(self) -> tuple[list[float], list[float]]:
        """Slope and intercept, for each channel, of the noise's variance over the clean value; in normalised units."""
        slopes, intercepts = [], []
        for mean, std, noise in zip(self.mean, self.std, self.noise, strict=True):
            slopes.append(0.0 if self.stabilised else noise.gain / std)
            intercepts.append((1.0 if self.stabilised else noise.gain * mean + noise.intercept) / std**2)
        return slopes, intercepts

    def to_json(self) -> dict[str, Any]:
        """Return as JSON types."""
        noise = [n.to_json() for n in self.noise]
        return {"mean": list(self.mean), "std": list(self.std), "noise": noise, "stabilised": self.stabilised}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Rebuild from `to_json`; raises `ValueError`, `TypeError` or `KeyError` on values that cannot be."""
        noise = tuple(NoiseEstimate.from_json(n) for n in values["noise"])
        mean, std = (tuple(map(float, values[key])) for key in ("mean", "std"))
        if len(std) != len(mean) or len(noise) not in (0, len(mean)):
            raise ValueError("mean, std and noise are of different numbers of channels")
        if not (np.isfinite(mean).all() and np.isfinite(std).all() and min(std) >= 0 and max(std) > 0):
            raise ValueError("mean and std must be finite, and std positive where the channel is not blank")
        return cls(mean, std, noise, bool(values.get("stabilised", True)))


def measure(
    batches: list[Batch],
    *,
    stabilised: bool,
    unit_noise: bool = False,
    with_noise: bool = False,
    noise: Sequence[NoiseEstimate] | None = None,
    time_steps: Sequence[int] = (),
    blanks: bool = False,
) -> Normalization:
    """Measure the normalisation of a data set.

    Parameters
    ----------
    batches : list of numpy.ndarray
        Arrays (N, C, [Z], Y, X) that share their channels. Non-finite pixels are left out.
    stabilised : bool
        Whether to estimate the noise and stabilise its variance first.
    unit_noise : bool
        Keep the noise at a standard deviation of one, instead of the image.
    with_noise : bool
        Whether to estimate the noise also where it is not stabilised.
    noise : sequence of NoiseEstimate, optional
        Known noise of each channel, such as that of the image from which `batches` are cut.
    time_steps : sequence of int, optional
        For each array, the samples from one time to the next, as `axes.time_step` counts them; see `estimate_noise`.
    blanks : bool
        Whether channels may be constant beside others that are not: nothing is to be learned from them.

    Raises
    ------
    ReconError
        When a channel is constant or has no finite pixel (there is nothing to learn from it), float32 cannot hold it,
        or `noise` is that of another number of channels.
    """
    channels = batches[0].shape[1]
    if noise and len(noise) != channels:
        raise ReconError(
            f"The noise of {_channels(len(noise))} is given; the image has {channels}.",
            "Give that of every channel, or leave it out to have it measured.",
        )
    means, stds, noises = [], [], []
    names = [f"Channel {channel}" for channel in range(channels)] if channels > 1 else ["The image"]
    samples = [_sample(batches, channel, name) for channel, name in enumerate(names)]
    blank = [bool(values.min() == values.max()) for values in samples]
    for channel, (name, values) in enumerate(zip(names, samples, strict=True)):
        if blank[channel] and (all(blank) or not blanks):
            hint = "Leave this channel out, or choose a plane with something in it."
            raise ReconError(
                f"{name} is constant: every pixel is {float(values[0]):g}.",
                hint if channels > 1 else "Choose an image, or a plane of it, that shows something.",
            )
        if values.std() < 1e-15 and not blank[channel]:
            raise ReconError(f"{name} varies by less than 1e-15.", "Multiply the image by a large number first.")
        check_float32(values, name)
        if stabilised or with_noise:
            estimate = noise[channel] if noise else estimate_noise([b[:, channel] for b in batches], time_steps)
            noises.append(estimate)
        if stabilised and not blank[channel]:
            values = stabilise(values, estimate.gain, estimate.intercept)
        means.append(float(values[0] if blank[channel] else values.mean()))
        stds.append(0.0 if blank[channel] else 1.0 if unit_noise else float(values.std()))
    return Normalization(tuple(means), tuple(stds), tuple(noises), stabilised)


def _sample(batches: list[Batch], channel: int, name: str, limit: int = 8_000_000) -> NDArray[np.float64]:
    """Up to `limit` finite pixels of a channel, evenly spread over all arrays."""
    stacks = [b[:, channel] for b in batches]
    total = sum(s.size for s in stacks)
    step = max(total // limit, 1)
    if step > 1 and not all(isinstance(s, np.ndarray) for s in stacks):
        # What lies on disk may be larger than the memory: only the places where noise is measured are read.
        parts = [np.asarray(stacks[i][index]).reshape(-1) for i, index in crops(stacks)]
    else:
        parts = [np.asarray(s).reshape(-1)[::step] for s in stacks]
    values = np.concatenate(parts).astype(np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        raise ReconError(f"{name} has no finite pixel.", "Choose a layer that holds an image.")
    return values


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"
