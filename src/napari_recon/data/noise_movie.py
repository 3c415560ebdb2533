"""The difference of two frames of a movie: noise alone, wherever the scene stands still."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_recon.data.noise_blocks import View, crops, load


def frame_differences(stacks: Sequence[NDArray[Any]], time_steps: Sequence[int], lag: int) -> list[View]:
    """Differences of frames, of the variance of one frame, and the means of the frames.

    Parameters
    ----------
    stacks : sequence of array
        Any number of leading axes before (Y, X), of which the first counts times.
    time_steps : sequence of int
        For each stack, the entries of its first axis from one time to the next; 0 for what is no movie.
    lag : int
        1 or 2 times apart. Both choose the same places, so that they can be compared.
    """
    movies = [(s, step) for s, step in zip(stacks, time_steps, strict=True) if step and s.shape[0] > 2 * step]
    if not movies:
        return []
    views = []
    for which, (n, *rest) in crops([s for s, _ in movies], first=[s.shape[0] - 2 * step for s, step in movies]):
        stack, step = movies[which]
        before, after = load(stack, (n, *rest)), load(stack, (n + lag * step, *rest))
        finite = np.isfinite(before) & np.isfinite(after)
        if not finite.any():
            continue
        # Bleaching and flicker of the lamp dim the whole frame: without that, every edge would seem to move.
        spreads = before[finite].std(), after[finite].std()
        dimming = spreads[1] / spreads[0] if min(spreads) > 0 else 1.0
        difference = (before * np.sqrt(dimming) - after / np.sqrt(dimming)) / np.sqrt(2)
        views.append(View(difference, (before + after) / 2))
    return views
