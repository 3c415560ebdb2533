"""Patches: where they come from, that the held-out part stays held out, and that partners stay together."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_recon.data.patches import PatchSampler
from napari_recon.errors import ReconError


def _rng(seed=0):
    return torch.Generator().manual_seed(seed)


def _numbered(shapes):
    """Images whose pixels all differ, so that a patch tells where it comes from (exact in float32 below 2**24)."""
    images, start = [], 0
    for shape in shapes:
        count = torch.Size(shape).numel()
        images.append(torch.arange(start, start + count, dtype=torch.float32).reshape(shape))
        start += count
    return images


def _all_drawn(sampler, count=64, rounds=3):
    rng = _rng()
    return torch.cat([sampler.draw(count, rng).input.flatten() for _ in range(rounds)])


@st.composite
def data_sets(draw):
    multiple = draw(st.sampled_from([1, 2, 4, 8]))
    volumes = draw(st.booleans())
    limit = 20 if volumes else 70
    shapes = [
        (draw(st.integers(1, 3)), 1, *(draw(st.integers(multiple, limit)) for _ in range(3 if volumes else 2)))
        for _ in range(draw(st.integers(1, 3)))
    ]
    return shapes, multiple, draw(st.sampled_from([8, 16, 32, 64])), draw(st.sampled_from([0.0, 0.1, 0.3, 0.5]))


@given(data_sets())
@settings(max_examples=60, deadline=None)
def test_no_training_patch_touches_what_is_held_out_whatever_the_sizes(data):
    shapes, multiple, patch_size, fraction = data
    images = _numbered(shapes)
    sampler = PatchSampler(images, patch_size=patch_size, size_multiple=multiple, validation_fraction=fraction)
    held_out = sampler.validation()
    trained = _all_drawn(sampler, rounds=1)
    assert torch.isin(trained, torch.cat([i.flatten() for i in images])).all()
    for batch in held_out:
        assert not torch.isin(trained, batch.input.flatten()).any()
        assert all(side % multiple == 0 for side in batch.input.shape[2:])
    if fraction == 0:
        assert not held_out


@given(data_sets())
@settings(max_examples=40, deadline=None)
def test_patches_fit_images_and_network(data):
    shapes, multiple, patch_size, fraction = data
    sampler = PatchSampler(
        _numbered(shapes), patch_size=patch_size, size_multiple=multiple, validation_fraction=fraction
    )
    batch = sampler.draw(5, _rng())
    sides = batch.input.shape[2:]
    assert batch.input.shape[:2] == (5, 1)
    assert all(side % multiple == 0 for side in sides)
    assert all(side <= min(s[i + 2] for s in shapes) for i, side in enumerate(sides))


def test_of_a_long_stack_the_last_samples_are_held_out():
    (stack,) = _numbered([(40, 1, 16, 16)])
    sampler = PatchSampler([stack], patch_size=8, validation_fraction=0.1)
    assert not torch.isin(_all_drawn(sampler, 512), stack[36:].flatten()).any()
    seen = torch.cat([b.input.flatten() for b in sampler.validation(limit=1000)])
    assert torch.equal(seen.sort().values, stack[36:].flatten())


def test_validation_is_the_same_every_time_and_not_too_much_even_of_many_images():
    sampler = PatchSampler(_numbered([(1, 1, 64, 64)] * 30), patch_size=8, validation_fraction=0.3)
    first, second = sampler.validation(limit=48), sampler.validation(limit=48)
    assert all(torch.equal(a.input, b.input) for a, b in zip(first, second, strict=True))
    assert sum(len(b.input) for b in first) <= 48
    assert len(torch.cat([b.input for b in first]).unique(dim=0)) >= 30


def test_all_that_is_not_held_out_is_trained_on():
    (image,) = _numbered([(2, 1, 20, 20)])
    sampler = PatchSampler([image], patch_size=8, validation_fraction=0.0)
    assert len(_all_drawn(sampler, 6000, rounds=1).unique()) == image.numel()


@pytest.mark.parametrize("shape", [(3, 2, 40, 40), (2, 2, 40, 24), (1, 2, 8, 24, 24)])
def test_targets_and_weights_stay_on_their_pixels_through_flips_and_turns(shape):
    images = _numbered([shape, shape])
    targets = [-2 * i for i in images]
    weights = [i + 0.5 for i in images]
    sampler = PatchSampler(images, targets=targets, weights=weights, patch_size=16, validation_fraction=0.2)
    rng = _rng()
    for batch in [sampler.draw(4, rng) for _ in range(10)] + sampler.validation():
        assert torch.equal(batch.target, -2 * batch.input)
        assert torch.equal(batch.weight, batch.input + 0.5)


def test_patches_come_in_all_orientations_unless_rotations_are_off():
    (image,) = _numbered([(1, 1, 32, 32)])
    for rotations, expected in ((True, 8), (False, 4)):
        sampler = PatchSampler([image], patch_size=8, rotations=rotations)
        rng, seen = _rng(), set()
        for _ in range(100):
            patch = sampler.draw(1, rng).input[0, 0]
            seen.add(((patch[0, 1] - patch[0, 0]).item(), (patch[1, 0] - patch[0, 0]).item()))
        assert len(seen) == expected


def test_patches_that_are_not_square_are_not_turned():
    (image,) = _numbered([(1, 1, 16, 64)])
    sampler = PatchSampler([image], patch_size=32)
    assert {sampler.draw(2, _rng(s)).input.shape for s in range(8)} == {(2, 1, 16, 32)}


def test_the_same_generator_state_gives_the_same_patches():
    sampler = PatchSampler(_numbered([(2, 1, 40, 48)]), patch_size=16)
    a, b, c = (sampler.draw(8, _rng(seed)).input for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_empty_fields_do_not_dominate():
    image = torch.zeros(1, 1, 256, 256)
    image[..., 96:128, 160:192] = 5.0  # one cell in a wide dark field
    image += 0.01 * torch.randn(image.shape, generator=_rng())
    sampler = PatchSampler([image], patch_size=32)
    rng = _rng()
    patches = torch.cat([sampler.draw(16, rng).input for _ in range(30)])
    with_cell = (patches.amax(dim=(1, 2, 3)) > 1).float().mean().item()
    assert with_cell > 0.35  # one in about 15 if drawn evenly
    assert with_cell < 0.75  # and the field is seen too


def test_an_image_without_any_contrast_is_drawn_from_evenly():
    sampler = PatchSampler([torch.zeros(1, 1, 64, 64)], patch_size=16)
    assert sampler.draw(4, _rng()).input.shape == (4, 1, 16, 16)


def test_large_images_are_drawn_from_more_often_than_small_ones():
    sampler = PatchSampler(
        [torch.zeros(1, 1, 32, 32), torch.ones(1, 1, 128, 128)], patch_size=16, validation_fraction=0
    )
    share = sampler.draw(400, _rng()).input[:, 0, 0, 0].mean()
    assert 0.88 < share < 0.99  # 16 / 17 of the pixels


def test_a_stack_too_thin_for_the_network_is_refused_with_a_next_step():
    with pytest.raises(ReconError, match="3 pixels") as caught:
        PatchSampler([torch.zeros(1, 1, 3, 64, 64)], size_multiple=4)
    assert "dimensions=2" in caught.value.hint


def test_a_patch_smaller_than_the_network_needs_is_made_larger_where_the_image_allows():
    sampler = PatchSampler(_numbered([(1, 1, 64, 64)]), patch_size=8, size_multiple=16)
    assert sampler.draw(2, _rng()).input.shape == (2, 1, 16, 16)


def test_aligned_patches_never_cut_a_coarse_pixel():
    coarse = torch.arange(6 * 9.0).reshape(1, 1, 6, 9)
    fine = coarse.repeat_interleave(3, 2).repeat_interleave(3, 3)
    sampler = PatchSampler([fine], patch_size=6, size_multiple=3, align=3, validation_fraction=0.2)
    rng = torch.Generator().manual_seed(0)
    for batch in [*(sampler.draw(8, rng) for _ in range(8)), *sampler.validation()]:
        blocks = batch.input.unfold(2, 3, 3).unfold(3, 3, 3)
        assert torch.equal(blocks.amin(dim=(-1, -2)), blocks.amax(dim=(-1, -2)))
