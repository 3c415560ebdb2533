"""Normalisation: there and back without loss, measured per channel on finite pixels only."""

import json

import numpy as np
import pytest

from napari_recon.data.noise_estimate import NoiseEstimate
from napari_recon.data.normalization import Normalization, measure
from napari_recon.errors import ReconError


@pytest.fixture
def stack():
    """Two channels of unlike intensities with Poisson noise."""
    rng = np.random.default_rng(0)
    smooth = 40 + 30 * np.sin(np.linspace(0, 6, 64))[:, None] * np.cos(np.linspace(0, 5, 64))
    first = rng.poisson(smooth, (3, 64, 64)) * 2.0 + 100
    second = rng.normal(5, 0.2, (3, 64, 64)) + smooth / 20
    return np.stack([first, second], axis=1)


def test_standard_gives_each_channel_mean_zero_and_deviation_one(stack):
    found = measure([stack], stabilised=False)
    assert found.channels == 2
    for c in (0, 1):
        done = found.forward(stack[:, c], c)
        assert done.dtype == np.float32
        assert abs(done.mean()) < 1e-3
        assert abs(done.std() - 1) < 1e-3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float16, np.float32, np.float64])
def test_standard_comes_back_to_the_same_values_from_every_pixel_type(stack, dtype):
    stack = stack.astype(dtype)
    found = measure([stack], stabilised=False)
    for c in (0, 1):
        back = found.inverse(found.forward(stack[:, c], c), c)
        assert back.dtype == np.float32
        np.testing.assert_allclose(back, stack[:, c], rtol=1e-5, atol=1e-4)


def test_stabilised_noise_has_the_same_strength_in_dark_and_bright_fields():
    rng = np.random.default_rng(1)
    levels = np.repeat([20.0, 60.0, 180.0, 500.0], 64)
    image = rng.poisson(np.broadcast_to(levels, (256, 256))) * 3.0 + 50 + rng.normal(0, 4, (256, 256))
    found = measure([image[None, None]], stabilised=True, unit_noise=True)
    done = found.forward(image, 0).reshape(256, 4, 64)
    np.testing.assert_allclose(done.std(axis=(0, 2)), 1, atol=0.25)
    assert abs(done.mean()) < 0.01
    assert measure([image[None, None]], stabilised=True).forward(image, 0).std() == pytest.approx(1, abs=0.01)


def test_stabilised_comes_back_to_the_mean_that_was_there_before_the_noise():
    rng = np.random.default_rng(2)
    noise = NoiseEstimate(gain=2.0, intercept=9.0 - 2 * 100)
    found = Normalization((10.0,), (4.0,), (noise,))
    for level in (3.0, 30.0, 300.0):
        noisy = rng.poisson(level, 400_000) * 2.0 + 100 + rng.normal(0, 3, 400_000)
        mean = np.full(4, found.forward(noisy, 0).mean(dtype=float), np.float32)
        assert found.inverse(mean, 0).mean() - 100 == pytest.approx(2 * level, rel=0.02)


def test_bright_stabilised_pixels_come_back_nearly_as_they_were():
    noise = NoiseEstimate(gain=1.0, intercept=4.0)
    found = Normalization((3.0,), (2.0,), (noise,))
    values = np.linspace(50, 60_000, 1000, dtype=np.float32)
    # The unbiased inverse differs from the plain one by a quarter of the gain.
    np.testing.assert_allclose(found.inverse(found.forward(values, 0), 0), values, rtol=1e-4, atol=0.3)


def test_noise_that_hardly_depends_on_the_signal_is_not_lost_to_rounding():
    values = np.random.default_rng(0).normal(1000, 20, 10_000).astype(np.float32)
    for gain in (0.0, 1e-9, 1e-6, 1e-4):
        found = Normalization((0.0,), (1.0,), (NoiseEstimate(gain=gain, intercept=400.0),))
        shifted = Normalization((float(found.forward(values[:1], 0)[0]),), (1.0,), found.noise)
        done = shifted.forward(values, 0)
        assert done.std() == pytest.approx(1, abs=0.03)
        np.testing.assert_allclose(shifted.inverse(done, 0), values, atol=0.1)


def test_pixels_that_are_no_numbers_are_left_out(stack):
    clean = measure([stack], stabilised=False)
    holed = np.concatenate([stack, np.full_like(stack, np.nan)])
    holed[3, 0, :5] = np.inf
    with_holes = measure([holed], stabilised=False)
    np.testing.assert_allclose(with_holes.mean, clean.mean)
    np.testing.assert_allclose(with_holes.std, clean.std)
    assert np.isfinite(measure([holed], stabilised=True).std).all()


def test_several_arrays_count_as_one():
    a, b = np.zeros((1, 1, 8, 8)), np.ones((1, 1, 8, 24))
    found = measure([a, b], stabilised=False)
    assert found.mean == (0.75,)


@pytest.mark.parametrize("stabilised", [False, True])
@pytest.mark.parametrize("value", [0, 7, 0.1, 1e6 / 3])
def test_a_constant_channel_is_named_and_refused(stack, value, stabilised):
    stack[:, 1] = value
    with pytest.raises(ReconError, match="Channel 1 is constant") as caught:
        measure([stack], stabilised=stabilised)
    assert caught.value.hint


@pytest.mark.parametrize("stabilised", [False, True])
def test_a_channel_without_a_single_number_is_refused(stack, stabilised):
    stack[:, 0] = np.nan
    with pytest.raises(ReconError, match="Channel 0 has no finite pixel"):
        measure([stack], stabilised=stabilised)


def test_an_image_without_noise_can_be_stabilised():
    image = np.linspace(0, 1, 4096).reshape(1, 1, 64, 64)
    found = measure([image], stabilised=True)
    done = found.forward(image, 0)
    assert np.isfinite(done).all()
    np.testing.assert_allclose(found.inverse(done[:, 0], 0), image[:, 0], atol=0.01)


def test_json_brings_back_the_same_normalisation(stack):
    blank = np.concatenate([stack, np.full_like(stack[:, :1], 7)], 1)
    for stabilised in (False, True):
        found = measure([blank], stabilised=stabilised, blanks=True)
        assert Normalization.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": ["a"]},
        {"std": [1.0, 2.0]},
        {"std": [0.0]},
        {"std": [-1.0]},
        {"mean": [float("nan")]},
        {"noise": [{}] * 2},
    ],
)
def test_json_that_was_altered_is_refused(wrong):
    values = Normalization((1.0,), (2.0,)).to_json()
    with pytest.raises((KeyError, TypeError, ValueError)):  # which a model file turns into its ReconError
        Normalization.from_json({**values, **wrong})


def test_the_noise_level_told_to_a_network_is_in_normalised_units():
    noise = NoiseEstimate(gain=1.0, intercept=1.0, correlation=(0.4, 0.2))
    assert Normalization((0.0,), (5.0,), (noise,)).noise_level(0) == pytest.approx((0.2, 0.08, 0.04))


def test_lazy_arrays_are_measured_as_others(stack):
    import dask.array

    lazy = dask.array.from_array(stack, chunks=(1, 1, 32, 32))
    assert measure([lazy], stabilised=False) == measure([stack], stabilised=False)
    assert np.isfinite(measure([lazy], stabilised=True).forward(lazy[0, 0], 0)).all()
