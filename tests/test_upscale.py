"""Upscaling: where every pixel lies, what is kept, and how far the result can be trusted."""

import json

import dask.array as da
import numpy as np
import pytest
import torch
from scipy.ndimage import center_of_mass, gaussian_filter

from napari_recon import Image, api, cli
from napari_recon.api.trust import _expected
from napari_recon.checkpoint import TrainedModel
from napari_recon.data.degradation import Optics
from napari_recon.data.phantoms import dead_leaves
from napari_recon.errors import Cancelled, ReconError
from napari_recon.models.gan import GANConfig, at_fidelity, build
from napari_recon.progress import CancelToken
from napari_recon.quality.trust import disagreement, trust_map, unseen_share

EXACT = {"device": "cpu", "precision": "float32"}


def make_model(strength=0.05, **options):
    """A model with random weights whose answer departs from bicubic by about `strength` of the contrast."""
    config = GANConfig(**{"features": 8, "blocks": 2, **options})
    torch.manual_seed(0)
    network = build(config)
    torch.nn.init.normal_(network.generator.tail.weight, std=strength)
    if network.difference is not None:
        torch.nn.init.normal_(network.difference.tail.weight, std=strength)
    return TrainedModel("gan", config, network.state_dict(), None, name="test")


@pytest.fixture(scope="module")
def scene():
    return (100 + 1000 * dead_leaves((70, 83), np.random.default_rng(3))).astype(np.float32)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_result_lies_exactly_on_its_source(scale):
    """The light of a point has the same place in the world before and after, and the borders coincide."""
    point = np.zeros((31, 40), np.float32)
    point[11, 23] = 1.0
    source = Image(point, "YX", scale=(0.2, 0.1), translate=(5.0, -3.0), units=("um", "um"), name="bead")
    done = api.upscale(source, make_model(strength=0.0, scale=scale), **EXACT)
    assert done.shape == (31 * scale, 40 * scale)
    assert done.units == source.units
    for axis in range(2):
        assert done.scale[axis] == pytest.approx(source.scale[axis] / scale)
        before, after = (i.translate[axis] + i.scale[axis] * center_of_mass(i.array)[axis] for i in (source, done))
        assert after == pytest.approx(before, abs=1e-3 * source.scale[axis])
        edges = [i.translate[axis] - i.scale[axis] / 2 for i in (source, done)]
        assert edges[0] == pytest.approx(edges[1])


@pytest.mark.parametrize(
    "options", [{"scale": 2}, {"scale": 3, "network": "rrdb"}, {"scale": 4, "attention": True}, {"keeps_light": True}]
)
def test_tiles_equal_the_whole(scene, options):
    model = make_model(**options)
    whole = api.upscale(scene, model, tile_size=4096, **EXACT)
    tiled = api.upscale(scene, model, tile_size=17, **EXACT)
    np.testing.assert_allclose(tiled, whole, rtol=1e-4, atol=1e-4 * np.ptp(whole))


