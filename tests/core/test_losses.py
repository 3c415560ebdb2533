"""Every registered loss: zero at the target, blind where the weight is zero, and it teaches."""

import pytest
import torch

from napari_recon.losses import LOSSES
from napari_recon.losses.structural import ms_ssim

SHAPE = (3, 2, 8, 8)


@pytest.fixture(params=LOSSES)
def loss(request):
    return LOSSES[request.param]


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def test_a_perfect_answer_costs_next_to_nothing_and_a_worse_one_more(loss, rng):
    target = torch.randn(SHAPE, generator=rng)
    assert loss(target, target, None) < 2e-3
    assert loss(target, target, None) < loss(target + 0.1, target, None) < loss(target - 0.5, target, None)


def test_weights_of_one_are_as_no_weights(loss, rng):
    a, b = torch.randn(2, *SHAPE, generator=rng)
    torch.testing.assert_close(loss(a, b, torch.ones(SHAPE)), loss(a, b, None))


def test_pixels_of_weight_zero_have_no_influence(loss, rng):
    a, b = torch.randn(2, *SHAPE, generator=rng)
    weight = (torch.rand(SHAPE, generator=rng) < 0.3).float()
    prediction = a.clone().requires_grad_()
    value = loss(prediction, b, weight)
    value.backward()
    torch.testing.assert_close(value, loss(a[weight > 0], b[weight > 0], None))
    torch.testing.assert_close(value, loss(torch.where(weight > 0, a, torch.tensor(1e6)), b, weight))
    assert (prediction.grad[weight == 0] == 0).all()
    assert (prediction.grad[weight > 0] != 0).all()


def test_the_size_of_the_weights_does_not_matter_only_their_ratio(loss, rng):
    a, b = torch.randn(2, *SHAPE, generator=rng)
    weight = torch.rand(SHAPE, generator=rng)
    torch.testing.assert_close(loss(a, b, weight), loss(a, b, 7 * weight))


def test_a_weight_of_one_channel_serves_all(loss, rng):
    a, b = torch.randn(2, *SHAPE, generator=rng)
    weight = (torch.rand(SHAPE[0], 1, *SHAPE[2:], generator=rng) < 0.5).float()
    torch.testing.assert_close(loss(a, b, weight), loss(a, b, weight.repeat(1, SHAPE[1], 1, 1)))


def test_nothing_to_count_gives_zero_instead_of_a_division_by_zero(loss, rng):
    prediction = torch.randn(SHAPE, generator=rng).requires_grad_()
    value = loss(prediction, torch.zeros(SHAPE), torch.zeros(SHAPE))
    value.backward()
    assert value == 0
    assert (prediction.grad == 0).all()


def test_following_the_gradient_finds_the_target(loss, rng):
    target = torch.randn(SHAPE, generator=rng)
    prediction = torch.zeros(SHAPE, requires_grad=True)
    optimizer = torch.optim.Adam([prediction], lr=0.05)
    first = loss(prediction, target, None).item()
    for _ in range(100):
        optimizer.zero_grad()
        loss(prediction, target, None).backward()
        optimizer.step()
    assert loss(prediction, target, None) < 0.1 * first


def test_structural_similarity_minds_lost_structure_more_than_an_offset(rng):
    target = torch.randn(2, 1, 64, 48, generator=rng)
    assert ms_ssim(target, target) < 1e-5
    size = 0.3
    offset = ms_ssim(target + size, target)
    noise = ms_ssim(target + size * torch.randn(target.shape, generator=rng), target)
    flat = ms_ssim(target * (1 - size), target)
    assert offset < flat
    assert offset < noise
    prediction = torch.zeros_like(target).requires_grad_()
    ms_ssim(prediction, target).backward()
    assert torch.isfinite(prediction.grad).all()


def test_structural_similarity_does_not_see_what_does_not_count(rng):
    target = torch.randn(1, 2, 32, 32, generator=rng)
    weight = torch.ones(1, 1, 32, 32)
    weight[..., 5:9, 5:9] = 0
    altered = target.clone()
    altered[..., 5:9, 5:9] = 100.0
    torch.testing.assert_close(ms_ssim(altered, target, weight), ms_ssim(target, target, weight))
