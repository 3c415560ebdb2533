"""Planes of stacks and movies that learn from their neighbours: more where nothing changes, no less where it does."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, shift

from napari_recon import api, cli
from napari_recon.api.lazily import lazily
from napari_recon.data.phantoms import filaments, nuclei
from napari_recon.image import Image
from napari_recon.inference.averaging import REACH, mix
from napari_recon.inference.neighbours import around, find_pairs
from napari_recon.io import read_image, write_image

PHOTONS = 20
EXACT = {"device": "cpu", "precision": "float32"}


def drifting(step, frames=5):
    """Fibres that move by `step` pixels from frame to frame."""
    large = filaments((128, 128), np.random.default_rng(1))
    moved = [shift(large, (step * k, step * k), order=1, mode="nearest")[:96, :96] for k in range(frames)]
    return PHOTONS * np.stack(moved)


def counted(clean, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.poisson(clean) + rng.normal(0, 1, clean.shape)).astype(np.float32)


def error(image, clean):
    return 10 * np.log10(np.mean((image - clean) ** 2))


def gain(clean, axes):
    """Return how many dB neighbours bring."""
    noisy = counted(clean)
    alone, helped = (error(api.denoise(noisy, axes=axes, plane_by_plane=p), clean) for p in (True, False))
    return alone - helped


@given(st.permutations("TZSC"), st.lists(st.integers(1, 7), min_size=4, max_size=4), st.data())
def test_neighbours_are_other_planes_on_one_axis(order, sizes, data):
    axes, shape = "".join(order) + "YX", (*sizes, 1, 1)
    size = dict(zip(axes, shape, strict=True))
    names = [a for a in "TZS" if a in axes]
    planes = math.prod(size[a] for a in names)
    sample = data.draw(st.integers(0, planes - 1))
    # Samples are numbered in the order of napari_recon.axes.AXES.
    place = dict(zip(names, np.unravel_index(sample, [size[a] for a in names]), strict=True))
    pairs = find_pairs(sample, axes, shape)
    assert len(pairs) == min(2, (size["T"] - 1) // 2) + min(1, (size["Z"] - 1) // 2)
    seen = [n for pair in pairs for n in (pair.low, pair.high)]
    assert len(set(seen)) == len(seen)
    assert sample not in seen
    for number in seen:
        there = dict(zip(names, np.unravel_index(number, [size[a] for a in names]), strict=True))
        (moved,) = [a for a in names if there[a] != place[a]]
        assert there[moved] in range(size[moved])[around(int(place[moved]), size[moved], moved)]
        assert there["S"] == place["S"]


def test_what_stands_still_gains_much():
    assert gain(drifting(0), "TYX") > 3
    assert gain(drifting(0), "ZYX") > 1.5


def test_a_stack_whose_planes_differ_a_little_gains():
    rng = np.random.default_rng(0)
    points = np.zeros((30, 96, 96))
    points[tuple(rng.integers(0, n, 400) for n in points.shape)] = 1
    blurred = gaussian_filter(points, (3, 1.4, 1.4))[8:22:2]
    assert gain(PHOTONS * blurred / blurred.max(), "ZYX") > 1


@pytest.mark.parametrize("step", [2, 3, 5])
def test_what_moves_fast_loses_nothing(step):
    assert gain(drifting(step), "TYX") > -0.2


def test_nuclei_that_move_fast_lose_little():
    large = nuclei((160, 160), np.random.default_rng(3))
    moved = PHOTONS * np.stack([large[4 * k : 4 * k + 96, :96] for k in range(5)])
    assert gain(moved, "TYX") > -0.4


def test_a_flash_in_one_frame_keeps_its_strength():
    clean = np.full((5, 96, 96), 10.0)
    clean[2, 40:56, 40:56] += 10
    found = np.mean([api.denoise(counted(clean, i), axes="TYX") for i in range(4)], axis=0)
    flash = found[:, 44:52, 44:52].mean(axis=(1, 2)) - 10
    np.testing.assert_allclose(flash, [0, 0, 10, 0, 0], atol=1)


def test_a_movie_that_fades_keeps_its_brightness():
    clean = np.full((8, 96, 96), 40.0) * 0.9 ** np.arange(8)[:, None, None]
    found = api.denoise(counted(clean), axes="TYX").mean(axis=(1, 2))
    np.testing.assert_allclose(found, clean[:, 0, 0], rtol=0.01)


def test_repeated_frames_bring_nothing_and_harm_nothing():
    clean = drifting(0, 1)
    once = counted(clean)
    alone = api.denoise(once, axes="TYX", noise=(noise := [r.estimate for r in api.measure_noise(once, axes="TYX")]))
    repeated = api.denoise(np.repeat(once, 5, axis=0), axes="TYX", noise=noise)
    for frame in repeated:
        assert error(frame, clean[0]) < error(alone[0], clean[0]) + 0.3


def test_plane_by_plane_is_each_plane_alone():
    noisy = counted(drifting(0))
    noise = [r.estimate for r in api.measure_noise(noisy, axes="TYX")]
    stack = api.denoise(noisy, axes="TYX", noise=noise, plane_by_plane=True, **EXACT)
    alone = [api.denoise(plane, noise=noise, **EXACT) for plane in noisy]
    np.testing.assert_allclose(stack, alone, rtol=1e-4, atol=1e-3)


def test_the_record_says_what_was_done():
    movie = Image(counted(drifting(0)), "TYX")
    for image, alone, said in ((movie, False, True), (movie, True, False), (movie.crop({"T": 1}), False, False)):
        record = api.denoise(image, plane_by_plane=alone).metadata["napari_recon"]
        assert record["plane_by_plane"] is alone
        assert any("neighbours" in note for note in record["notes"]) is said


def test_tiles_equal_the_whole():
    rng = np.random.default_rng(0)
    noisy = rng.poisson(50 + 20 * np.sin(np.arange(480) / 9), (5, 24, 480)).astype(np.float32)
    noise = [r.estimate for r in api.measure_noise(noisy, axes="TYX")]
    whole, tiled = (api.denoise(noisy, axes="TYX", noise=noise, tile_size=t, **EXACT) for t in (480, 64))
    np.testing.assert_allclose(tiled, whole, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("axes", ["TYX", "ZTYX"])
def test_streamed_and_lazy_results_are_the_same(tmp_path, axes):
    pixels = counted(drifting(0.3, 6))
    image = Image(pixels if axes == "TYX" else pixels.reshape(3, 2, *pixels.shape[1:]), axes)
    expected = api.denoise(image, tile_size=40, **EXACT).array
    streamed = api.denoise(image, out=tmp_path / "clean.ome.zarr", tile_size=40, **EXACT)
    np.testing.assert_array_equal(np.asarray(streamed.array), expected)
    lazy = lazily("denoise", image, tile_size=40, **EXACT)
    np.testing.assert_array_equal(lazy[-1], expected[-1])
    # A plane with those that it looks at is enough.
    cut = slice(1, 6) if axes == "TYX" else slice(0, 3)
    noise = [r.estimate for r in api.measure_noise(image)]
    part = lazily("denoise", image.crop({axes[0]: cut}), noise=noise, tile_size=40, **EXACT)
    place = 3 if axes == "TYX" else 1
    np.testing.assert_allclose(part[place - cut.start], expected[place], atol=1e-3)


def test_the_shell_leaves_them_out_on_demand(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    movie = Image(counted(drifting(0)), "TYX")
    write_image("noisy.tif", movie)
    for line in (
        "denoise noisy.tif alone.tif --plane-by-plane",
        "batch denoise . clean --plane-by-plane --pattern noisy.tif",
    ):
        with pytest.raises(SystemExit) as done:
            cli.main(line.split())
        assert done.value.code == 0
    expected = api.denoise(movie, plane_by_plane=True).array
    for name in ("alone.tif", "clean/noisy.tif"):
        np.testing.assert_array_equal(read_image(name).array, expected)
    assert error(expected, movie.array) != error(api.denoise(movie).array, movie.array)
    assert "neighbours" not in capsys.readouterr().out


def test_pixels_that_are_no_numbers_stay_and_hardly_disturb_the_next_frames():
    noisy = counted(drifting(0))
    noise = [r.estimate for r in api.measure_noise(noisy, axes="TYX")]
    expected = api.denoise(noisy, axes="TYX", noise=noise)
    holed = noisy.copy()
    holed[2, 40:44, 50], holed[2, 10, 10] = np.nan, -np.inf
    found = api.denoise(holed, axes="TYX", noise=noise)
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(holed))
    finite = np.isfinite(found)
    assert np.sqrt(np.mean((found - expected)[finite] ** 2)) < 0.2
    assert np.abs(found - expected)[0].max() < PHOTONS / 5


def test_a_pixel_depends_on_no_more_than_it_says():
    planes = list(np.random.default_rng(0).normal(size=(3, 80, 80)).astype(np.float32))
    before = mix(planes[0], [(planes[1], planes[2], 1.0)], 1.0, (0.3, 0.0))
    planes[1][:, : 40 - REACH] += 100
    after = mix(planes[0], [(planes[1], planes[2], 1.0)], 1.0, (0.3, 0.0))
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old[:, 40:], new[:, 40:])
        assert (old[:, 30] != new[:, 30]).any()


@pytest.mark.parametrize("blur", [0.0, 0.8])
def test_the_noise_that_is_left_is_that_which_the_network_is_told(blur):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(5, 256, 256))
    if blur:
        noise = gaussian_filter(noise, (0, blur, blur))
        noise /= noise.std()
    along = float(np.mean(noise[:, 1:] * noise[:, :-1]))
    own, *others = noise.astype(np.float32)
    mixed, left = mix(own, [(others[0], others[1], 1.0), (others[2], others[3], 3.0)], 1.0, (along, along))
    assert mixed.std() < 0.65
    assert mixed.std() == pytest.approx(np.sqrt(np.mean(left**2)), rel=0.1)
