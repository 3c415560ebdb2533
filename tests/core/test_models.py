"""One contract for every network of every family: what its spec says is what it does."""

import itertools
import json

import pytest
import torch

from napari_recon.errors import ReconError
from napari_recon.models import MODELS, get_family
from napari_recon.models._blocks import channels_last
from napari_recon.models._winograd import Conv3x3

# Small variants of every network of every family; a new family adds its own here.
VARIANTS = {
    "autoencoder": {
        "unet": {"features": 4, "depth": 1},
        "unet deep": {"features": 4, "depth": 3},
        "unet with top skip": {"features": 4, "depth": 2, "top_skip": True},
        "unet joint channels": {"features": 4, "depth": 1, "channels": 3},
        "unet 3D": {"features": 4, "depth": 2, "dimensions": 3},
        "unet 3D joint channels": {"features": 4, "depth": 1, "dimensions": 3, "channels": 2},
        "unet with attention": {"features": 4, "depth": 2, "top_skip": True, "attention": True},
        "unet 3D with attention": {"features": 4, "depth": 2, "dimensions": 3, "attention": True},
        "bottleneck": {"network": "bottleneck", "features": 4, "image_size": 16, "code_length": 8},
        "bottleneck odd patch": {"network": "bottleneck", "features": 4, "image_size": 12, "channels": 3},
        "universal": {"network": "universal"},
    },
    "vae": {
        "ladder": {"features": 4, "latents": 2, "levels": 2, "blocks": 1},
        "ladder not guided": {"features": 4, "latents": 2, "levels": 2, "blocks": 1, "guided": False},
        "ladder with a blind level": {"features": 4, "latents": 2, "levels": 2, "blocks": 1, "unconditional": 1},
        "ladder of one level": {"features": 4, "latents": 2, "levels": 1, "blocks": 2},
        "ladder 3D joint channels": {"features": 4, "latents": 2, "levels": 2, "channels": 2, "dimensions": 3},
        "flat": {"network": "flat", "features": 4, "latents": 3},
        "flat 3D": {"network": "flat", "features": 4, "latents": 3, "dimensions": 3},
    },
    "gan": {
        "residual": {"features": 4, "blocks": 2},
        "residual x3": {"features": 4, "blocks": 1, "scale": 3},
        "residual x4 joint channels": {"features": 4, "blocks": 1, "scale": 4, "channels": 3},
        "residual with attention": {"features": 4, "blocks": 2, "attention": True},
        "residual with perceptual weights": {"features": 4, "blocks": 1, "perceptual": True},
        "compact": {"network": "compact", "features": 4, "blocks": 2},
        "rrdb": {"network": "rrdb", "features": 4, "blocks": 1},
    },
    "texture": {
        "one level": {"features": 4, "levels": 1},
        "three levels joint channels": {"features": 4, "levels": 3, "channels": 3},
    },
    "completion": {
        "shallow": {"features": 4, "depth": 1},
        "deep joint channels": {"features": 4, "depth": 3, "channels": 3},
    },
}
CASES = [pytest.param(f, v, id=f"{f}: {n}") for f, variants in VARIANTS.items() for n, v in variants.items()]


def _make(family_name, options):
    family = get_family(family_name)
    config = family.config.from_json(json.loads(json.dumps(options)))
    torch.manual_seed(0)
    return family.build(config).eval(), family.spec(config)


def _image(spec, sides, samples=2):
    return torch.randn(samples, spec.channels, *sides, generator=torch.Generator().manual_seed(1))


def _answer(network, spec, x):
    """What the network makes of `x`: of one that samples, all that it makes on any of its ways."""
    if spec.task != "sample":
        return network(x)
    mean, drawn = network(x, None, lambda _, posterior, prior: prior.mean + (posterior.mean if posterior else 0))
    return mean + drawn.image


def test_every_family_is_under_contract():
    assert set(VARIANTS) == set(MODELS)


def test_an_unknown_family_is_refused():
    with pytest.raises(ReconError, match="transformer") as caught:
        get_family("transformer")
    assert "autoencoder" in caught.value.hint


@pytest.mark.parametrize(("family", "options"), CASES)
def test_any_multiple_of_the_declared_size_goes_through_and_keeps_its_shape(family, options):
    network, spec = _make(family, options)
    m = spec.size_multiple
    for sides in itertools.islice(itertools.permutations([m, 2 * m, 3 * m], len(spec.axes)), 3):
        x = _image(spec, sides)
        with torch.inference_mode():
            y = _answer(network, spec, x)
        assert y.shape == (*x.shape[:2], *(spec.scale * n for n in sides))
        assert torch.isfinite(y).all()


