"""Standard normal numbers that belong to places: whoever asks for a region gets the same ones.

So tiles of one sample share one latent field and meet without a seam, and a run on several machines draws what a run on
one does. The numbers come from Philox (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), whose
streams are addressed by a counter: here by the block of the field, the level, the sample and the plane.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BLOCK = 32  # side of the blocks that are drawn as a whole
BITS = 21  # of a counter word for each coordinate of a block


def latent_noise(
    seed: int, place: tuple[int, int, int], start: Sequence[int], sides: Sequence[int], latents: int
) -> NDArray[np.float32]:
    """Return a region of an endless field of standard normal numbers, float32 (latents, *sides).

    Parameters
    ----------
    seed : int
        0 to 2**64 - 1.
    place : tuple of int
        Plane, sample and level, each with a field of its own.
    start, sides : sequence of int
        First position of the region, not negative, and its shape.
    latents : int
        Numbers at each position.
    """
    region = np.empty((latents, *sides), np.float32)
    spans = [range(a // BLOCK, (a + n - 1) // BLOCK + 1) for a, n in zip(start, sides, strict=True)]
    for block in itertools.product(*spans):
        drawn = _block(seed, place, block, latents)
        # Where the block lies in the region, and which part of it is inside.
        first = [b * BLOCK - a for b, a in zip(block, start, strict=True)]
        target = tuple(slice(max(f, 0), min(f + BLOCK, n)) for f, n in zip(first, sides, strict=True))
        source = tuple(slice(t.start - f, t.stop - f) for f, t in zip(first, target, strict=True))
        region[(slice(None), *target)] = drawn[(slice(None), *source)]
    return region


def _block(seed: int, place: tuple[int, int, int], block: Sequence[int], latents: int) -> NDArray[np.float32]:
    plane, sample, level = place
    where = sum(b << (BITS * i) for i, b in enumerate(block))
    # The lowest word of the counter advances as numbers are drawn.
    bits = np.random.Philox(key=[seed, plane], counter=[0, where, sample, level])
    drawn = np.random.Generator(bits).standard_normal((latents, *(BLOCK,) * len(block)), dtype=np.float32)
    return drawn
