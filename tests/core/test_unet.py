"""The U-Net saves arithmetic in two ways; neither may change an answer or a gradient."""

import pytest
import torch

from napari_recon.models._blocks import channels_last
from napari_recon.models.unet import UNet

CASES = [
    pytest.param(*case, id="{}D, depth {}, top skip {}, gates {}".format(*case))
    for case in [
        (2, 1, False, False),
        (2, 3, False, False),
        (2, 2, True, False),
        (2, 2, True, True),
        (3, 1, False, False),
        (3, 2, True, True),
    ]
]


def _network(dims, depth, top_skip, gates):
    torch.manual_seed(0)
    network = channels_last(UNet(dims, 2, depth, 4, top_skip, gates))
    torch.nn.init.normal_(network.tail.weight)
    return network, torch.randn(3, 2, *(16,) * dims)


def _as_written(network, x):
    """What the network stands for: enlarge, put the skip beside it, convolve."""
    skips = []
    for block, pool in zip(network.encoder, network.pool, strict=True):
        x = block(x)
        skips.append(x)
        x = pool(x)
    x = network.middle(x)
    for n, block in enumerate(network.decoder):
        x, skip = network.upsample(x), skips.pop()
        if network.gates and (skips or network.top_skip):
            skip = network.gates[n](skip, x)
        x = block(torch.cat([x, skip], dim=1) if skips or network.top_skip else x)
    return network.tail(x)


def _gradients(network, loss):
    return torch.autograd.grad(loss, list(network.parameters()))


@pytest.mark.parametrize(("dims", "depth", "top_skip", "gates"), CASES)
def test_enlarged_images_are_convolved_as_if_they_were_made(dims, depth, top_skip, gates):
    network, x = _network(dims, depth, top_skip, gates)
    ours, plain = network(x), _as_written(network, x)
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)
    found, expected = (_gradients(network, y.square().mean()) for y in (ours, plain))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("dims", "depth", "top_skip", "gates"), CASES)
@pytest.mark.parametrize("count", [20, 600])  # few are computed alone, many with all others
def test_answers_at_some_pixels_are_those_of_the_whole_image(dims, depth, top_skip, gates, count):
    network, x = _network(dims, depth, top_skip, gates)
    rng = torch.Generator().manual_seed(1)
    places = [torch.randint(0, n, (count,), generator=rng) for n in (3, *x.shape[2:])]
    at = torch.stack(places, dim=1)
    at[:4, 1:] = torch.tensor([[0] * dims, [15] * dims, [0] * (dims - 1) + [15], [1] * dims])  # corners and near them
    some, whole = network(x, at), network(x).movedim(1, -1)[at.unbind(1)]
    torch.testing.assert_close(some, whole, rtol=1e-4, atol=1e-5)
    found, expected = (_gradients(network, y.square().mean()) for y in (some, whole))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