@pytest.mark.parametrize(
    ("shape", "axes", "channels"),
    [
        ((2, 3, 12, 14), "TZYX", 1),
        ((12, 14, 3), "YXC", 1),
        ((2, 3, 12, 14), "ZCYX", 3),
        ((1, 1), "YX", 1),
        ((3, 40), "XY", 1),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float64"])
def test_any_axes_channels_and_types(shape, axes, channels, dtype):
    image = np.random.default_rng(0).integers(1, 200, shape).astype(dtype)
    if image.size == 1:
        with pytest.raises(ReconError, match="constant"):
            api.upscale(image, make_model(), axes=axes)
        return
    done = api.upscale(image, make_model(channels=channels), axes=axes, keep_dtype=True, **EXACT)
    assert done.dtype == image.dtype
    assert done.shape == tuple(n * (2 if a in "YX" else 1) for n, a in zip(shape, axes, strict=True))


def test_lazy_images_give_the_same(scene):
    stack = np.stack([scene, scene[::-1]])
    lazy = api.upscale(da.from_array(stack, chunks=(1, 32, 32)), make_model(), axes="ZYX", **EXACT)
    np.testing.assert_allclose(lazy, api.upscale(stack, make_model(), axes="ZYX", **EXACT), rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("network", ["compact", "residual", "rrdb"])
def test_no_intensity_is_special(scene, network):
    model = make_model(network=network)
    plain = api.upscale(scene, model, **EXACT)
    np.testing.assert_allclose(api.upscale(7 * scene - 300, model, **EXACT), 7 * plain - 300, rtol=1e-4, atol=0.1)


def test_missing_pixels_stay_missing_and_disturb_nothing_else(scene):
    holed = scene.copy()
    holed[20, 30] = np.nan
    done = api.upscale(holed, make_model(), **EXACT)
    missing = np.isnan(done)
    assert missing.sum() == 4
    assert missing[40:42, 60:62].all()


def squares(image, scale):
    """Mean of each square of pixels made of one."""
    height, width = image.shape
    return image.reshape(height // scale, scale, width // scale, scale).mean(axis=(1, 3))


@pytest.mark.parametrize("scale", [2, 3])
def test_an_image_without_noise_keeps_the_light_of_each_pixel(scene, scale):
    free, bound = (make_model(scale=scale, keeps_light=k) for k in (False, True))
    assert np.abs(squares(api.upscale(scene, free, **EXACT), scale) - scene).max() > 10
    np.testing.assert_allclose(squares(api.upscale(scene, bound, **EXACT), scale), scene, atol=0.01)


def test_the_light_of_noise_may_move(scene):
    noisy = scene + np.random.default_rng(0).normal(0, 300, scene.shape).astype(np.float32)
    free, bound = (api.upscale(noisy, make_model(keeps_light=k), **EXACT) for k in (False, True))
    moved = np.abs(squares(free, 2) - noisy).mean()
    assert np.abs(squares(bound, 2) - noisy).mean() > 0.95 * moved > 1


def test_the_light_of_each_channel_is_kept_by_its_own_noise(scene):
    """A noisy channel changes nothing of a clean one beside it; missing pixels stay missing in both."""
    clean = scene.copy()
    clean[20, 30] = np.nan
    noisy = clean + np.random.default_rng(0).normal(0, 300, scene.shape).astype(np.float32)
    done = api.upscale(np.stack([clean, noisy]), make_model(keeps_light=True), axes="CYX", **EXACT)
    np.testing.assert_allclose(squares(done[0], 2), clean, atol=0.01)
    assert np.isnan(done).sum() == 8
    assert np.nanmax(np.abs(squares(done[1], 2) - noisy)) > 1


def test_fidelity_goes_from_one_set_of_weights_to_the_other(scene):
    model = make_model(perceptual=True)
    config, faithful = at_fidelity(model.config, model.weights, 1.0)
    assert not config.perceptual
    assert all(torch.equal(w, model.weights[k]) for k, w in faithful.items())
    network = build(model.config)
    network.load_state_dict(model.weights)
    x = torch.rand(1, 1, 9, 9)
    for fidelity in (0.0, 0.3, 1.0):
        single = build(config)
        single.load_state_dict(at_fidelity(model.config, model.weights, fidelity)[1])
        torch.testing.assert_close(single(x), network(x, fidelity))
    results = [api.upscale(scene, model, fidelity=f, **EXACT) for f in (1.0, 0.5, 0.0)]
    distances = [np.abs(r - results[0]).mean() for r in results]
    assert distances[0] == 0 < distances[1] < distances[2]


def test_what_was_made_up_is_distrusted_and_not_measured(scene):
    source = Image(scene, "YX")
    model = make_model(perceptual=True)
    faithful, sure = api.upscale(source, model, return_trust=True, **EXACT)
    sharp, doubtful = api.upscale(source, model, fidelity=0.0, return_trust=True, **EXACT)
    assert sure.shape == faithful.shape
    assert sure.translate == faithful.translate
    assert 0 <= doubtful.array.min() <= sure.array.max() <= 1
    assert doubtful.array.mean() < sure.array.mean()
    record = sharp.metadata["napari_recon"]
    assert record["trust"]["quantifiable"] is False
    assert record["trust"]["value"] < faithful.metadata["napari_recon"]["trust"]["value"]
    json.dumps(record)


@pytest.mark.parametrize("fidelity", [1.0, 0.25])
def test_trust_that_goes_into_a_store_is_that_of_memory(scene, tmp_path, fidelity):
    gap = scene.copy()
    gap[3:6, 7] = np.nan
    source = Image(np.stack([scene, gap])[:, None], "ZCYX", scale=(1, 1, 0.2, 0.2), name="cells")
    model = make_model(perceptual=True)
    options = {"fidelity": fidelity, "return_trust": True, "tile_size": 32, **EXACT}
    result, trust = api.upscale(source, model, **options)
    lazy = source.with_array(da.from_array(source.array, chunks=(1, 1, 40, 83)))
    stores = {"out": tmp_path / "large.ome.zarr", "trust_out": tmp_path / "trust.ome.zarr"}
    events, stop = [], CancelToken()

    def stop_at_trust(event):
        if event.phase == "trust":
            stop.cancel()

    with pytest.raises(Cancelled):
        api.upscale(lazy, model, **stores, on_progress=stop_at_trust, cancel=stop, **options)
    written = {p: p.stat().st_mtime_ns for p in stores["out"].rglob("c/**/*") if p.is_file()}
    streamed = api.upscale(lazy, model, **stores, on_progress=events.append, **options)
    assert {p: p.stat().st_mtime_ns for p in written} == written
    assert {e.phase for e in events} == {"trust"}
    for one, other in zip(streamed, (result, trust), strict=True):
        np.testing.assert_array_equal(np.asarray(one.array), other.array)
        assert (one.axes, one.scale, one.translate) == (other.axes, other.scale, other.translate)
        assert one.metadata["napari_recon"]["trust"] == pytest.approx(result.metadata["napari_recon"]["trust"])
    assert {p.name for p in tmp_path.iterdir()} == {"large.ome.zarr", "trust.ome.zarr"}


def test_trust_that_goes_into_a_store_takes_the_noise_that_was_measured(scene, tmp_path, monkeypatch):
    model = make_model(keeps_light=True)
    expected = api.upscale(Image(scene, "YX"), model, return_trust=True, **EXACT)[1]
    monkeypatch.setattr("napari_recon.api.trust.estimate_noise", None)
    stores = {"out": tmp_path / "large.ome.zarr", "trust_out": tmp_path / "trust.ome.zarr"}
    trust = api.upscale(Image(scene, "YX"), model, return_trust=True, **stores, **EXACT)[1]
    np.testing.assert_array_equal(np.asarray(trust.array), expected.array)


def test_measures_of_trust_find_the_place_that_was_altered(scene):
    low, high = scene[:64, :80], scene[:64, :80].repeat(2, 0).repeat(2, 1)
    altered = low.copy()
    altered[10:20, 10:20] += 300
    disagreed = disagreement(low, altered, noise=5.0)
    assert disagreed[15, 15] > 5
    assert disagreed[50, 60] < 0.01
    details = np.zeros_like(high)
    details[80:110, 100:140] = np.random.default_rng(0).normal(0, 300, (30, 40))
    share = unseen_share(details, high + details, 2, noise=1.0)
    assert share[95, 120] > 0.3
    assert share[20, 20] == 0
    trusted = trust_map(disagreed, [share], 2)
    assert trusted[30, 30] < 0.1
    assert trusted[95, 120] < 0.7
    assert trusted[20, 140] > 0.99


def test_an_image_unlike_the_training_data_is_told(scene):
    smooth = gaussian_filter(scene, 3.0)
    noisy = smooth + np.random.default_rng(0).normal(0, 600, smooth.shape).astype(np.float32)
    model = make_model()
    model.provenance["roughness"] = [0.2, 0.5]
    for image, word in ((smooth, "smoother"), (noisy, "rougher")):
        record = api.upscale(Image(image, "YX"), model, **EXACT).metadata["napari_recon"]
        assert word in record["trust"]["warning"]
        assert any(word in note for note in record["notes"])
        assert not record["trust"]["quantifiable"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fidelity": 0.5}, "no perceptual weights"),
        ({"fidelity": 1.5}, "fidelity cannot be 1.5"),
        ({"model": "universal"}, "made to denoise"),
        ({"tile_size": 0}, "tile of 0"),
    ],
)
def test_what_cannot_be_done_is_said(scene, options, words):
    with pytest.raises(ReconError, match=words) as caught:
        api.upscale(scene, **{"model": make_model(), **options})
    assert caught.value.hint


@pytest.mark.parametrize("scale", [1, 5])
def test_scales_that_no_network_has(scale):
    with pytest.raises(ReconError, match="scale"):
        GANConfig(scale=scale)
    with pytest.raises(ReconError, match="ships"):
        api.shipped_upscaler(scale)


def test_an_image_smaller_than_the_receptive_field_or_the_psf_is_done_as_far_as_it_goes(scene):
    """What lies beyond its border is as unknown as for a large image."""
    small, model = scene[:5, :6], make_model(blocks=4)
    assert model.spec.receptive_field > 6
    assert api.upscale(small, model, **EXACT).shape == (10, 12)
    assert api.upscale(small, make_model(psf_sigma=6.0), **EXACT).shape == (10, 12)  # a PSF of 37 x 37 pixels


@pytest.mark.parametrize("lines", [1, 2])
def test_a_few_lines_of_pixels_are_judged_by_the_optics_as_many_of_them_are(scene, lines):
    image = np.repeat(scene[:1], lines, 0)
    assert api.upscale(image, **EXACT).shape == (2 * lines, 166)
    optics = Optics.gaussian(2, 3.0)
    few, many = (_expected(optics, np.repeat(scene[:1, :82], 2 * n, 0)) for n in (lines, 40))
    assert few.shape == (lines, 41)
    np.testing.assert_allclose(few, many[:lines], rtol=1e-5)


def test_the_command_writes_the_result_and_its_trust(scene, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    api.write_image("in.tif", Image(scene, "YX", scale=(0.2, 0.2), units=("um", "um")))
    make_model(scale=3).save("model")
    with pytest.raises(SystemExit) as done:
        cli.main(["upscale", "in.tif", "out.tif", "--model", "model.safetensors", "--trust", "trust.tif"])
    assert done.value.code == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["scale"], answer["shape"]) == (3, [210, 249])
    assert 0 <= answer["trust"]["value"] <= 1
    for name in ("out.tif", "trust.tif"):
        image = api.read_image(name)
        assert image.shape == (210, 249)
        assert image.scale == pytest.approx((0.2 / 3, 0.2 / 3))
    with pytest.raises(SystemExit) as done:
        cli.main(["upscale", "in.tif", "out.tif", "--scale", "4", "--model", "model.safetensors"])
    assert done.value.code == 1
    assert "upscales by 3, not by 4" in capsys.readouterr().err


def test_the_command_trains_both_stages(scene, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    api.write_image("sharp.tif", Image(scene, "YX"))
    small = "--features 4 --blocks 1 --patch-size 16 --batch-size 2 --steps 4 --start-from none"
    optics = "--na 1.4 --wavelength 520 --pixel-size 65 --photons 100"
    with pytest.raises(SystemExit) as done:
        cli.main(f"train gan sharp.tif --out both --scale 4 --perceptual {small} {optics}".split())
    assert done.value.code == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["family"], answer["config"]["perceptual"], answer["config"]["scale"]) == ("gan", True, 4)
    assert api.upscale(scene, "both.safetensors", fidelity=0.5, **EXACT).shape == (280, 332)
