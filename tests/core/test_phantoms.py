"""Procedural images: in range, of the shape asked for, the same for the same seed, and never empty for long."""

import numpy as np
import pytest

from napari_recon.data.phantoms import PHANTOMS, random_phantom

KINDS = {**PHANTOMS, "random": random_phantom}


@pytest.fixture(params=KINDS)
def draw(request):
    return KINDS[request.param]


@pytest.mark.parametrize("shape", [(48, 48), (33, 70), (16, 64), (8, 8)])
def test_phantoms_are_float32_of_the_shape_asked_for_between_0_and_1(draw, shape):
    for seed in range(12):
        image = draw(shape, np.random.default_rng(seed))
        assert image.shape == shape
        assert image.dtype == np.float32
        assert np.isfinite(image).all()
        assert image.min() >= 0
        assert image.max() <= 1


def test_the_same_seed_gives_the_same_phantom_and_another_seed_another(draw):
    a, b, c = (draw((40, 40), np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_phantoms_hold_something_to_learn_from(draw):
    contrast = [draw((64, 64), np.random.default_rng(seed)).std() for seed in range(12)]
    assert np.median(contrast) > 0.03
    assert np.count_nonzero(contrast) >= 11


def test_drawing_phantoms_leaves_the_global_random_state_alone():
    np.random.seed(0)  # noqa: NPY002 (what other libraries of the user rely on)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    random_phantom((32, 32), np.random.default_rng(0))
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_random_phantoms_are_of_many_kinds():
    images = [random_phantom((48, 48), np.random.default_rng(seed)) for seed in range(20)]
    means = np.array([i.mean() for i in images])
    roughness = np.array([np.abs(np.diff(i, axis=0)).mean() for i in images])
    assert means.max() - means.min() > 0.2
    assert roughness.max() > 3 * roughness.min()
