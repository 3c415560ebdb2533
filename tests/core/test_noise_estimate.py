"""The noise of an image is found from the image alone, whatever is on it."""

import json

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_recon.data.noise_curve import BINS
from napari_recon.data.noise_estimate import NoiseEstimate, estimate_noise
from napari_recon.data.noise_learned import SIDES
from napari_recon.data.noise_network import Blocks, answer, shapes
from napari_recon.data.phantoms import PHANTOMS

TOLERANCE = 0.3


def _scene(kind, seed=0, size=256):
    return PHANTOMS[kind]((size, size), np.random.default_rng(seed)).astype(np.float64)


def _take(scene, rng, gain, offset, read_noise, photons=200):
    return rng.poisson(scene * photons) * gain + offset + rng.normal(0, 1, scene.shape) * read_noise


@pytest.mark.parametrize("kind", ["dead_leaves", "puncta", "membranes", "nuclei", "filaments"])
@pytest.mark.parametrize(("gain", "offset", "read_noise"), [(1.0, 0.0, 2.0), (3.0, 100.0, 6.0), (0.02, 0.1, 0.04)])
def test_noise_of_a_camera_is_found_at_dark_and_bright_levels(kind, gain, offset, read_noise):
    rng = np.random.default_rng(1)
    scene = _scene(kind, seed=2)
    image = _take(scene, rng, gain, offset, read_noise)
    found = estimate_noise([image[None]])
    for share in (0.1, 0.5, 0.9):
        level = float(np.quantile(scene, share)) * 200 * gain
        true = np.sqrt(gain * level + read_noise**2)
        assert np.sqrt(found.variance(level + offset)) == pytest.approx(true, rel=TOLERANCE)


IDENTIFIABLE = [
    ("nuclei", 2, 256), ("nuclei", 4, 256), ("nuclei", 2, 512), ("filaments", 2, 256), ("filaments", 2, 512),
    ("puncta", 4, 256), ("puncta", 4, 512), ("nuclei", 4, 512),
]  # fmt: skip
"""Scenes with dark pixels and with bright parts that are not all edges: elsewhere the two cannot be told apart."""


@pytest.mark.parametrize(("kind", "seed", "size"), IDENTIFIABLE)
@pytest.mark.parametrize(
    ("gain", "offset", "read_noise", "photons"),
    [(3.0, 100.0, 6.0, 200), (0.02, 0.1, 0.04, 200), (1.0, 0.0, 5.0, 200), (0.5, 100.0, 1.6, 400)],
)
def test_gain_and_read_noise_are_found_apart(kind, seed, size, gain, offset, read_noise, photons):
    image = _take(_scene(kind, seed, size), np.random.default_rng(1), gain, offset, read_noise, photons)
    found = estimate_noise([image[None]])
    assert found.gain == pytest.approx(gain, rel=0.1)
    assert np.sqrt(found.variance(offset)) == pytest.approx(read_noise, rel=0.15)


def test_a_stack_tells_more_than_one_of_its_planes():
    stack = np.stack([_take(_scene("nuclei", s, 128), np.random.default_rng(s), 2.0, 100.0, 5.0) for s in range(8)])
    found = estimate_noise([stack])
    assert found.gain == pytest.approx(2, rel=0.1)
    assert np.sqrt(found.variance(100.0)) == pytest.approx(5, rel=0.15)


def test_an_image_stretched_to_bytes_has_its_noise_in_bytes():
    image = _take(_scene("nuclei", 4, 512), np.random.default_rng(1), 1.0, 0.0, 2.0, 200)
    low, high = np.quantile(image, [0.001, 0.998])
    stretch = 255 / (high - low)
    found = estimate_noise([np.clip(np.round((image - low) * stretch), 0, 255).astype(np.uint8)[None]])
    assert found.gain == pytest.approx(stretch, rel=0.1)
    assert np.sqrt(found.variance(-low * stretch)) == pytest.approx(2 * stretch, rel=0.15)


