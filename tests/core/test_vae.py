"""The parts of the VAE family: divergence, noise models, latent noise, and the training step."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.stats import norm
from torch.distributions import Normal, kl_divergence

from napari_recon import api
from napari_recon.data.noise_estimate import NoiseEstimate
from napari_recon.data.normalization import measure
from napari_recon.errors import ReconError
from napari_recon.inference.latent_noise import latent_noise
from napari_recon.losses.divergence import kl_divergence as divergence
from napari_recon.losses.divergence import with_free_nats
from napari_recon.models._latent import Gaussian
from napari_recon.models.latent_field import LatentField
from napari_recon.models.likelihood import GaussianNoise, MixtureNoise


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_divergence_is_that_of_torch_and_zero_for_equals():
    mean, logvar, prior_mean, prior_logvar = torch.randn(4, 100, generator=rng())
    expected = kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(prior_mean, (prior_logvar / 2).exp()))
    torch.testing.assert_close(divergence(mean, logvar, prior_mean, prior_logvar), expected)
    assert (divergence(mean, logvar, mean, logvar) == 0).all()


def test_free_nats_cost_the_same_and_give_no_gradient():
    nats = torch.tensor([0.2, 3.0], requires_grad=True)
    loss = with_free_nats(nats, 1.0)
    loss.backward()
    assert float(loss.detach()) == 2.0
    assert nats.grad.tolist() == [0.0, 0.5]


def test_a_latent_has_a_bounded_variance_and_keeps_a_gradient():
    told = torch.full((1, 2, 3), 1e4, requires_grad=True)
    found = Gaussian.of(told)
    assert found.logvar.max() <= 6
    assert Gaussian.of(-told).logvar.min() >= -10
    near = Gaussian.of(torch.zeros(1, 2, 3, requires_grad=True))
    near.logvar.sum().backward()
    assert torch.isfinite(near.logvar).all()


@pytest.mark.parametrize("learned", [False, True])
def test_gaussian_noise_is_the_normal_density_with_the_variance_of_the_line(learned):
    noise = GaussianNoise(1, 2, learned)
    noise.set(torch.tensor([0.5]), torch.tensor([0.2]))
    clean, noisy = torch.rand(2, 1, 1, 4, 4, generator=rng())
    sigma = np.sqrt(0.5 * clean.numpy() + 0.2)
    expected = -norm.logpdf(noisy.numpy(), clean.numpy(), sigma)
    np.testing.assert_allclose(noise.nll(noisy, clean).detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    assert (noise.nll(noisy, -torch.ones_like(clean)).isfinite()).all()  # where the line goes below zero


def test_learned_noise_finds_its_strength():
    noise = GaussianNoise(1, 2, learned=True)
    noisy = 3.0 * torch.randn(1, 1, 64, 64, generator=rng())
    optimizer = torch.optim.Adam(noise.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        noise.nll(noisy, torch.zeros_like(noisy)).mean().backward()
        optimizer.step()
    assert noise.variance(torch.zeros(1, 1, 1, 1)).item() == pytest.approx(9.0, rel=0.05)


def test_a_mixture_describes_skewed_noise_better_than_one_gaussian():
    rough = torch.rand(40_000, generator=rng()) * 4 - 2
    skewed = -torch.log(torch.rand(40_000, generator=rng(1))) - 1  # exponential, mean 0, variance 1
    noise = MixtureNoise()
    noise.fit(rough + skewed, rough)
    gaussian = 0.5 * math.log(2 * math.pi) + 0.5  # entropy of unit variance
    assert float(noise.nll(rough + skewed, rough).mean()) < gaussian - 0.1
    assert float(noise.variance(rough).mean()) == pytest.approx(1, abs=0.1)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 100), min_size=2, max_size=3),
    st.lists(st.integers(1, 70), min_size=3, max_size=3),
    st.integers(0, 2**63 - 1),
)
def test_a_region_of_the_latent_noise_is_a_part_of_the_whole(start, sides, seed):
    sides = sides[: len(start)]
    whole = latent_noise(seed, (3, 1, 0), [0] * len(start), [a + n for a, n in zip(start, sides, strict=True)], 2)
    part = latent_noise(seed, (3, 1, 0), start, sides, 2)
    np.testing.assert_array_equal(part, whole[(slice(None), *(slice(a, None) for a in start))])


def test_latent_noise_is_normal_and_new_for_every_plane_sample_level_and_seed():
    fields = [
        latent_noise(seed, place, [0, 0], [64, 64], 4).ravel()
        for seed, place in [(0, (0, 0, 0)), (1, (0, 0, 0)), (0, (1, 0, 0)), (0, (0, 1, 0)), (0, (0, 0, 1))]
    ]
    for field in fields:
        assert abs(field.mean()) < 0.03
        assert abs(field.std() - 1) < 0.03
    blocks = fields[0].reshape(4, 2, 32, 2, 32).transpose(0, 1, 3, 2, 4).reshape(16, -1)
    assert np.abs(np.corrcoef(fields) - np.eye(5)).max() < 0.05
    assert np.abs(np.corrcoef(blocks) - np.eye(16)).max() < 0.2


def test_poisson_gaussian_noise_is_that_of_the_recorded_pixels():
    pixels = np.linspace(100, 1000, 4096, dtype=np.float32).reshape(1, 1, 64, 64)
    known = NoiseEstimate(gain=2.0, intercept=-150.0)
    found = measure([pixels], stabilised=False, with_noise=True, noise=[known])
    (slope,), (intercept,) = found.noise_line()
    clean = 400.0
    variance = (slope * (clean - found.mean[0]) / found.std[0] + intercept) * found.std[0] ** 2
    assert variance == pytest.approx(known.variance(clean))
    np.testing.assert_allclose(found.inverse(found.forward(pixels, 0), 0), pixels, rtol=1e-4)


@pytest.fixture(scope="module")
def small():
    return {"levels": 2, "blocks": 1, "features": 8, "latents": 4, "patch_size": 16, "batch_size": 4, "steps": 12,
            "validate_every": 4, "precision": "float32"}  # fmt: skip


def test_every_level_tells_what_it_carries_and_collapse_is_told(phantom, small):
    events = []
    api.train("vae", phantom[0], beta=100.0, free_bits=0.0, **small | {"steps": 60}, on_progress=events.append)
    assert all(v >= 0 for e in events for k, v in e.values.items() if k.startswith("KL"))
    assert {"KL 0", "KL 1", "reconstruction", "train", "validation"} <= set(
        [e for e in events if e.phase == "train"][-1].values
    )
    assert any("posterior collapse" in e.message for e in events)
    events.clear()
    api.train("vae", phantom[0], **small, on_progress=events.append)
    assert not any("collapse" in e.message for e in events)


@pytest.mark.parametrize("likelihood", ["gaussian", "learned", "poisson_gaussian", "mixture"])
@pytest.mark.parametrize("network", ["ladder", "flat"])
def test_every_noise_model_and_network_trains_without_nonsense(phantom, small, likelihood, network):
    model = api.train("vae", phantom[0], likelihood=likelihood, network=network, **small)
    losses = [loss for _, loss in model.provenance["train_loss"]]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    assert all(torch.isfinite(w).all() for w in model.weights.values())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"unconditional": 2}, "cannot be blind"),
        ({"likelihood": "mixture", "guided": False}, "guide"),
        ({"beta": -1}, "Beta"),
        ({"levels": 0}, "Levels"),
        ({"likelihood": "poisson"}, "Noise model"),
    ],
    ids=str,
)
def test_options_that_cannot_be(phantom, small, options, match):
    with pytest.raises(ReconError, match=match):
        api.train("vae", phantom[0], **small | options)


def test_a_target_is_refused(phantom, small):
    with pytest.raises(ReconError, match="images alone"):
        api.train("vae", *phantom, **small)


@pytest.mark.parametrize(("dims", "side"), [(2, 96), (3, 32)])
def test_a_latent_field_draws_what_it_was_fitted_to(dims, side):
    # One latent that is alike over three cells, and one that only carries the posterior's noise.
    sides, axes = (side,) * dims, tuple(range(1, dims + 1))
    smooth = gaussian_filter(torch.randn(sides, generator=rng()).numpy(), 1.5)
    means = torch.stack([5 + 2 * torch.from_numpy(smooth / smooth.std()), torch.zeros(sides)])
    variances = torch.stack([torch.full(sides, 0.1), torch.full(sides, 1.0)])
    field = LatentField(2, dims)
    field.fit([means], [variances])
    drawn = field(torch.randn(1, 4, *(side + 2 * field.reach,) * dims, generator=rng(1)))[0]
    assert drawn.shape == means.shape
    first, second = drawn.mean(axes), drawn.var(axes)
    assert first.tolist() == pytest.approx([5, 0], abs=0.5)
    assert second.tolist() == pytest.approx([4.1, 1.0], rel=0.3)
    alike = [float(torch.corrcoef(torch.stack([d[1:].flatten(), d[:-1].flatten()]))[0, 1]) for d in (means[0], *drawn)]
    assert alike[1] == pytest.approx(alike[0], abs=0.15)
    assert abs(alike[2]) < 0.15


def test_a_latent_field_of_few_cells_can_be_fitted():
    field = LatentField(3, 2)
    field.fit([torch.randn(3, 2, 5, generator=rng())], [torch.full((3, 2, 5), 0.5)])
    assert all(b.isfinite().all() for b in field.buffers())
