"""What a noise estimate means for the user, in words and as options to train with."""

from dataclasses import dataclass
from typing import Any

from napari_recon.data.noise_estimate import NoiseEstimate

HARDLY_NOISY = 50  # signal-to-noise ratio from which on there is nothing to remove
UNSURE = 0.5  # confidence below which the numbers are not to be relied on
MASK_LENGTH = 2  # neighbours to hide on each side, as far as resampling carries noise


@dataclass(frozen=True)
class NoiseReport:
    """The findings of the noise doctor about one channel.

    Parameters
    ----------
    channel : int
        Which channel.
    estimate : NoiseEstimate
        The numbers.
    findings : tuple of str
        What they say, a sentence each.
    advice : str
        What to do.
    options, vae_options : dict
        Training options that follow from it, of the autoencoder and of the VAE family.
    """

    channel: int
    estimate: NoiseEstimate
    findings: tuple[str, ...]
    advice: str
    options: dict[str, Any]
    vae_options: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return as JSON types."""
        return {
            "channel": self.channel,
            **self.estimate.to_json(),
            "curve": [{"brightness": x, "variance": y} for x, y in self.estimate.curve],
            "findings": list(self.findings),
            "advice": self.advice,
            "options": self.options,
            "vae_options": self.vae_options,
        }

    def line(self) -> str:
        """The report in one line."""
        e = self.estimate
        kind = "white" if e.mask_axis == "none" else "correlated"
        parts = [f"gain {e.gain:.3g}", f"read noise {e.read_noise:.3g}", f"SNR {e.snr:.1f}", kind]
        if e.saturated:
            parts.append(f"{e.saturated:.1%} saturated")
        if e.clipped:
            parts.append(f"{e.clipped:.1%} clipped at the bottom")
        return " · ".join(parts)


def diagnose(estimate: NoiseEstimate, channel: int = 0) -> NoiseReport:
    """Turn a noise estimate into findings and advice."""
    findings = [_strength(estimate), _kind(estimate)]
    along_y, along_x = estimate.correlation
    options: dict[str, Any] = {"mask_axis": estimate.mask_axis}
    if estimate.temporal:
        findings.append("Measured on what changes from frame to frame where the scene stands still.")
    if estimate.mask_axis != "none":
        options["mask_length"] = MASK_LENGTH
        findings.append(
            f"Neighbouring pixels share noise (correlation {along_y:.2f} along Y, {along_x:.2f} along X), "
            "as resampling, demosaicing or a slow detector leave it."
        )
    if estimate.saturated:
        findings.append(f"{estimate.saturated:.1%} of the pixels are saturated: what was there is lost, not noisy.")
    if estimate.clipped:
        findings.append(f"{estimate.clipped:.1%} of the pixels are cut off at the darkest value: raise the offset.")
    if estimate.confidence < UNSURE:
        findings.append("Few regions are flat, so these numbers are uncertain: compare the strengths 0.7 and 1.3.")
    vae_options = {"likelihood": _likelihood(estimate), "unconditional": int(estimate.mask_axis != "none")}
    return NoiseReport(channel, estimate, tuple(findings), _advice(estimate), options, vae_options)


def _advice(e: NoiseEstimate) -> str:
    """Which family, which mask and which likelihood suit the noise."""
    if e.snr > HARDLY_NOISY:
        return "There is hardly any noise to remove. A GAN may upscale this image."
    parts = ["Denoise with the universal model; when the result is not enough, train an autoencoder from it."]
    if e.mask_axis == "none":
        parts.append("Single hidden pixels (mask along: none) suit its white noise.")
    else:
        where = {"x": "along X", "y": "along Y", "both": "along both axes"}[e.mask_axis]
        parts.append(f"Hide the neighbours {where} too (mask along: {e.mask_axis}), or it learns the noise.")
    blind = "" if e.mask_axis == "none" else ", blind levels: 1"  # which cannot code noise that is in step
    parts.append(f"For several plausible answers instead of one, train a VAE (noise model: {_likelihood(e)}{blind}).")
    return " ".join(parts)


def _likelihood(e: NoiseEstimate) -> str:
    """Of a VAE: as measured where that can be trusted; stabilised unless there are too few photons for it."""
    if e.confidence < UNSURE:
        return "learned"
    few_photons = e.gain > 0 and e.read_noise < e.gain
    return "poisson_gaussian" if few_photons else "gaussian"


def _strength(e: NoiseEstimate) -> str:
    return f"The specimen varies {e.snr:.1f} times as much as its noise."


def _kind(e: NoiseEstimate) -> str:
    if e.gain <= 0:
        return f"The noise is equally strong everywhere: {e.read_noise:.3g} grey values."
    return f"The noise grows with the signal (shot noise): {e.gain:.3g} grey values a photo-electron."
