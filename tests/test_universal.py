"""The shipped denoiser does what the panel promises, on images nobody trained it on."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_recon import Image, api
from napari_recon.data.phantoms import dead_leaves, nuclei


def _psnr(truth, image):
    return 10 * np.log10(np.ptp(truth) ** 2 / np.mean((truth - image) ** 2))


@pytest.fixture(scope="module")
def scene():
    return dead_leaves((160, 176), np.random.default_rng(7)).astype(np.float64)


@pytest.mark.parametrize(("photons", "tolerance"), [(10, 0.003), (200, 0.003)])
def test_it_removes_shot_noise_of_any_strength_and_keeps_the_mean(scene, photons, tolerance):
    noisy = np.random.default_rng(0).poisson(scene * photons).astype(np.uint16)
    clean = api.denoise(noisy)
    assert _psnr(scene * photons, clean) > _psnr(scene * photons, noisy) + 3
    assert clean.mean() == pytest.approx(noisy.mean(), rel=tolerance)


def test_correlated_noise_is_removed_too():
    rng = np.random.default_rng(0)
    truth = 200 * gaussian_filter(nuclei((192, 192), rng), 1.5)
    noise = gaussian_filter(rng.normal(size=truth.shape), 0.71)
    noisy = truth + 20 * noise / noise.std()
    assert _psnr(truth, api.denoise(noisy)) > _psnr(truth, noisy) + 5


def test_a_noiseless_image_returns_nearly_itself_and_says_so(scene):
    result = api.denoise(Image(scene.astype(np.float32), "YX"))
    assert _psnr(scene, result.array) > 45
    assert any("hardly any noise" in note for note in result.metadata["napari_recon"]["notes"])


def test_pure_noise_becomes_nearly_flat():
    noise = np.random.default_rng(0).normal(100, 10, (128, 128))
    assert api.denoise(noise).std() < 1.5


def test_frames_of_a_movie_do_not_flicker(scene):
    movie = np.stack([scene * 100 + np.random.default_rng(i).normal(0, 10, scene.shape) for i in range(6)])
    residual = (api.denoise(movie, axes="TYX") - scene * 100).std(axis=(1, 2))
    assert np.abs(np.diff(residual)).max() / residual.mean() < 0.02


def test_strength_goes_from_nothing_to_more(scene):
    noisy = scene * 100 + np.random.default_rng(0).normal(0, 10, scene.shape)
    removed = [np.std(api.denoise(noisy, strength=s) - noisy) for s in (0.0, 0.5, 1.0, 1.5)]
    assert removed[0] == pytest.approx(0, abs=1e-3)
    assert removed == sorted(removed)
    assert removed[1] == pytest.approx(removed[2] / 2, rel=0.01)


def test_known_noise_of_the_whole_image_serves_a_region(scene):
    noisy = scene * 100 + np.random.default_rng(0).normal(0, 10, scene.shape)
    noise = [r.estimate for r in api.measure_noise(noisy)]
    part = api.denoise(noisy[:64, :64], noise=noise)
    whole = api.denoise(noisy, noise=noise)[:64, :64]
    assert np.abs(part - whole)[8:40, 8:40].mean() < 0.5


@pytest.mark.parametrize(
    "image",
    [
        np.random.default_rng(0).poisson(50, (1, 300)),
        np.random.default_rng(0).normal(-500, 20, (64, 64)),
        10.0 ** (9 * np.random.default_rng(0).random((64, 64))),
        (dead_leaves((64, 64), np.random.default_rng(0)) > 0.5).astype(np.uint8) * 255,
        np.clip(dead_leaves((64, 64), np.random.default_rng(0)) * 1000, 0, 255).astype(np.uint8),
    ],
    ids=["one pixel high", "negative", "nine decades", "binary mask", "saturated"],
)
def test_odd_images_are_done_without_a_fuss(image):
    before = image.copy()
    clean = api.denoise(image)
    assert clean.shape == image.shape
    assert np.isfinite(clean).all()
    np.testing.assert_array_equal(image, before)


def test_adapting_keeps_what_it_started_from_unless_it_becomes_clearly_better(scene):
    noisy = scene * 100 + np.random.default_rng(0).normal(0, 10, scene.shape)
    model = api.train("autoencoder", noisy, steps=6, validate_every=2, batch_size=2)
    losses = dict(model.provenance["validation_loss"])
    assert model.provenance["started_from"]["name"] == "universal"
    assert 0 in losses
    best = model.provenance["best_step"]
    assert best == 0 or losses[best] < losses[0] - 0.05
    if best == 0:
        shipped = api.load_model("universal").weights
        assert all((model.weights[name] == shipped[name].float()).all() for name in shipped)


def test_the_noise_doctor_names_family_mask_and_noise_model():
    clean = 200 * gaussian_filter(nuclei((192, 192), np.random.default_rng(0)), 1.0)
    report = api.measure_noise(
        np.random.default_rng(1).poisson(clean) + np.random.default_rng(2).normal(0, 5, clean.shape)
    )
    for word in ("universal", "autoencoder", "mask along: none", "VAE", "noise model: gaussian"):
        assert word in report[0].advice
    assert len(report[0].to_json()["curve"]) >= 3


def test_the_noise_doctor_advises_a_mask_for_striped_noise():
    rng = np.random.default_rng(0)
    noise = gaussian_filter(rng.normal(size=(256, 256)), (0, 0.8))
    image = 100 + 200 * gaussian_filter(nuclei((256, 256), rng), 2) + 10 * noise / noise.std()
    report = api.measure_noise(image)[0]
    assert report.options["mask_axis"] == "x"
    assert "correlated" in report.line()
    assert "mask along: x" in report.advice
    assert "blind levels" in report.advice
