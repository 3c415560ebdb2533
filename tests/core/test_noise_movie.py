"""What changes between the frames of a movie shows its noise, where the scene stands still."""

import numpy as np
import pytest
from scipy.ndimage import shift

from napari_recon import api
from napari_recon.axes import time_step
from napari_recon.data.noise_estimate import estimate_noise
from napari_recon.data.phantoms import PHANTOMS

GAIN, OFFSET, READ_NOISE, PHOTONS = 2.0, 100.0, 5.0, 150
LEVEL = OFFSET + GAIN * PHOTONS / 2
TRUE = np.sqrt(GAIN**2 * PHOTONS / 2 + READ_NOISE**2)


def _movie(kind, motion=0.0, bleaching=1.0, moving_rows=192, frames=5):
    rng = np.random.default_rng(0)
    scene = PHANTOMS[kind]((192, 192), np.random.default_rng(7)).astype(np.float64)
    movie = []
    for t in range(frames):
        frame = scene.copy()
        frame[:moving_rows] = np.clip(shift(scene, (0, motion * t), order=1, mode="mirror"), 0, 1)[:moving_rows]
        light = rng.poisson(frame * bleaching**t * PHOTONS) * GAIN
        movie.append(light + OFFSET + rng.normal(0, READ_NOISE, scene.shape))
    return np.stack(movie)


def _error(found):
    return abs(np.sqrt(found.variance(LEVEL)) / TRUE - 1)


@pytest.mark.parametrize("bleaching", [1.0, 0.9])
def test_sharp_specimen_does_not_pass_for_noise_in_a_movie(bleaching):
    movie = _movie("dead_leaves", bleaching=bleaching)
    found = estimate_noise([movie], [1])
    assert found.temporal
    assert found.gain == pytest.approx(GAIN, rel=0.05)
    assert np.sqrt(found.variance(OFFSET)) == pytest.approx(READ_NOISE, rel=0.15)
    assert _error(found) < _error(estimate_noise([movie]))


@pytest.mark.parametrize("kind", ["nuclei", "filaments", "dead_leaves"])
@pytest.mark.parametrize("motion", [0.05, 0.4, 3.0])
def test_motion_never_makes_it_worse_than_each_frame_by_itself(kind, motion):
    movie = _movie(kind, motion)
    assert _error(estimate_noise([movie], [1])) < max(_error(estimate_noise([movie])) + 0.01, 0.05)


def test_the_part_that_stands_still_suffices():
    found = estimate_noise([_movie("nuclei", motion=3.0, moving_rows=96)], [1])
    assert found.gain == pytest.approx(GAIN, rel=0.1)


def test_frames_that_share_noise_are_not_compared():
    movie = _movie("nuclei", frames=8)
    running_mean = (movie[1:] + movie[:-1]) / 2
    for frames, gain in ((running_mean, GAIN / 2), (np.repeat(movie, 2, axis=0), GAIN)):
        found = estimate_noise([frames], [1])
        assert not found.temporal
        assert found.gain == pytest.approx(gain, rel=0.1)


def test_two_frames_and_stacks_are_no_movie():
    movie = _movie("nuclei", frames=2)
    assert not estimate_noise([movie], [1]).temporal
    assert not api.measure_noise(_movie("nuclei"), axes="ZYX")[0].estimate.temporal


@pytest.mark.parametrize(
    ("axes", "shape", "spatial", "step"),
    [
        ("TYX", (5, 8, 9), "YX", 1),
        ("ZTYX", (3, 5, 8, 9), "YX", 3),
        ("TZCYX", (5, 3, 2, 8, 9), "YX", 3),
        ("TZYX", (5, 3, 8, 9), "ZYX", 1),
        ("ZYX", (5, 8, 9), "YX", 0),
    ],
)
def test_steps_from_one_time_to_the_next(axes, shape, spatial, step):
    assert time_step(axes, shape, spatial) == step


def test_the_axes_tell_the_times_wherever_they_stand():
    movie = _movie("dead_leaves")
    by_itself = api.measure_noise(movie, axes="TYX")[0].estimate
    assert by_itself.temporal
    planes = np.stack([movie, movie[:, ::-1]], axis=1)  # T, Z
    found = api.measure_noise(np.moveaxis(planes, 0, 1), axes="ZTYX")[0].estimate
    assert found.gain == pytest.approx(by_itself.gain, rel=0.05)
