"""Sampling, generating, exploring and storing, as an analyst calls them."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from napari_recon import api
from napari_recon.data.phantoms import nuclei
from napari_recon.errors import Cancelled, ReconError
from napari_recon.image import Image
from napari_recon.progress import CancelToken

SMALL = {
    "levels": 2, "blocks": 1, "features": 8, "latents": 4, "patch_size": 16, "batch_size": 4, "steps": 40,
    "validate_every": 20, "precision": "float32",
}  # fmt: skip


@pytest.fixture(scope="module")
def picture():
    """(noisy, clean): 96 x 150, nuclei with Poisson noise."""
    rng = np.random.default_rng(5)
    clean = nuclei((96, 150), rng) * 60 + 10
    return rng.poisson(clean).astype(np.uint16), clean


@pytest.fixture(scope="module")
def vae(picture):
    """A VAE of the picture; not to be changed."""
    return api.train("vae", picture[0], **SMALL | {"patch_size": 32, "batch_size": 8, "steps": 250})


@pytest.fixture(scope="module")
def bottleneck(picture):
    return api.train(
        "autoencoder", picture[0], network="bottleneck", features=4, image_size=16, code_length=16, steps=40,
        batch_size=8, precision="float32",
    )  # fmt: skip


def test_samples_differ_by_no_more_than_the_noise_and_mean_and_spread_are_theirs(picture, vae):
    made = api.sample(
        picture[0], vae, 8, outputs=("std", "samples", "mean", "median", "variation"), mean_of_samples=True
    )
    assert made.samples.shape == (8, 96, 150)
    assert made.samples.dtype == np.float32
    assert len({s.tobytes() for s in made.samples}) == 8
    # Around the direct mean the samples are as wide as the calibration says.
    factor = (vae.provenance["calibration"] or {"factor": 1.0})["factor"]
    direct = api.sample(picture[0], vae, outputs=("mean",)).mean
    unwidened = direct + (made.samples - direct) / factor
    np.testing.assert_allclose(made.mean, unwidened.mean(axis=0), rtol=1e-3, atol=1e-2)
    np.testing.assert_array_equal(made.median, np.median(made.samples, axis=0))
    np.testing.assert_allclose(made.std, made.samples.std(axis=0, ddof=1), rtol=1e-4, atol=1e-3)
    assert (made.variation >= 0).all()
    noise = np.sqrt(picture[1])
    assert (made.samples.std(axis=0) < 2 * noise).all()
    assert np.mean((made.mean - picture[1]) ** 2) < np.mean((picture[0] - picture[1]) ** 2)


def test_the_mean_in_one_pass_is_near_that_of_the_samples(picture, vae):
    one_pass = api.sample(picture[0], vae, outputs=("mean",)).mean
    many = api.sample(picture[0], vae, 50, outputs=("mean",), mean_of_samples=True).mean
    assert np.abs(one_pass - many).mean() < 0.2 * np.sqrt(picture[1]).mean()


def test_a_seed_gives_its_samples_however_the_image_is_tiled(picture, vae):
    whole = api.sample(picture[0], vae, 3, seed=4)
    tiled = api.sample(picture[0], vae, 3, seed=4, tile_size=16)
    for a, b in zip(whole[:2] + whole[3:4], tiled[:2] + tiled[3:4], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-2)
    np.testing.assert_array_equal(api.sample(picture[0], vae, 5, seed=4).samples[:3], whole.samples)
    other = api.sample(picture[0], vae, 3, seed=5).samples
    assert np.abs(other - whole.samples).mean() > 0.1 * whole.samples.std(axis=0).mean()


def test_samples_have_no_seams_at_the_borders_of_tiles(picture, vae):
    samples = api.sample(picture[0], vae, 6, tile_size=16).samples
    steps = np.abs(np.diff(samples - samples.mean(axis=0), axis=2)).mean(axis=(0, 1))
    at_borders, elsewhere = steps[15::16], np.delete(steps, np.arange(15, len(steps), 16))
    # Of latents half as fine as the image every second step is smaller: borders are compared with steps of their kind.
    assert at_borders.mean() < 1.15 * elsewhere[1::2].mean() + 3 * elsewhere.std() / np.sqrt(len(at_borders))


def test_an_image_keeps_its_physics_and_the_samples_get_an_axis_of_their_own(picture, vae):
    image = Image(picture[0], "YX", scale=(0.2, 0.1), translate=(3.0, 4.0), units=("um", "um"), name="cells")
    made = api.sample(image, vae, 2, outputs=("samples", "mean"))
    assert (made.samples.axes, made.samples.scale, made.samples.translate) == ("SYX", (1, 0.2, 0.1), (0, 3.0, 4.0))
    assert made.samples.units == (None, "um", "um")
    assert (made.mean.axes, made.mean.scale, made.mean.name) == ("YX", (0.2, 0.1), "cells [mean]")
    record = made.samples.metadata["napari_recon"]
    assert (record["verb"], record["n"], record["seed"], record["model_hash"]) == ("sample", 2, 0, vae.hash)
    assert made.std is None


def test_planes_times_and_channels_are_sampled_on_their_own(picture):
    noisy = picture[0][:48, :48]
    stack = np.stack([noisy, noisy[::-1]])[:, None].repeat(2, axis=1) * np.array([1, 2], np.uint16)[:, None, None]
    model = api.train("vae", stack, axes="TCYX", **SMALL | {"steps": 6})
    made = api.sample(stack, model, 3, axes="TCYX")
    assert made.samples.shape == (3, 2, 2, 48, 48)
    assert np.abs(made.samples[:, 0, 0] - made.samples[:, 1, 0, ::-1]).max() > 0
    joint = api.train("vae", stack, axes="TCYX", channels=2, **SMALL | {"steps": 6})
    assert api.sample(stack, joint, 3, axes="TCYX").samples.shape == (3, 2, 2, 48, 48)
    assert api.generate(joint, (20, 30), 2).shape == (2, 2, 20, 30)


def test_volumes(picture):
    rng = np.random.default_rng(0)
    volume = rng.poisson(np.stack([picture[1][:32, :40]] * 10)).astype(np.uint8)
    model = api.train("vae", volume, axes="ZYX", dimensions=3, **SMALL | {"steps": 6, "patch_size": 8})
    assert api.sample(volume, model, 2, axes="ZYX").samples.shape == (2, 10, 32, 40)
    assert api.generate(model, (9, 20, 24), 2).shape == (2, 9, 20, 24)


def test_pixels_that_are_not_numbers_stay_what_they_are_and_spoil_no_others(picture, vae):
    noisy = picture[0].astype(np.float32)
    noisy[40:44, 50:60] = np.nan
    made = api.sample(noisy, vae, 3)
    missing = np.isnan(noisy)
    for result in (made.mean, made.std, *made.samples):
        assert np.isnan(result[missing]).all()
        assert np.isfinite(result[~missing]).all()
    model = api.train("vae", noisy, **SMALL | {"steps": 6})
    assert model.provenance["missing_pixels"] == 40
    assert all(torch.isfinite(w).all() for w in model.weights.values())


def test_generated_images_are_of_any_size_repeat_with_their_seed_and_spread_with_temperature(vae):
    made = api.generate(vae, (37, 61), 3, seed=1)
    assert made.shape == (3, 37, 61)
    np.testing.assert_array_equal(made, api.generate(vae, (37, 61), 3, seed=1))
    assert np.abs(made - api.generate(vae, (37, 61), 3, seed=2)).mean() > 0
    assert np.abs(made[0] - made[1]).mean() > 0
    cold, hot = (api.generate(vae, (64, 64), 4, temperature=t) for t in (0.0, 1.5))
    assert np.abs(cold - cold[0]).max() == 0
    assert hot.std(axis=0).mean() > api.generate(vae, (64, 64), 4, temperature=0.5).std(axis=0).mean()
    noisy = api.generate(vae, (37, 61), 3, seed=1, noise=True)
    assert (noisy - made).std() > 0.5 * np.sqrt(made.mean())


def test_a_saved_model_generates_in_a_fresh_process(vae, tmp_path):
    # Its files are first read while the network is only sketched, to compare it with what was saved.
    path = vae.save(tmp_path / "vae")
    lines = f"from napari_recon import api; print(api.generate({str(path)!r}, (16, 24), seed=1).mean())"
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(float(api.generate(vae, (16, 24), seed=1).mean()), rel=1e-4)


@pytest.mark.parametrize("options", [{}, {"network": "flat"}])
def test_an_image_of_one_latent_position_can_be_learned(options):
    noisy = np.random.default_rng(0).poisson(20, (8, 8)).astype(np.uint16)
    model = api.train("vae", noisy, **SMALL | {"levels": 3, "patch_size": 8, "steps": 4} | options)
    assert np.isfinite(api.generate(model, (20, 20))).all()


def test_a_large_generated_image_has_no_seams(vae):
    large = api.generate(vae, (64, 600))[0]
    steps = np.abs(np.diff(large, axis=1)).mean(axis=0)
    assert steps[511] < 3 * np.median(steps)


def test_traversing_starts_at_the_image_and_the_telling_latents_come_first(picture, vae):
    factors = api.latent_factors(picture[0], vae)
    nats = [n for _, n in factors]
    assert len(factors) == 8
    assert nats == sorted(nats, reverse=True)
    series = api.traverse(picture[0], vae, 0, steps=5, span=2.0)
    assert series.shape == (5, 96, 150)
    rebuilt = api.interpolate(picture[0], picture[0], vae, 2)[0]
    np.testing.assert_allclose(series[2], rebuilt, rtol=1e-3, atol=1e-2)
    change = [np.abs(series[i] - series[2]).mean() for i in range(5)]
    assert change[0] > change[1] > 0
    assert change[4] > change[3] > 0
    last = api.traverse(picture[0], vae, len(factors) - 1, steps=3, span=2.0)
    assert np.abs(last[0] - last[1]).mean() < change[0]


def test_interpolation_goes_from_one_image_to_the_other(picture, vae):
    first, second = Image(picture[0], "YX", scale=(2.0, 2.0)), Image(picture[0][::-1].copy(), "YX", name="other")
    series = api.interpolate(first, second, vae, 5)
    assert (series.axes, series.shape, series.scale) == ("SYX", (5, 96, 150), (1.0, 2.0, 2.0))
    np.testing.assert_allclose(series.array[-1], api.interpolate(second, first, vae, 2).array[0], rtol=1e-3, atol=1e-2)
    far = [np.abs(s - series.array[0]).mean() for s in series.array]
    assert far == sorted(far)


@pytest.mark.parametrize("kind", ["vae", "bottleneck"])
def test_what_is_stored_comes_back_smaller_and_finer_steps_are_truer(picture, kind, tmp_path, request):
    model = request.getfixturevalue(kind)
    image = Image(picture[0], "YX", scale=(0.5, 0.5), units=("um", "um"), name="cells")
    coarse, fine = (api.encode(image, model, step=s) for s in (1.0, 0.02))
    assert coarse.ratio > max(fine.ratio, 3)
    path = fine.save(tmp_path / "cells")
    assert path.suffix == ".latents"
    back = api.decode(path, model)
    assert (back.axes, back.shape, back.scale, back.units) == (image.axes, image.shape, image.scale, image.units)
    if kind == "vae":
        exact = api.interpolate(picture[0], picture[0], model, 2)[0]
        errors = [np.abs(d.array - exact).mean() for d in (api.decode(fine, model), api.decode(coarse, model))]
        assert errors[0] < errors[1]
        assert errors[0] < 0.02 * np.ptp(exact)


def test_stacks_of_several_channels_are_stored_too(picture, tmp_path):
    stack = np.stack([picture[0][:48, :50]] * 4).reshape(2, 2, 48, 50)
    model = api.train("vae", stack, axes="TCYX", unconditional=1, **SMALL | {"steps": 6})
    encoded = api.encode(stack, model, axes="TCYX")
    assert api.decode(encoded, model).array.shape == (2, 2, 48, 50)


def test_damaged_latents_and_other_models_are_refused(picture, vae, bottleneck, tmp_path):
    encoded = api.encode(picture[0], vae)
    path = encoded.save(tmp_path / "a")
    content = path.read_bytes()
    for damaged in (b"", b"nonsense", content[: len(content) // 2]):
        (tmp_path / "b.latents").write_bytes(damaged)
        with pytest.raises(ReconError, match="damaged"):
            api.decode(tmp_path / "b.latents", vae)
    for key, value in (("shape", [100.5, 90]), ("scale", ["far", 1]), ("channel_names", 3), ("translate", 10**400)):
        api.Encoded(encoded.packed, {**encoded.about, key: value}).save(tmp_path / "b")
        with pytest.raises(ReconError, match="damaged"):
            api.decode(tmp_path / "b.latents", vae)
    with pytest.raises(ReconError, match="another model"):
        api.decode(path, bottleneck)
    with pytest.raises(ReconError, match="no file"):
        api.decode(tmp_path / "none.latents", vae)
    lost = dict(list(encoded.packed.items())[1:])
    with pytest.raises(ReconError, match="latents where"):
        api.decode(api.Encoded(lost, encoded.about), vae)
    # A bomb: few bytes that claim to be far more than belong here.
    key = next(iter(encoded.packed))
    import zlib

    bomb = {**encoded.packed, key: np.frombuffer(zlib.compress(bytes(10**7)), np.uint8)}
    with pytest.raises(ReconError, match="damaged"):
        api.decode(api.Encoded(bomb, encoded.about), vae)


def test_mistakes_are_told(picture, vae, trained):
    noisy = picture[0]
    cases = [
        (lambda: api.sample(noisy, trained), "not to sample"),
        (lambda: api.sample(noisy, vae, 0), "0 samples"),
        (lambda: api.sample(noisy, vae, 1), "1 samples"),
        (lambda: api.sample(noisy, vae, seed=-1), "seed"),
        (lambda: api.sample(noisy, vae, outputs=("average",)), "no output average"),
        (lambda: api.sample(noisy, vae, outputs=()), "No output"),
        (lambda: api.sample(noisy, "nowhere"), "no model"),
        (lambda: api.sample(np.stack([noisy] * 2), vae, axes="CYX"), "trained on 1 channel"),
        (lambda: api.generate(vae, (10, 10, 10)), "cannot make"),
        (lambda: api.generate(vae, (0, 10)), "cannot make"),
        (lambda: api.generate(vae, temperature=5), "temperature"),
        (lambda: api.generate(vae, channel=3), "no channel 3"),
        (lambda: api.traverse(noisy, vae, 8), "no dimension 8"),
        (lambda: api.traverse(noisy, vae, steps=1), "1 steps"),
        (lambda: api.traverse(noisy, vae, span=0), "span"),
        (lambda: api.interpolate(noisy, noisy[:50], vae), "differ"),
        (lambda: api.encode(noisy, trained), "no small latents"),
        (lambda: api.encode(noisy, vae, step=0), "step"),
        (lambda: api.encode(np.broadcast_to(np.uint8(1), (5000, 5000)), vae), "too large"),
        (lambda: api.denoise(noisy, vae), "not to denoise"),
    ]
    for run, match in cases:
        with pytest.raises(ReconError, match=match):
            run()


def test_a_stopped_run_raises_and_returns_nothing(picture, vae):
    token = CancelToken()
    token.cancel()
    for run in (
        lambda: api.sample(picture[0], vae, cancel=token),
        lambda: api.generate(vae, n=3, cancel=token),
        lambda: api.interpolate(picture[0], picture[0], vae, cancel=token),
        lambda: api.encode(picture[0], vae, cancel=token),
    ):
        with pytest.raises(Cancelled):
            run()


def test_tiny_images_can_be_sampled(vae):
    for shape in ((1, 5), (3, 2), (2, 1)):
        made = api.sample(np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 20, vae, 2)
        assert made.samples.shape == (2, *shape)


def test_a_model_that_is_saved_samples_the_same(picture, vae, tmp_path):
    again = api.load_model(vae.save(tmp_path / "vae"))
    np.testing.assert_array_equal(api.sample(picture[0], again, 2).samples, api.sample(picture[0], vae, 2).samples)
    assert again.provenance["calibration"] == vae.provenance["calibration"]