@pytest.mark.parametrize(("family", "options"), CASES)
def test_samples_of_a_batch_do_not_see_each_other(family, options):
    network, spec = _make(family, options)
    x = _image(spec, [spec.size_multiple] * len(spec.axes), samples=3)
    with torch.inference_mode():
        torch.testing.assert_close(_answer(network, spec, x)[1:2], _answer(network, spec, x[1:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("family", "options"), CASES)
def test_a_fresh_network_learns(family, options):
    network, spec = _make(family, options)
    _answer(network, spec, _image(spec, [spec.size_multiple] * len(spec.axes))).square().mean().backward()
    gradients = [p.grad for p in network.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    assert any((g != 0).any() for g in gradients)


@pytest.mark.parametrize(("family", "options"), CASES)
def test_half_precision_and_channels_last_give_nearly_the_same(family, options):
    network, spec = _make(family, options)
    x = _image(spec, [2 * spec.size_multiple] * len(spec.axes))
    with torch.inference_mode():
        exact = _answer(network, spec, x)
        with torch.autocast("cpu", torch.bfloat16):
            rough = _answer(channels_last(network), spec, x).float()
    assert torch.isfinite(rough).all()
    assert (rough - exact).abs().max() < 0.05 * exact.abs().max() + 0.05


@pytest.mark.parametrize(("family", "options"), CASES)
def test_nothing_beyond_the_declared_receptive_field_reaches_a_pixel(family, options):
    network, spec = _make(family, options)
    # With positive weights on positive pixels no path cancels another: the gradient is all that can be seen.
    for p in network.parameters():
        p.data = p.data.abs() + 1e-3
    network = network.double()
    m, reach, dims = spec.size_multiple, spec.receptive_field, len(spec.axes)
    cells = -(-reach // m) * 2 + 3
    # A line along one axis is enough, as all networks treat their axes alike.
    for axis in {0, dims - 1}:
        sides = [m * (cells if a == axis else 1) for a in range(dims)]
        first = m * (cells // 2)  # the cell in the middle
        for place in sorted({first, first + m // 2, first + m - 1}):
            x = torch.ones(1, spec.channels, *sides, dtype=torch.float64, requires_grad=True)
            # Of an upscaled image, all pixels that lie in this one.
            y = _answer(network, spec, x).transpose(2, 2 + axis)[0, 0, spec.scale * place : spec.scale * (place + 1)]
            (grad,) = torch.autograd.grad(y[..., : spec.scale].sum(), x)
            seen = grad.abs().amax(dim=[d for d in range(grad.dim()) if d != axis + 2]).nonzero().flatten()
            assert seen.min() >= first - reach
            assert seen.max() < first + m + reach
            assert seen.min() <= place <= seen.max()


@pytest.mark.parametrize(("family", "options"), CASES)
def test_shifting_by_the_size_multiple_shifts_the_answer(family, options):
    network, spec = _make(family, options)
    m, margin = spec.size_multiple, -(-spec.receptive_field // spec.size_multiple) * spec.size_multiple
    sides = [2 * margin + 3 * m if a == 0 else m for a in range(len(spec.axes))]
    x = _image(spec, sides, samples=1)
    with torch.inference_mode():
        whole, shifted = _answer(network, spec, x), _answer(network, spec, x[:, :, m:])
    start, length = spec.scale * margin, spec.scale * m
    torch.testing.assert_close(
        whole[:, :, start + length : start + 2 * length], shifted[:, :, start : start + length], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("factor", [0.01, 3.0, 1000.0])
def test_the_universal_network_scales_with_its_input_at_every_noise_level(factor):
    network, spec = _make("autoencoder", {"network": "universal"})
    assert spec.noise_aware
    x = _image(spec, (24, 32))
    noise = torch.tensor([[1.0, 0.2, 0.0], [0.3, 0.0, 0.1]])
    with torch.inference_mode():
        expected = factor * network(x, noise)
        torch.testing.assert_close(network(factor * x, factor * noise), expected, rtol=1e-3, atol=factor * 1e-4)
        torch.testing.assert_close(network(x), network(x, torch.tensor([[1.0, 0.0, 0.0]] * 2)))
        assert (network(x, noise) - network(x, 2 * noise)).abs().max() > 1e-3


@pytest.mark.parametrize(("family", "options"), [("autoencoder", {"top_skip": True, "features": 4}), ("gan", {})])
def test_attention_only_adds_gates(family, options):
    """Networks without it keep their weights' names, and open gates change nothing."""
    plain, spec = _make(family, options)
    attentive, attentive_spec = _make(family, options | {"attention": True})
    assert (spec.attention, attentive_spec.attention) == (False, True)
    missing = attentive.load_state_dict(plain.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert all("gate" in key for key in missing.missing_keys)
    for name, p in attentive.named_parameters():
        if name in missing.missing_keys:
            p.data.fill_(30.0 if name.endswith("join.1.bias") or name.endswith("weigh.bias") else 0.0)
    x = _image(spec, (16, 24))
    with torch.inference_mode():
        torch.testing.assert_close(attentive(x), plain(x))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"network": "bottleneck"}, "has no attention"), ({"depth": 1}, "no skip connection that attention could weigh")],
)
def test_attention_needs_a_skip_connection(options, words):
    with pytest.raises(ReconError, match=words) as caught:
        _make("autoencoder", {"attention": True, **options})
    assert caught.value.hint


def test_each_patch_of_the_bottleneck_goes_through_its_own_short_code():
    network, _ = _make("autoencoder", {"network": "bottleneck", "features": 4, "image_size": 16, "code_length": 8})
    x = torch.randn(1, 1, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        code = network.encode(x[:, :, 16:, 32:])
        assert code.shape == (1, 8)
        torch.testing.assert_close(network(x)[:, :, 16:, 32:], network.decode(code), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 64, 1, 1), (1, 48, 7, 300), (1, 128, 50, 41), (3, 64, 60, 60)])
def test_convolutions_answer_the_same_whether_or_not_something_learns_from_them(shape: tuple[int, ...]) -> None:
    conv = Conv3x3(shape[1], 50)
    x = torch.randn(shape)
    learned = conv(x)
    with torch.inference_mode():
        torch.testing.assert_close(conv(x), learned, rtol=1e-4, atol=1e-4)
