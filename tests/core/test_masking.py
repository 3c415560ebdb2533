"""Blind spots: what is hidden stays hidden, at borders, in volumes and along lines."""

import pytest
import torch

from napari_recon.data.masking import hide_pixels

SHAPES = [(2, 1, 16, 20), (2, 3, 12, 12), (1, 1, 8, 12, 12), (1, 2, 4, 9, 9), (2, 1, 3, 3), (1, 1, 1, 16)]


def _rng(seed=0):
    return torch.Generator().manual_seed(seed)


def _patches(shape, seed=1):
    return torch.randn(shape, generator=_rng(seed))


@pytest.mark.parametrize("axis", ["none", "x", "y", "both"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_network_never_sees_a_pixel_that_it_must_predict(shape, axis):
    patches = _patches(shape)
    seen, mask = hide_pixels(patches, _rng(), fraction=0.1, axis=axis, reach=2)
    changed = torch.where(mask > 0, 1000 * _patches(shape, seed=2), patches)
    seen_after, mask_after = hide_pixels(changed, _rng(), fraction=0.1, axis=axis, reach=2)
    assert torch.equal(mask, mask_after)
    torch.testing.assert_close(seen, seen_after, rtol=0, atol=0)


@pytest.mark.parametrize("shape", SHAPES[:4])
def test_pixels_away_from_blind_spots_stay_and_blind_spots_do_not(shape):
    patches = _patches(shape)
    before = patches.clone()
    seen, mask = hide_pixels(patches, _rng(), fraction=0.05)
    assert torch.equal(patches, before)
    assert seen.shape == mask.shape == patches.shape
    assert torch.equal(seen[mask == 0], patches[mask == 0])
    assert (seen[mask == 1] != patches[mask == 1]).all()
    assert set(mask.unique().tolist()) == {0.0, 1.0}


def test_the_share_of_hidden_pixels_is_the_one_asked_for():
    _, mask = hide_pixels(_patches((8, 1, 64, 64)), _rng(), fraction=0.05)
    assert 0.045 < mask.mean() <= 0.05  # a pixel may be drawn twice


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (1, 1, 4, 4, 4)])
def test_at_least_one_pixel_is_hidden(shape):
    _, mask = hide_pixels(_patches(shape), _rng(), fraction=0.001)
    assert mask.sum() == 1


@pytest.mark.parametrize(
    ("axis", "lines"), [("x", [(0, 1)]), ("y", [(1, 0)]), ("both", [(0, 1), (1, 0)]), ("none", [])]
)
def test_neighbours_along_the_chosen_axis_are_hidden_too_and_no_others(axis, lines):
    size = 15
    ramp = torch.arange(size * size, dtype=torch.float32).reshape(1, 1, size, size) ** 2
    for seed in range(20):  # spots in the middle, at borders and in corners
        seen, mask = hide_pixels(ramp, _rng(seed), fraction=0.001, axis=axis, reach=2)
        y, x = mask[0, 0].nonzero()[0].tolist()
        expected = {(y, x)} | {(y + s * dy, x + s * dx) for dy, dx in lines for s in (-2, -1, 1, 2)}
        expected = {(a, b) for a, b in expected if 0 <= a < size and 0 <= b < size}
        assert {tuple(p) for p in (seen != ramp)[0, 0].nonzero().tolist()} == expected
        assert mask.sum() == 1  # only the spot itself is to be predicted


def test_lines_in_volumes_lie_in_the_plane_of_the_spot():
    volume = _patches((1, 1, 6, 12, 12))
    seen, mask = hide_pixels(volume, _rng(), fraction=0.001, axis="x", reach=3)
    z, y, x = mask[0, 0].nonzero()[0].tolist()
    hidden = (seen != volume)[0, 0].nonzero()
    assert hidden[:, 0].unique().tolist() == [z]
    assert hidden[:, 1].unique().tolist() == [y]
    assert set(hidden[:, 2].tolist()) == {i for i in range(x - 3, x + 4) if 0 <= i < 12}


def test_a_hidden_pixel_looks_like_its_surroundings():
    patches = torch.zeros(1, 2, 32, 32)
    patches[:, 1] = 5  # channels do not mix
    patches += 0.01 * _patches(patches.shape)
    seen, mask = hide_pixels(patches, _rng(), fraction=0.05)
    assert (seen - patches)[mask > 0].abs().max() < 0.1


def test_the_same_generator_state_hides_the_same_pixels():
    patches = _patches((2, 1, 16, 16))
    a, b = (hide_pixels(patches, _rng(3), fraction=0.1)[0] for _ in range(2))
    assert torch.equal(a, b)
    assert not torch.equal(a, hide_pixels(patches, _rng(4), fraction=0.1)[0])