def test_noise_of_a_row_of_pixels_is_found():
    row = np.random.default_rng(0).normal(50, 7, (1, 1, 600))
    assert estimate_noise([row]).read_noise == pytest.approx(7, rel=0.2)
    assert estimate_noise([row.transpose(0, 2, 1)]).read_noise == pytest.approx(7, rel=0.2)


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.4])
@pytest.mark.parametrize("kind", ["dead_leaves", "nuclei", "membranes"])
def test_gaussian_noise_is_found(kind, sigma):
    scene = _scene(kind, seed=3)
    image = scene + np.random.default_rng(0).normal(0, sigma, scene.shape)
    found = estimate_noise([image[None]])
    assert np.sqrt(found.variance(float(scene.mean()))) == pytest.approx(sigma, rel=TOLERANCE)


def test_the_estimate_is_in_the_units_of_the_image():
    image = _take(_scene("nuclei"), np.random.default_rng(0), 1.0, 0.0, 2.0)
    one, tenfold = estimate_noise([image[None]]), estimate_noise([10 * image[None] + 50])
    assert tenfold.gain == pytest.approx(10 * one.gain, rel=0.02)
    assert tenfold.read_noise == pytest.approx(10 * one.read_noise, rel=0.02)
    assert tenfold.offset == pytest.approx(10 * one.offset + 50, abs=1)
    assert tenfold.snr == pytest.approx(one.snr, rel=0.02)


@pytest.mark.parametrize("blur", [0.7, 1.0])
@pytest.mark.parametrize(
    ("kind", "seed"), [("dead_leaves", 402), ("filaments", 401), ("nuclei", 400), ("membranes", 400)]
)
def test_correlated_noise_is_seen_beside_specimen_that_is_much_stronger(kind, seed, blur):
    clean, rng = 300 * _scene(kind, seed), np.random.default_rng(3)
    in_step = gaussian_filter(rng.standard_normal(clean.shape), blur)
    noisy = clean + np.sqrt(clean + 4) * in_step / in_step.std()
    found = estimate_noise([noisy[None]])
    assert found.correlation == pytest.approx([np.exp(-1 / (4 * blur**2))] * 2, abs=0.1)
    dark = float(np.quantile(clean, 0.2))
    assert np.sqrt(found.variance(dark)) == pytest.approx(np.sqrt(dark + 4), rel=0.2)


@pytest.mark.parametrize("seed", [7, 100, 105])
def test_white_noise_beside_texture_that_is_much_stronger_does_not_pass_for_correlated(seed):
    clean, rng = 300 * _scene("texture", seed), np.random.default_rng(3)
    found = estimate_noise([(rng.poisson(clean) + rng.normal(0, 2, clean.shape))[None]])
    assert found.correlation == (0, 0)
    for share in (0.1, 0.5, 0.9):
        level = float(np.quantile(clean, share))
        assert np.sqrt(found.variance(level)) == pytest.approx(np.sqrt(level + 4), rel=0.1)


def test_correlated_noise_is_told_from_white_noise():
    scene, rng = 100 * gaussian_filter(_scene("nuclei"), 2), np.random.default_rng(0)
    white = rng.normal(0, 5, scene.shape)
    assert max(estimate_noise([(scene + white)[None]]).correlation) < 0.08
    along_x = gaussian_filter(rng.normal(0, 5, scene.shape), (0, 0.8))
    along_x *= 5 / along_x.std()
    found = estimate_noise([(scene + along_x)[None]])
    assert found.correlation[1] > 0.4
    assert found.correlation[0] < 0.15
    assert np.sqrt(found.variance(10.0)) == pytest.approx(5, rel=0.4)


