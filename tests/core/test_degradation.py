"""Low resolution comes about as in a microscope: blur, larger pixels, noise; and as the public test sets made it."""

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve

from napari_recon.data.degradation import Optics, bicubic_downsample, blur, check_psf, gaussian_kernels
from napari_recon.data.psf import psf_sigma
from napari_recon.errors import ReconError
from napari_recon.models.generators import enlarge


def picture(height=24, width=32, channels=1):
    return torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_binning_and_blur_keep_the_light(scale):
    x = torch.zeros(1, 1, 48, 48)
    x[..., 20:28, 20:28] = 3.0
    low = Optics.gaussian(scale, 1.2).expected(x)
    assert low.shape == (1, 1, 48 // scale, 48 // scale)
    assert float(low.sum()) * scale**2 == pytest.approx(float(x.sum()), rel=1e-5)


def test_the_centre_of_light_stays_where_it_was():
    x = torch.zeros(1, 1, 32, 32)
    x[..., 13, 18] = 1.0
    low = Optics.gaussian(2, 1.0).expected(x)[0, 0]
    place = (torch.arange(16) + 0.5) * 2 - 0.5  # centres of the large pixels, in small ones
    assert float((low.sum(1) * place).sum() / low.sum()) == pytest.approx(13, abs=0.51)
    assert float((low.sum(0) * place).sum() / low.sum()) == pytest.approx(18, abs=0.51)


def test_blur_is_a_convolution_with_each_images_own_kernel():
    x, kernels = picture(), torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(1))
    done = blur(x, kernels)
    for i in range(2):
        expected = convolve(x[i, 0].numpy(), kernels[i].numpy(), mode="mirror")
        np.testing.assert_allclose(done[i, 0].numpy(), expected, rtol=1e-5, atol=1e-5)


def test_a_gaussian_kernel_has_the_width_asked_for():
    kernel = gaussian_kernels(torch.tensor([1.5]))[0]
    place = torch.arange(len(kernel)) - len(kernel) // 2
    assert float(kernel.sum()) == pytest.approx(1)
    assert float((kernel.sum(1) * place**2).sum()) == pytest.approx(1.5**2, rel=0.05)


def test_the_psf_follows_from_the_microscope():
    assert psf_sigma(na=1.4, wavelength=520, pixel_size=65) == pytest.approx(1.286, abs=0.001)


@pytest.mark.parametrize("scale", [2, 4])
def test_bicubic_goes_down_and_up_as_matlabs_does(scale):
    """A ramp stays a ramp with the pixel centres where cameras have them; a step overshoots on both sides."""
    ramp = torch.arange(64.0).expand(1, 1, 64, 64)
    inner = slice(3, -3)
    low = bicubic_downsample(ramp, scale)[0, 0, 5]
    expected = (torch.arange(64 // scale) + 0.5) * scale - 0.5
    torch.testing.assert_close(low[inner], expected[inner], rtol=0, atol=1e-3)
    up = enlarge(low.expand(1, 1, 8, -1), scale)[0, 0, 5]
    torch.testing.assert_close(up[16:-16], torch.arange(64.0)[16:-16], rtol=0, atol=1e-3)
    step = (torch.arange(64) >= 32).float().expand(1, 1, 64, 64)
    assert float(bicubic_downsample(step, scale).max()) == pytest.approx(1.0469, abs=0.06)


def test_matlabs_cubic_and_not_torchs():
    """Between two samples of a point, Keys' cubic with a = -0.5 gives 0.5625 in the middle, torch's own 0.59."""
    x = torch.zeros(1, 1, 1, 8)
    x[..., 4] = 1.0
    quarter = enlarge(x.expand(1, 1, 8, 8), 2)[0, 0, 8]
    t = 0.25
    assert float(quarter[8]) == pytest.approx(1.5 * t**3 - 2.5 * t**2 + 1, abs=1e-5)


def test_noise_has_the_strength_of_its_photons():
    x = torch.full((1, 1, 256, 256), 0.5)
    noisy = Optics(2, photons=100, read_noise=3)(x, torch.Generator().manual_seed(0))
    assert float(noisy.mean()) == pytest.approx(0.5, rel=0.01)
    assert float(noisy.var()) * 100**2 == pytest.approx(50 + 9, rel=0.05)
    assert torch.equal(Optics(2)(x, torch.Generator()), Optics(2).expected(x))


def test_a_measured_psf_loses_its_background_and_may_have_even_sides():
    y, x = np.mgrid[:8, :9]
    bead = 100 + 50 * np.exp(-((y - 4) ** 2 + (x - 4) ** 2) / 2)
    kernel = check_psf(bead)
    assert kernel.shape == (9, 9)
    assert kernel.sum() == pytest.approx(1)
    assert kernel[0, 0] == 0
    assert kernel.argmax() == 4 * 9 + 4


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (lambda: psf_sigma(1.4, -520, 65), "wavelength is -520"),
        (lambda: psf_sigma(0, 520, 65), "numerical aperture is 0"),
        (lambda: Optics.gaussian(2, 30.0).expected(picture()), "larger than the image"),
        (lambda: check_psf(np.zeros((5, 5))), "no light"),
        (lambda: check_psf(np.ones((3, 5, 5))), "3 axes"),
        (lambda: check_psf(np.full((5, 5), np.nan)), "NaN"),
    ],
)
def test_optics_that_cannot_be_are_refused(what, words):
    with pytest.raises(ReconError, match=words) as caught:
        what()
    assert caught.value.hint
