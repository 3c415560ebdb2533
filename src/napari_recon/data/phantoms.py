"""Procedural images with the structures of micrographs: free training data with a known truth.

Each generator takes ``(shape, rng)`` and returns a float32 image of that 2D shape in [0, 1].
Dead leaves after Lee, Mumford and Huang, "Occlusion models for natural images" (2001).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

Phantom = NDArray[np.float32]
Generator = Callable[[tuple[int, int], np.random.Generator], Phantom]


def _rescale(image: NDArray[np.floating]) -> Phantom:
    low, high = float(image.min()), float(image.max())
    return ((image - low) / (high - low or 1.0)).astype(np.float32)


def _draw_points(shape: tuple[int, int], yx: NDArray[np.floating], weight: NDArray[np.floating]) -> Phantom:
    """Add points at subpixel positions, each spread over its four pixels."""
    image = np.zeros(shape, np.float32)
    base = np.floor(yx).astype(int)
    part = yx - base
    for dy in (0, 1):
        for dx in (0, 1):
            y, x = base[:, 0] + dy, base[:, 1] + dx
            share = np.abs(1 - dy - part[:, 0]) * np.abs(1 - dx - part[:, 1])
            inside = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
            np.add.at(image, (y[inside], x[inside]), (weight * share)[inside])
    return image


def dead_leaves(shape: tuple[int, int], rng: np.random.Generator) -> Phantom:
    """Opaque ellipses and rectangles with power-law sizes covering each other: edges at every scale."""
    image = np.full(shape, rng.random(), np.float32)
    count = int(rng.integers(150, 900))
    smallest, largest = rng.uniform(1.5, 5), rng.uniform(0.1, 0.5) * min(shape)
    # Sizes with density r^-3, the law under which the image looks alike at every magnification.
    radius = smallest / np.sqrt(1 - rng.random(count) * (1 - (smallest / largest) ** 2))
    for r in np.sort(radius)[::-1] if rng.random() < 0.3 else radius:
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        y0, y1 = max(int(y - 2 * r), 0), min(int(y + 2 * r) + 1, shape[0])
        x0, x1 = max(int(x - 2 * r), 0), min(int(x + 2 * r) + 1, shape[1])
        if y0 >= y1 or x0 >= x1:
            continue
        gy, gx = np.ogrid[y0 - y : y1 - y, x0 - x : x1 - x]
        angle, aspect = rng.uniform(0, np.pi), rng.uniform(0.4, 1.0)
        u = (gy * np.cos(angle) + gx * np.sin(angle)) / r
        v = (gx * np.cos(angle) - gy * np.sin(angle)) / (r * aspect)
        inside = u * u + v * v < 1 if rng.random() < 0.6 else np.maximum(abs(u), abs(v)) < 1
        slope = rng.normal(0, 0.15) if rng.random() < 0.3 else 0.0
        image[y0:y1, x0:x1][inside] = (rng.random() + slope * u)[inside]
    return np.clip(image, 0, 1)


def filaments(shape: tuple[int, int], rng: np.random.Generator) -> Phantom:
    """Bent fibres of varying brightness, such as microtubules or actin."""
    image = np.zeros(shape, np.float32)
    for _ in range(int(rng.lognormal(3, 0.8)) + 2):
        steps = int(rng.uniform(0.5, 2.5) * max(shape) * 2)
        bend = rng.uniform(0.002, 0.03)
        direction = rng.uniform(0, 2 * np.pi) + np.cumsum(np.cumsum(rng.normal(0, bend / 20, steps)))
        direction += np.cumsum(rng.normal(0, bend, steps))
        walk = np.stack([np.sin(direction), np.cos(direction)], axis=1).cumsum(axis=0) * 0.5
        start = rng.uniform(-0.1, 1.1, 2) * shape
        brightness = rng.uniform(0.2, 1) * (1 + 0.3 * np.sin(np.arange(steps) * rng.uniform(0, 0.1)))
        image += _draw_points(shape, walk + start, brightness)
    return _rescale(gaussian_filter(image, rng.uniform(0.6, 2.0)))


def puncta(shape: tuple[int, int], rng: np.random.Generator) -> Phantom:
    """Diffraction-limited spots of widely varying brightness, some of them in clusters."""
    count = int(rng.integers(20, 800) * shape[0] * shape[1] / 256**2) + 1
    centres = rng.uniform(0, 1, (max(count // int(rng.integers(1, 12)), 1), 2)) * shape
    yx = centres[rng.integers(0, len(centres), count)] + rng.normal(0, rng.uniform(0, 20), (count, 2))
    image = _draw_points(shape, yx, rng.lognormal(0, 0.8, count))
    return _rescale(gaussian_filter(image, rng.uniform(0.7, 2.2)))


def membranes(shape: tuple[int, int], rng: np.random.Generator) -> Phantom:
    """Walls between cells: bright borders of a warped Voronoi tessellation, cells of unequal filling."""
    seeds = rng.uniform(-0.1, 1.1, (int(rng.integers(15, 250)), 2)) * shape
    grid = np.stack(list(np.mgrid[: shape[0], : shape[1]]), axis=-1).reshape(-1, 2).astype(float)
    warp = rng.uniform(0, 6)
    for column in (0, 1):
        grid[:, column] += warp * _smooth_noise(shape, rng, rng.uniform(4, 20)).ravel()
    distance, nearest = cKDTree(seeds).query(grid, k=2)
    wall = np.exp(-(((distance[:, 1] - distance[:, 0]) / rng.uniform(1, 4)) ** 2))
    filling = rng.uniform(0, 0.5, len(seeds))[nearest[:, 0]] * rng.uniform(0, 1)
    image = (np.maximum(wall, filling)).reshape(shape)
    image *= 1 + 0.3 * _smooth_noise(shape, rng, 15)
    return _rescale(gaussian_filter(image, rng.uniform(0.3, 1.2)))


def nuclei(shape: tuple[int, int], rng: np.random.Generator) -> Phantom:
    """Soft-edged ellipses with a blotchy inside on a dark, slightly hazy field."""
    image = np.zeros(shape, np.float32)
    gy, gx = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    size = rng.uniform(5, 30)
    chromatin = 1 + rng.uniform(0, 0.5) * _smooth_noise(shape, rng, rng.uniform(1, 4))
    for _ in range(int(rng.integers(3, 60))):
        y, x = rng.uniform(0, 1, 2) * shape
        angle, aspect, r = rng.uniform(0, np.pi), rng.uniform(0.5, 1), size * rng.uniform(0.6, 1.5)
        u = (gy - y) * np.cos(angle) + (gx - x) * np.sin(angle)
        v = ((gx - x) * np.cos(angle) - (gy - y) * np.sin(angle)) / aspect
        edge = np.clip(r - np.sqrt(u * u + v * v), 0, rng.uniform(1, 4))
        np.maximum(image, rng.uniform(0.2, 1) * edge / (edge.max() or 1), out=image)
    haze = rng.uniform(0, 0.2) * gaussian_filter(image, size)
    return _rescale(gaussian_filter(image * chromatin, rng.uniform(0.5, 2)) + haze)


def texture(shape: tuple[int, int], rng: np.random.Generator) -> Phantom:
    """Random fields with a power-law or band-limited spectrum, at times thresholded or striped."""
    if rng.random() < 0.5:
        fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
        frequency = np.hypot(fy, fx)
        frequency[0, 0] = 1
        spectrum = np.fft.rfft2(rng.normal(size=shape)) * frequency ** -rng.uniform(0.8, 2.0)
        field: NDArray[np.floating] = np.fft.irfft2(spectrum, shape)
    else:
        fine = rng.uniform(0.8, 5)
        field = _smooth_noise(shape, rng, fine) - _smooth_noise(shape, rng, 2 * fine) * rng.random()
    if rng.random() < 0.3:
        field = np.tanh(field / (field.std() or 1) * rng.uniform(0.5, 4))
    if rng.random() < 0.3:
        angle = rng.uniform(0, np.pi)
        gy, gx = np.mgrid[: shape[0], : shape[1]]
        wave = np.sin((gy * np.cos(angle) + gx * np.sin(angle)) * rng.uniform(0.1, 2.0) + 2 * field)
        field = field / (field.std() or 1) * rng.random() + wave
    return _rescale(gaussian_filter(field, rng.uniform(0, 0.8)))


def _smooth_noise(shape: tuple[int, int], rng: np.random.Generator, sigma: float) -> Phantom:
    field = gaussian_filter(rng.normal(size=shape).astype(np.float32), sigma, mode="wrap")
    return np.asarray(field / (field.std() or 1), dtype=np.float32)


PHANTOMS: dict[str, Generator] = {
    "dead_leaves": dead_leaves,
    "filaments": filaments,
    "puncta": puncta,
    "membranes": membranes,
    "nuclei": nuclei,
    "texture": texture,
}


def random_phantom(shape: tuple[int, int], rng: np.random.Generator) -> Phantom:
    """Draw a phantom of any kind, or a mixture of two, bent and blurred as a microscope would.

    Parameters
    ----------
    shape : tuple of int
        Height and width in pixels.
    rng : numpy.random.Generator
        Source of all randomness.

    Returns
    -------
    numpy.ndarray
        float32, of `shape`, in [0, 1].
    """
    kinds = list(PHANTOMS)
    # Dead leaves carry the edges and corners that every image has: they get a third of the draws.
    chances = np.array([1 / 3 if k == "dead_leaves" else 2 / 3 / (len(kinds) - 1) for k in kinds])
    image: NDArray[np.floating] = PHANTOMS[rng.choice(kinds, p=chances)](shape, rng)
    if rng.random() < 0.3:
        other = PHANTOMS[rng.choice(kinds)](shape, rng)
        image = image + rng.uniform(0.1, 1) * other
    if rng.random() < 0.25:
        gy, gx = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
        bend = [rng.uniform(0, 4) * _smooth_noise(shape, rng, rng.uniform(6, 25)) for _ in range(2)]
        image = map_coordinates(image, [gy + bend[0], gx + bend[1]], order=1, mode="reflect")
    if rng.random() < 0.4:
        image = gaussian_filter(image, rng.uniform(0.3, 1.8))
    if rng.random() < 0.2:
        image = image * (1 + 0.4 * np.tanh(_smooth_noise(shape, rng, min(shape) / 4)))
    return _rescale(image)