def test_saturated_and_clipped_pixels_are_counted_and_do_not_hide_the_noise():
    scene = _scene("dead_leaves", seed=4)
    image = scene * 200 + np.random.default_rng(0).normal(0, 10, scene.shape)
    cut = np.clip(image, 30, 170)
    found = estimate_noise([cut[None]])
    assert found.saturated == pytest.approx((cut == 170).mean(), rel=0.3)
    assert found.clipped == pytest.approx((cut == 30).mean(), rel=0.3)
    assert np.sqrt(found.variance(100.0)) == pytest.approx(10, rel=0.4)
    free = estimate_noise([image[None]])
    assert (free.saturated, free.clipped) == (0, 0)


def test_cleaner_images_have_a_higher_signal_to_noise_ratio():
    scene, rng = _scene("membranes"), np.random.default_rng(0)
    ratios = [estimate_noise([(scene + rng.normal(0, s, scene.shape))[None]]).snr for s in (0.02, 0.1, 0.5)]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] == pytest.approx(scene.std() / 0.02, rel=0.4)


def test_the_range_is_compared_with_the_noise_of_the_brightest_pixels():
    scene = _scene("nuclei", seed=2)
    image = _take(scene, np.random.default_rng(1), 1.0, 0.0, 2.0)
    one, other = estimate_noise([image[None]]), estimate_noise([10 * image[None] + 500])
    dark, bright = np.percentile(200 * scene, [0.1, 99.9])
    assert one.peak_snr == pytest.approx((bright - dark) / np.sqrt(bright + 4), rel=TOLERANCE)
    assert other.peak_snr == pytest.approx(one.peak_snr, rel=0.02)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((1, 32, 32)),
        np.full((1, 32, 32), 0.1),
        np.linspace(0, 1, 1024).reshape(1, 32, 32),
        np.zeros((1, 1, 1)),
        np.eye(5)[None],
        np.full((1, 16, 16), np.nan),
        np.full((1, 16, 16), 1e30),
        np.arange(256, dtype=np.uint8).reshape(1, 16, 16),
    ],
    ids=["black", "constant", "ramp", "one pixel", "tiny", "no number", "huge", "bytes"],
)
def test_images_without_measurable_noise_never_divide_by_zero(image):
    found = estimate_noise([image])
    assert found.gain >= 0
    numbers = [found.gain, found.intercept, found.offset, found.read_noise, found.snr, found.confidence]
    assert np.isfinite(numbers).all()
    finite = image[np.isfinite(image)]
    assert finite.size == 0 or found.variance(float(finite.min())) > 0


def test_missing_pixels_are_left_out():
    image = _take(_scene("nuclei"), np.random.default_rng(0), 2.0, 100.0, 5.0)
    image[::40, ::40] = np.nan
    image[3:20, 100:120] = np.inf
    found = estimate_noise([image[None]])
    assert np.sqrt(found.variance(200.0)) == pytest.approx(np.sqrt(2 * 100 + 25), rel=TOLERANCE)


def test_stacks_of_any_shape_and_type_are_taken_together():
    rng = np.random.default_rng(0)
    images = [_take(_scene("nuclei", s, 96), rng, 2.0, 100.0, 5.0) for s in range(4)]
    stack = np.stack(images).reshape(2, 2, 96, 96)
    as_one = estimate_noise([stack])
    apart = estimate_noise([i[None].astype(np.float32) for i in images])
    assert as_one.variance(200.0) == pytest.approx(apart.variance(200.0), rel=0.05)


def test_points_of_the_curve_lie_about_the_line_and_stay_out_of_json():
    image = _take(_scene("nuclei", 4), np.random.default_rng(0), 2.0, 100.0, 5.0)
    found = estimate_noise([image[None]])
    assert len(found.curve) >= 4
    for brightness, variance in found.curve:
        assert variance == pytest.approx(2 * (brightness - 100) + 25, rel=0.25)
    assert "curve" not in found.to_json()


