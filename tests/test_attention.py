"""The map of attention: between 0 and 1, where the result lies, the same in tiles as in one piece."""

import json

import numpy as np
import pytest
import torch

from napari_recon import Image, api, cli
from napari_recon.checkpoint import TrainedModel
from napari_recon.data.normalization import Normalization
from napari_recon.errors import ReconError
from napari_recon.models import get_family

EXACT = {"device": "cpu", "precision": "float32"}
CASES = {
    "unet": ("autoencoder", {"features": 4, "depth": 2}, (45, 70), "YX"),
    "unet with top skip": ("autoencoder", {"features": 4, "depth": 3, "top_skip": True}, (45, 70), "YX"),
    "unet 3D": ("autoencoder", {"features": 4, "depth": 2, "dimensions": 3}, (9, 20, 40), "ZYX"),
    "unet joint channels": ("autoencoder", {"features": 4, "depth": 2, "channels": 3}, (3, 45, 70), "CYX"),
    "generator x2": ("gan", {"features": 4, "blocks": 2}, (45, 70), "YX"),
    "generator x3": ("gan", {"features": 4, "blocks": 1, "scale": 3, "network": "rrdb"}, (30, 40), "YX"),
}


def make_model(family, options, gate=None):
    """A model with random weights; `gate`, where given, is what all its gates say before the sigmoid."""
    made = get_family(family)
    config = made.config(attention=True, **options)
    torch.manual_seed(0)
    network = made.build(config)
    for name, p in network.named_parameters():
        last = name.endswith(("join.1.weight", "join.1.bias", "weigh.weight", "weigh.bias"))
        if gate is not None and last:
            p.data.fill_(gate if name.endswith("bias") else 0.0)
    channels = options.get("channels", 1)
    normalization = Normalization((50.0,) * channels, (20.0,) * channels)
    return TrainedModel(family, config, network.state_dict(), normalization, name="test")


def pixels(*shape):
    return np.random.default_rng(0).normal(50, 20, shape).astype(np.float32)


@pytest.fixture(params=CASES)
def case(request):
    family, options, shape, axes = CASES[request.param]
    return make_model(family, options), Image(pixels(*shape), axes, name="cells")


def test_it_lies_exactly_on_the_result(case):
    model, image = case
    verb = api.upscale if model.family == "gan" else api.denoise
    result, found = verb(image, model, **EXACT), api.attention_map(image, model, **EXACT)
    assert (found.shape, found.axes) == (result.shape, result.axes)
    assert (found.scale, found.translate, found.units) == (result.scale, result.translate, result.units)
    assert found.array.dtype == np.float32
    assert 0 <= found.array.min() < found.array.max() <= 1
    assert found.name == "cells [attention]"
    record = found.metadata["napari_recon"]
    assert (record["verb"], record["model_hash"]) == ("attention_map", model.hash)
    json.dumps(record)


def test_tiles_equal_the_whole(case):
    model, image = case
    whole = api.attention_map(image.array, model, axes=image.axes, tile_size=4096, **EXACT)
    tiled = api.attention_map(image.array, model, axes=image.axes, tile_size=8, **EXACT)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


@pytest.mark.parametrize(("gate", "value"), [(20.0, 1.0), (0.0, 0.5), (-20.0, 0.0)])
@pytest.mark.parametrize("name", ["unet", "generator x2"])
def test_it_shows_what_the_gates_let_through(name, gate, value):
    family, options, shape, axes = CASES[name]
    found = api.attention_map(pixels(*shape), make_model(family, options, gate), axes=axes, **EXACT)
    np.testing.assert_allclose(found, value, atol=1e-6)


def test_missing_pixels_have_attention_too():
    family, options, shape, axes = CASES["unet"]
    image = pixels(*shape)
    image[10, 10] = np.nan
    image[20, 20] = np.inf
    assert np.isfinite(api.attention_map(image, make_model(family, options), axes=axes, **EXACT)).all()


def test_each_fidelity_has_its_own():
    model = make_model("gan", {"features": 4, "blocks": 1, "perceptual": True})
    for key, weights in model.weights.items():
        if key.startswith("difference."):
            torch.nn.init.normal_(weights, std=0.3)
    faithful, sharp = (api.attention_map(pixels(20, 20), model, fidelity=f, **EXACT) for f in (1.0, 0.0))
    assert np.abs(faithful - sharp).max() > 1e-3
    with pytest.raises(ReconError, match=r"fidelity cannot be 1\.5"):
        api.attention_map(pixels(20, 20), model, fidelity=1.5)


@pytest.mark.parametrize("name", ["universal", "upscale-x2"])
def test_a_model_without_gates_is_refused(name):
    with pytest.raises(ReconError, match=f"{name} has no attention gates") as caught:
        api.attention_map(pixels(20, 20), name)
    assert "attention=True" in caught.value.hint


@pytest.mark.parametrize(("family", "verb"), [("autoencoder", "denoise"), ("gan", "upscale")])
def test_the_commands_train_and_show_it(family, verb, phantom, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    api.write_image("in.tif", Image(phantom[0], "YX", scale=(0.2, 0.2), units=("um", "um")))

    def run(line):
        with pytest.raises(SystemExit) as done:
            cli.main(line.split())
        return done.value.code, capsys.readouterr()

    small = "--features 4 --patch-size 16 --batch-size 2 --steps 2 --start-from none"
    assert run(f"train {family} in.tif --out gated --attention {small}")[0] == 0
    assert run(f"{verb} in.tif out.tif --model gated.safetensors --attention map.tif")[0] == 0
    result, found = api.read_image("out.tif"), api.read_image("map.tif")
    assert (found.shape, found.scale, found.units) == (result.shape, result.scale, result.units)
    assert 0 <= found.array.min() <= found.array.max() <= 1

    trained.save("plain")
    plain = "--model plain.safetensors" if verb == "denoise" else ""
    code, said = run(f"{verb} in.tif none.tif {plain} --attention none_map.tif")
    assert code == 1
    assert "no attention gates" in said.err
    assert not (tmp_path / "none.tif").exists()
