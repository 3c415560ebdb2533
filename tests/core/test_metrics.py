"""Metrics: known values, invariances, and refusals."""

import math

import dask.array
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import data

from napari_recon.errors import ReconError
from napari_recon.image import Image
from napari_recon.quality.metrics import evaluate, nrmse, psnr, si_psnr, ssim

CAMERA = data.camera()[::8, ::8]


def noisy(seed=0, sigma=20.0):
    return CAMERA + np.random.default_rng(seed).normal(0, sigma, CAMERA.shape)


def test_psnr_of_a_known_error():
    # An error of 1 everywhere is 20 log10(255) decibels below the peak.
    assert psnr(np.full((9, 9), 100), np.full((9, 9), 101), data_range=255) == pytest.approx(48.1308, abs=1e-4)


def test_unsigned_pixels_do_not_wrap_around():
    dark, bright = np.full((9, 9), 0, np.uint8), np.full((9, 9), 255, np.uint8)
    assert psnr(dark, bright, data_range=255) == pytest.approx(0)


def test_an_image_equals_itself():
    scores = evaluate(CAMERA, CAMERA)
    assert scores == {"psnr": math.inf, "si_psnr": math.inf, "ssim": pytest.approx(1), "nrmse": 0}


@given(st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_si_psnr_does_not_see_gain_and_offset(gain, offset):
    assert si_psnr(CAMERA, gain * noisy() + offset) == pytest.approx(si_psnr(CAMERA, noisy()), abs=1e-6)


def test_si_psnr_of_a_flat_prediction_is_finite():
    assert math.isfinite(si_psnr(CAMERA, np.zeros(CAMERA.shape)))


def test_si_psnr_is_never_below_psnr():
    assert si_psnr(CAMERA, noisy() * 0.7 + 30) > psnr(CAMERA, noisy() * 0.7 + 30)
    assert si_psnr(CAMERA, noisy()) >= psnr(CAMERA, noisy())


def test_more_noise_scores_worse_in_all():
    little, much = evaluate(CAMERA, noisy(sigma=10)), evaluate(CAMERA, noisy(sigma=40))
    assert all(little[k] > much[k] for k in ("psnr", "si_psnr", "ssim"))
    assert little["nrmse"] < much["nrmse"]


def test_a_given_range_counts():
    assert psnr(CAMERA, noisy(), 510) - psnr(CAMERA, noisy(), 255) == pytest.approx(20 * math.log10(2))


def test_ssim_of_a_stack_is_the_mean_of_its_planes():
    truth, other = np.stack([CAMERA] * 3), np.stack([noisy(s, 10 * s + 5) for s in range(3)])
    planes = [ssim(t, o, data_range=255) for t, o in zip(truth, other, strict=True)]
    assert ssim(truth, other, data_range=255) == pytest.approx(np.mean(planes))


@pytest.mark.parametrize("side", [3, 4, 6])
def test_small_images_have_an_ssim(side):
    assert ssim(CAMERA[:side, :side], CAMERA[:side, :side], 255) == pytest.approx(1)


def test_images_in_another_order_are_aligned():
    truth, other = np.stack([CAMERA, CAMERA + 1.0]), np.stack([noisy(1), noisy(2)])
    turned = Image(np.moveaxis(other, 0, -1), "YXC")
    assert evaluate(Image(truth, "CYX"), turned) == pytest.approx(evaluate(truth, other))


def test_lazy_arrays_are_measured():
    assert nrmse(CAMERA, dask.array.from_array(noisy(), chunks=16)) == pytest.approx(nrmse(CAMERA, noisy()))


def broken(value):
    image = noisy()
    image[3, 4] = value
    return image


@pytest.mark.parametrize(
    ("reference", "image", "data_range"),
    [
        (CAMERA, noisy()[1:], None),
        (CAMERA, broken(np.nan), None),
        (broken(np.inf), CAMERA, None),
        (np.ones((9, 9)), np.zeros((9, 9)), None),
        (np.ones((9, 9)), np.zeros((9, 9)), 1.0),
        (CAMERA, noisy(), 0.0),
        (CAMERA, noisy(), -1.0),
        (CAMERA, noisy(), math.nan),
        (CAMERA[:2], noisy()[:2], None),
        (CAMERA > 9, CAMERA > 9, None),
    ],
)
def test_what_cannot_be_compared_is_refused(reference, image, data_range):
    with pytest.raises(ReconError) as error:
        evaluate(reference, image, data_range)
    assert error.value.hint