def test_the_estimate_is_the_same_each_time_and_survives_json():
    image = _take(_scene("nuclei"), np.random.default_rng(0), 2.0, 100.0, 5.0)
    found = estimate_noise([image[None]])
    assert found == estimate_noise([image[None]])
    assert NoiseEstimate.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize(("gain", "intercept"), [(2.0, 9.0), (3.0, -30.0), (0.0, 25.0)])
def test_simulated_noise_has_the_variance_and_the_mean_that_were_asked_for(gain, intercept):
    known = NoiseEstimate(gain, intercept)
    rng = np.random.default_rng(0)
    for level in (15.0, 200.0):
        drawn = known.simulate(np.full((300, 300), level), rng)
        assert drawn.mean() == pytest.approx(level, rel=0.01)
        assert drawn.var() == pytest.approx(known.variance(level), rel=0.03)


@pytest.mark.parametrize("scale", [1.0, 1 / 255])
def test_integers_kept_as_floats_are_measured_like_integers(scale):
    image = np.round(_take(_scene("filaments", 4), np.random.default_rng(0), 1.0, 5.0, 0.4, photons=60)).astype(
        np.uint8
    )
    as_integers, as_floats = (estimate_noise([pixels[None]]) for pixels in (image, image * np.float32(scale)))
    assert as_floats.gain == pytest.approx(as_integers.gain * scale, rel=0.02)
    assert as_floats.read_noise == pytest.approx(as_integers.read_noise * scale, rel=0.02)


@pytest.mark.parametrize("seed", [10, 14])
def test_weak_edges_that_hide_in_the_noise_do_not_pass_for_noise(seed):
    rng = np.random.default_rng(seed)
    scene = PHANTOMS["dead_leaves"]((256, 256), rng).astype(np.float64)
    noisy = rng.poisson(scene * 25) + 20 + rng.normal(0, 1.5, scene.shape)
    assert estimate_noise([noisy[None]]).gain == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize(("kind", "seed"), [("membranes", 30), ("texture", 34), ("texture", 39), ("dead_leaves", 32)])
def test_specimen_that_is_everywhere_does_not_pass_for_noise(kind, seed):
    noisy = _take(_scene(kind, seed), np.random.default_rng(seed), 2.0, 100.0, 3.0, photons=100)
    found = estimate_noise([noisy[None]])
    bright = np.quantile(noisy, 0.98)
    assert found.variance(bright) == pytest.approx(2 * (bright - 100) + 9, rel=0.1)


def test_the_noise_network_gives_with_numpy_what_it_was_trained_to_give_with_torch():
    rng = np.random.default_rng(0)
    width = 8

    def some(*shape):
        return (0.3 * rng.standard_normal(shape)).astype(np.float32)

    weights = {"position": some(len(SIDES) * BINS, width), "prior": some(1)[0]}
    for name, (inputs, outputs) in shapes(SIDES, (6, 5), width).items():
        weights |= {f"{name}.weight": some(outputs, inputs), f"{name}.bias": some(outputs)}
    sizes = []
    for side in SIDES:
        present = (rng.random((3, BINS, 40)) < 0.8).astype(np.float32)
        present[0, 5:] = 0  # steps of brightness without any block
        energy = rng.chisquare(1, (3, BINS, 40, side**2)).astype(np.float32) * present[..., None]
        place = np.sort(rng.random((3, BINS)).astype(np.float32))
        sizes.append(Blocks(energy, present, place, 1 + place))
    ends, contrast = np.tile(np.float32([1, 2]), (3, 1)), np.ones((3, 1), np.float32)
    by_numpy = answer(np, weights, sizes, ends, contrast)
    by_torch = answer(
        torch,
        {name: torch.as_tensor(w) for name, w in weights.items()},
        [Blocks(*map(torch.from_numpy, blocks)) for blocks in sizes],
        torch.from_numpy(ends),
        torch.from_numpy(contrast),
    )
    for a, b in zip(by_numpy, by_torch, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-4, atol=1e-5)
