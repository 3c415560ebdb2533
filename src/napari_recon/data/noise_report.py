"""What a noise estimate means for the user, in words and as options to train with."""

from dataclasses import dataclass
from typing import Any

from napari_recon.data.noise_estimate import NoiseEstimate


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
    options : dict
        Training options that follow from it.
    """

    channel: int
    estimate: NoiseEstimate
    findings: tuple[str, ...]
    advice: str
    options: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return as JSON types."""
        return {
            "channel": self.channel,
            **self.estimate.to_json(),
            "findings": list(self.findings),
            "advice": self.advice,
            "options": self.options,
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
    advice = "Denoise with the universal model; adapt it, or train from it, when the result is not enough."
    if estimate.mask_axis != "none":
        options["mask_length"] = 2
        findings.append(
            f"Neighbouring pixels share noise (correlation {along_y:.2f} along Y, {along_x:.2f} along X), "
            "as resampling, demosaicing or a slow detector leave it."
        )
        advice = (
            "The universal model is told of the correlation. For training, hide the neighbours too "
            f"(mask along {estimate.mask_axis}), or a blind-spot network learns the noise."
        )
    if estimate.saturated:
        findings.append(f"{estimate.saturated:.1%} of the pixels are saturated: what was there is lost, not noisy.")
    if estimate.clipped:
        findings.append(f"{estimate.clipped:.1%} of the pixels are cut off at the darkest value: raise the offset.")
    if estimate.snr > 50:
        advice = "There is hardly any noise to remove."
    if estimate.confidence < 0.5:
        findings.append("Few regions are flat, so these numbers are uncertain: compare the strengths 0.7 and 1.3.")
    return NoiseReport(channel, estimate, tuple(findings), advice, options)


def _strength(e: NoiseEstimate) -> str:
    return f"The specimen varies {e.snr:.1f} times as much as its noise."


def _kind(e: NoiseEstimate) -> str:
    if e.gain <= 0:
        return f"The noise is equally strong everywhere: {e.read_noise:.3g} grey values."
    return f"The noise grows with the signal (shot noise): {e.gain:.3g} grey values a photo-electron."
