"""Stabilising Poisson-Gaussian noise, and coming back to intensities without bias; drawing correlated noise."""

import numpy as np
import pytest
import torch

from napari_recon.data.noise import stabilise, stabilised_mean, unstabilise
from napari_recon.data.noise_simulation import correlated_noise, lag1_correlation

CAMERAS = [
    pytest.param(1.0, 0.0, 0.0, id="photon counting"),
    pytest.param(2.0, 0.0, 3.0, id="read noise"),
    pytest.param(0.5, 100.0, 1.2, id="sCMOS with offset"),
    pytest.param(12.0, 500.0, 24.0, id="EMCCD"),
    pytest.param(0.01, 0.0, 0.002, id="scaled to 1"),
    pytest.param(1.0, -500.0, 4.0, id="background subtracted"),
    pytest.param(3.0, -9000.0, 12.0, id="whole numbers around zero"),
]


def _take(photons, gain, offset, read_noise, count, rng):
    """Pixels as a camera gives them."""
    return gain * rng.poisson(photons, count) + offset + rng.normal(0, 1, count) * read_noise


def _intercept(gain, offset, read_noise):
    return read_noise**2 - gain * offset


@pytest.mark.parametrize(("gain", "offset", "read_noise"), CAMERAS)
def test_noise_has_unit_strength_after_stabilising(gain, offset, read_noise):
    rng = np.random.default_rng(0)
    for photons in (10, 50, 300, 5000):
        pixels = _take(photons, gain, offset, read_noise, 100_000, rng)
        done = stabilise(pixels, gain, _intercept(gain, offset, read_noise))
        assert done.std() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(("gain", "offset", "read_noise"), CAMERAS)
@pytest.mark.parametrize("photons", [0.5, 1, 3, 10, 100, 119, 121, 2000])
def test_the_inverse_recovers_true_intensities_even_of_few_photons(photons, gain, offset, read_noise):
    rng = np.random.default_rng(1)
    intercept = _intercept(gain, offset, read_noise)
    pixels = _take(photons, gain, offset, read_noise, 1_000_000, rng)
    mean = np.array([stabilise(pixels, gain, intercept).mean()])
    found = (unstabilise(mean, gain, intercept)[0] - offset) / gain
    # The offset cannot be told from the read noise, which matters a little where there are hardly any photons.
    assert found == pytest.approx(photons, rel=0.015, abs=0.05 if offset else 0.02)


def test_the_plain_inverse_would_be_darker():
    pixels = _take(2, 1.0, 0, 0, 200_000, np.random.default_rng(2))
    mean = stabilise(pixels, 1.0, 0.0).mean()
    assert (mean / 2) ** 2 - 0.375 < 1.8 < unstabilise(np.array([mean]), 1.0, 0.0)[0]


@pytest.mark.parametrize("read_variance", [0.0, 0.5, 9.0, 9_999.0, 10_001.0, 1e8, 1e16])
def test_the_inverse_rises_without_jumps_at_every_strength_of_read_noise(read_variance):
    photons = np.concatenate([np.linspace(0, 400, 4001), np.linspace(401, 4000, 500)])
    levels = stabilised_mean(photons, 1.0, read_variance)
    found = unstabilise(levels, 1.0, read_variance)
    assert (np.diff(found) >= 0).all()
    # The expansion in `stabilised_mean` holds where the variance is above 1.
    noise = np.sqrt(photons + read_variance)
    bright = noise > 1.5
    assert (np.abs(found - photons)[bright] < 0.05 * noise[bright]).all()


def test_darker_than_dark_goes_on_below_zero_instead_of_being_clipped():
    found = unstabilise(np.array([0.0, 0.5, 1.0], np.float32), 1.0, 0.0)
    assert (np.diff(found) > 0).all()
    assert found[0] < 0


@pytest.mark.parametrize("sigma", [0.1, 25.0])
def test_noise_that_does_not_depend_on_the_signal_is_only_scaled(sigma):
    image = np.linspace(-100, 100, 50)
    done = stabilise(image, 0.0, sigma**2)
    np.testing.assert_allclose(done, image / sigma)
    np.testing.assert_allclose(unstabilise(done, 0.0, sigma**2), image, rtol=1e-5)
    np.testing.assert_allclose(stabilised_mean(image, 0.0, sigma**2), done)


def test_torch_and_numpy_stabilise_alike():
    image = np.random.default_rng(0).poisson(20, (16, 16)).astype(np.float32)
    for gain, intercept in ((1.0, 4.0), (0.0, 9.0)):
        done = stabilise(torch.from_numpy(image), gain, intercept).numpy()
        np.testing.assert_allclose(done, stabilise(image, gain, intercept), rtol=1e-5)


def test_values_below_what_the_camera_can_give_stay_finite():
    done = stabilise(np.array([-1e6, -1.0, 0.0]), 1.0, 0.0)
    assert np.isfinite(done).all()
    assert (done >= 0).all()


@pytest.mark.parametrize(
    ("blur", "stripes"), [((0, 0), (0, 0)), ((0.6, 0), (0, 0)), ((0.4, 0.8), (0, 0)), ((0, 0), (0.3, 0.1))]
)
def test_drawn_noise_has_unit_variance_and_the_correlation_asked_for(blur, stripes):
    rng = torch.Generator().manual_seed(0)
    blurs, shares = torch.tensor([blur] * 4, dtype=torch.float32), torch.tensor([stripes] * 4)
    noise = correlated_noise((4, 1, 96, 128), blurs, shares, rng)
    assert noise.shape == (4, 1, 96, 128)
    assert noise.mean().abs() < 0.1
    assert noise.std() == pytest.approx(1, abs=0.08)
    along_y, along_x = lag1_correlation(noise).mean(dim=0).tolist()
    expected = [s + (1 - sum(stripes)) * _blurred(b) for s, b in zip(stripes[::-1], blur, strict=True)]
    assert [along_y, along_x] == pytest.approx(expected, abs=0.06)


def _blurred(b):
    """Lag-1 correlation of white noise on a grid after a Gaussian transfer function of width b."""
    f = np.fft.fftfreq(1024)
    power = np.exp(-4 * np.pi**2 * (b * f) ** 2)
    return float((power * np.cos(2 * np.pi * f)).sum() / power.sum())


def test_the_same_seed_draws_the_same_noise():
    args = (1, 1, 16, 16), torch.ones(1, 2), torch.zeros(1, 2)
    a, b = (correlated_noise(*args, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a, b)
