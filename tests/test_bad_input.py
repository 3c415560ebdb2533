"""Whatever is wrong with the input: one clear error with a next step, and nothing of the user's is changed."""

import json
import math
import os
import sys
from contextlib import contextmanager
from dataclasses import replace

import dask.array
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_recon import api, cli
from napari_recon.checkpoint import TrainedModel
from napari_recon.errors import ReconError
from napari_recon.image import Image


@contextmanager
def refused(match, *arrays):
    """The block raises one clear `ReconError` and leaves the arrays as they are."""
    before = [np.array(a, copy=True) for a in arrays]
    with pytest.raises(ReconError, match=match) as error:
        yield error
    assert error.value.hint
    assert "\n" not in str(error.value)
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def picture(shape=(48, 48), dtype=np.float32):
    return np.random.default_rng(0).normal(100, 10, shape).astype(dtype)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_missing_pixels_are_kept_and_told_and_disturb_no_other(trained, value):
    array = picture()
    array[10:12, 20] = value
    before = array.copy()
    image = api.denoise(Image(array, "YX"), trained, precision="float32")
    np.testing.assert_array_equal(array, before)
    np.testing.assert_array_equal(image.array[10:12, 20], array[10:12, 20])
    assert np.isfinite(np.delete(image.array, np.ravel_multi_index(([10, 11], [20, 20]), (48, 48)))).all()
    assert any("not finite" in note for note in image.metadata["napari_recon"]["notes"])


def test_an_image_of_nothing_but_missing_pixels(tiny):
    for value in (np.nan, np.inf, -np.inf):
        array = np.full((48, 48), value, np.float32)
        with refused("no finite pixel", array):
            api.train("autoencoder", array, **tiny)


def test_a_name_and_a_tensor_of_a_training_are_no_images():
    with refused("is a name, not an image"):
        api.denoise("cells.tif")
    with refused("requires grad"):
        api.denoise(torch.zeros(8, 8, requires_grad=True))


LABELS = np.kron(np.arange(1, 10).reshape(3, 3), np.ones((16, 16), int))


def test_a_matrix_is_an_array():
    np.testing.assert_array_equal(api.denoise(np.matrix(picture())), api.denoise(picture()))
    np.testing.assert_array_equal(api.upscale(np.matrix(picture())), api.upscale(picture()))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_a_label_image_is_refused(dtype):
    labels = LABELS.astype(dtype)
    with refused("holds labels", labels):
        api.denoise(labels)


def test_what_looks_a_little_like_labels_is_denoised():
    rng = np.random.default_rng(0)
    saturated = np.clip(rng.normal(250, 2, (48, 48)), 0, 255).astype(np.uint8)
    mostly_black = np.where(LABELS == 5, rng.poisson(30, LABELS.shape), 0).astype(np.uint8)
    for image in (saturated, mostly_black, LABELS.astype(np.float32)):
        assert np.isfinite(api.denoise(image)).all()


def test_pure_noise_is_measured_and_flattened():
    noise = np.random.default_rng(0).normal(-500, 20, (96, 96))  # negative too
    found = api.measure_noise(noise)[0].estimate
    assert found.gain == 0
    assert found.read_noise == pytest.approx(20, rel=0.05)
    assert found.snr < 0.3
    clean = api.denoise(noise)
    assert clean.std() < 3
    assert clean.mean() == pytest.approx(noise.mean(), abs=0.2)


def test_saturated_pixels_are_told_and_stay_bright():
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 400, 96)[None] + np.zeros((96, 1))
    image = np.clip(rng.normal(ramp, 8), 0, 255).astype(np.uint8)
    report = api.measure_noise(image)[0]
    assert report.estimate.saturated == pytest.approx((image == 255).mean(), abs=0.01)
    assert any("saturated" in finding for finding in report.findings)
    assert api.denoise(image)[:, 80:].min() > 245


def test_a_binary_mask_keeps_its_shape():
    mask = np.where(np.hypot(*np.mgrid[-48:48, -48:48]) < 30, 255, 0).astype(np.uint8)
    assert ((api.denoise(mask) > 127) == (mask > 127)).all()
    with refused("cannot be worked on"):
        api.denoise(mask > 0)


def test_a_row_of_pixels_becomes_less_noisy():
    row = np.random.default_rng(0).normal(100, 10, (1, 400))
    assert api.denoise(row).std() < 7
    assert api.denoise(row.T).std() < 7


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_missing_pixel_does_not_forbid_to_measure(value):
    array = 10 + gaussian_filter(picture((64, 64)), 3)
    whole = api.upscale(Image(array, "YX")).metadata["napari_recon"]["trust"]
    array[20, 30] = value
    trust = api.upscale(Image(array, "YX")).metadata["napari_recon"]["trust"]
    assert whole["quantifiable"]
    assert trust["quantifiable"]
    assert trust["mean_change"] < 0.01


def test_nine_decades_keep_their_order():
    image = np.tile(np.logspace(0, 9, 96), (96, 1))
    done = api.denoise(image)
    assert np.isfinite(done).all()
    assert np.abs(done - image).max() < 0.05 * image.max()


def test_values_beyond_float32(tiny):
    array = picture(dtype=np.float64) * 1e60
    with refused("more than float32 can hold", array):
        api.train("autoencoder", array, **tiny)


@pytest.mark.parametrize("pixels", [slice(None), (3, 4)])
@pytest.mark.parametrize("verb", ["denoise", "upscale", "trained", "measure"])
def test_a_number_too_large_for_float32_is_not_taken_for_a_missing_one(trained, verb, pixels):
    array = picture(dtype=np.float64)
    array[pixels] *= 2e37
    verbs = {"upscale": api.upscale, "trained": lambda x: api.denoise(x, trained), "measure": api.measure_noise}
    with refused(r"Pixels of up to \d.*e\+39 are more than float32", array) as told:
        verbs.get(verb, api.denoise)(array)
    assert "Divide the image by 1e+39 first" in str(told.value)


@pytest.mark.parametrize(("offset", "dtype"), [(1e9, np.float64), (-1e12, np.float64), (3_000_000_000, np.uint32)])
@pytest.mark.parametrize("verb", ["denoise", "upscale", "train", "measure"])
def test_a_contrast_that_float32_would_lose(tiny, verb, offset, dtype):
    array = (picture(dtype=np.float64) + offset).astype(dtype)
    verbs = {"upscale": api.upscale, "measure": api.measure_noise, "denoise": api.denoise}
    with refused(r"varies by 10 around -?[13]e\+.*: float32", array) as told:
        verbs.get(verb, lambda x: api.train("autoencoder", x, **tiny))(array)
    assert f"Subtract {array.min():.10g} from" in str(told.value)


def test_a_large_offset_that_float32_holds_costs_nothing():
    array = picture((64, 64), np.float64)
    np.testing.assert_allclose(api.denoise(array + 1e5) - 1e5, api.denoise(array), atol=0.5)


@pytest.mark.parametrize("value", [0, 7])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_constant_image(tiny, value, dtype):
    array = np.full((48, 48), value, dtype)
    with refused(f"The image is constant: every pixel is {value}. Choose an image", array):
        api.train("autoencoder", array, **tiny)
    with refused("constant", array):
        api.train("autoencoder", array, picture(), **tiny)


def test_an_all_zero_channel_is_named(tiny):
    array = np.stack([picture(), np.zeros((48, 48), np.float32)])
    with refused("Channel 1 is constant", array):
        api.train("autoencoder", array, axes="CYX", **tiny)


@pytest.mark.parametrize("value", [0, 1e6 / 3])
@pytest.mark.parametrize("verb", [api.denoise, api.upscale])
def test_a_blank_channel_beside_others_stays_as_it_is(verb, value, tmp_path):
    array = np.stack([picture(), np.full((48, 48), value, np.float32)])
    done = np.asarray(verb(array, axes="CYX"))
    np.testing.assert_array_equal(done[1], np.float32(value))
    np.testing.assert_array_equal(done[0], np.asarray(verb(array[0])))
    streamed = verb(array, axes="CYX", out=tmp_path / "made.ome.zarr")
    np.testing.assert_array_equal(np.asarray(streamed.array)[1], np.float32(value))
    with refused("Channel 0 is constant", array):
        verb(np.stack([array[1], array[1]]), axes="CYX")


@pytest.mark.parametrize("array", [np.zeros((0, 48)), np.zeros((3, 0, 0)), dask.array.zeros((0, 5))])
def test_an_empty_array(trained, tiny, array):
    with refused("empty"):
        api.train("autoencoder", array, **tiny)
    with refused("empty"):
        api.denoise(array, trained)


@pytest.mark.parametrize("array", [np.zeros((48, 48), bool), np.zeros((48, 48), complex), np.zeros((48, 48), object)])
def test_pixels_that_are_no_real_numbers(trained, tiny, array):
    with refused("cannot be worked on"):
        api.train("autoencoder", array, **tiny)
    with refused("cannot be worked on"):
        api.denoise(array, trained)


@pytest.mark.parametrize("axes", ["ZYX", "Y", "YY", "YZ", "YQ", "", "zyxx"])
def test_axes_that_do_not_fit(trained, tiny, axes):
    array = picture()
    if axes:
        with refused("axes", array):
            api.train("autoencoder", array, axes=axes, **tiny)
        with refused("axes", array):
            api.denoise(array, trained, axes=axes)


def test_what_is_no_image_at_all(trained, tiny):
    for thing in (3, None, "noisy.tif", [], {}):
        with refused("."):
            api.denoise(thing, trained)
    for thing in (3, None, "noisy.tif", [], {}):
        with refused("."):
            api.train("autoencoder", thing, **tiny)


def test_a_model_of_other_channels_or_dimensions(trained, tiny):
    colours = picture((3, 48, 48))
    with refused("trained on 1 channel", colours):
        api.denoise(colours, trained, axes="CYX")
    together = api.train("autoencoder", colours, axes="CYX", channels=3, **tiny)
    with refused("3 channels together; the image has 1"):
        api.denoise(picture(), together)
    with refused("3 channels together; the images have 2"):
        api.train("autoencoder", colours[:2], axes="CYX", channels=3, **tiny)
    volumes = api.train("autoencoder", picture((8, 16, 16)), axes="ZYX", dimensions=3, **tiny | {"patch_size": 8})
    with refused("no Z axis"):
        api.denoise(picture(), volumes)
    with refused("no Z axis"):
        api.train("autoencoder", picture(), dimensions=3, **tiny)


def test_images_of_different_channels(tiny):
    with refused("different numbers of channels"):
        api.train("autoencoder", [picture((1, 48, 48)), picture((2, 48, 48))], axes="CYX", **tiny)


def test_a_target_of_another_shape(tiny):
    noisy = picture()
    for target in (picture((48, 47)), picture((2, 48, 48)), [picture(), picture()]):
        with refused("target", noisy):
            api.train("autoencoder", noisy, target, **tiny)
    with refused("needs a target"):
        api.train("autoencoder", noisy, objective="pairs", **tiny)


@pytest.mark.parametrize("shape", [(1, 48), (3, 3), (48, 7)])
def test_too_small_an_image(tiny, shape):
    array = picture(shape)
    with refused("at least", array):
        api.train("autoencoder", array, **tiny | {"depth": 3})


def test_one_pixel_and_less_than_a_tile_can_be_denoised(trained):
    for shape in ((1, 1), (1, 5), (3, 2)):
        assert api.denoise(picture(shape), trained).shape == shape


NOTHING_TO_DO = [
    {"steps": 0}, {"steps": -3}, {"minutes": 0}, {"minutes": -1.0}, {"minutes": math.nan}, {"steps": math.nan},
    {"steps": math.inf}, {"steps": 2.5}, {"steps": "many"}, {"steps": True}, {"minutes": "1"},
]  # fmt: skip


@pytest.mark.parametrize("budget", NOTHING_TO_DO, ids=str)
def test_a_budget_of_nothing(tiny, budget):
    array = picture()
    options = {k: v for k, v in tiny.items() if k != "steps"}
    with refused("Steps|Minutes", array):
        api.train("autoencoder", array, **options, **budget)
    with refused("Steps|Minutes"):
        api.training_estimate("autoencoder", array, **options, **budget)


def test_two_budgets(tiny):
    with refused("Both steps and minutes"):
        api.train("autoencoder", picture(), minutes=1, **tiny)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"device": "tpu"}, "no device"),
        ({"device": "cuda:99"}, "no device"),
        ({"device": ""}, "no device"),
        ({"preset": "slow"}, "preset"),
        ({"depht": 3}, "no option 'depht'"),
        ({"features": 2}, "Features"),
        ({"network": "transformer"}, "Network"),
        ({"network": "bottleneck", "dimensions": 3}, "2D only"),
        ({"learning_rate": 0}, "Learning rate"),
        ({"batch_size": 0}, "Batch size"),
        ({"validation_fraction": 0.9}, "Held out"),
        ({"mask_fraction": 0}, "Hidden pixels"),
        ({"precision": "float8"}, "Precision"),
        ({"start_from": "nowhere"}, "no model"),
        ({"start_from": "nowhere.safetensors"}, "no model"),
    ],
    ids=str,
)
def test_options_that_cannot_be(tiny, options, match):
    array = picture()
    with refused(match, array):
        api.train("autoencoder", array, **tiny | options)


def test_a_whole_number_may_be_written_as_a_float(tiny):
    assert api.train("autoencoder", picture(), **tiny | {"steps": 2.0, "batch_size": 4.0}).provenance["steps"] == 2


def test_an_unknown_family_and_an_unknown_device_to_predict(trained):
    with refused("no model family 'gann'"):
        api.train("gann", picture())
    for options in ({"device": "tpu"}, {"precision": "float8"}, {"strength": 2}, {"strength": math.nan}):
        with refused("."):
            api.denoise(picture(), trained, **options)


def test_files_that_are_no_models(trained, tmp_path):
    good = trained.save(tmp_path / "good").read_bytes()
    path = tmp_path / "bad.safetensors"
    for content in (b"", b"junk", bytes(5000), good[:50], good[: len(good) // 2], good[:-1]):
        path.write_bytes(content)
        with refused("damaged"):
            api.load_model(path)
        assert path.read_bytes() == content
    path.write_bytes(good.replace(b'\\"format\\": 1', b'\\"format\\": 9', 1))
    with refused("newer napari-recon"):
        api.load_model(path)
    for change in ({"gain": None}, {"gain": 0.0, "intercept": -1.0}, {"intercept": "much"}, {"correlation": [0.1]}):
        noise = replace(trained.normalization.noise[0], **change)
        replace(trained, normalization=replace(trained.normalization, noise=(noise,))).save(path)
        with refused("damaged"):
            api.load_model(path)
    with refused("no model"):
        api.load_model(tmp_path)


def test_a_model_is_saved_in_the_home_folder(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert trained.save("~/models/mine") == tmp_path / "models" / "mine.safetensors"
    assert api.load_model("~/models/mine.safetensors").hash == trained.hash


def test_a_network_with_infinite_weights_gives_no_image(trained):
    broken = TrainedModel(
        trained.family, trained.config, {k: v * math.inf for k, v in trained.weights.items()}, trained.normalization
    )
    with refused("not finite"):
        api.denoise(picture(), broken)


@contextmanager
def full_disk(limit):
    """No file may grow beyond `limit` bytes: writing fails as it does on a full disk."""
    resource = pytest.importorskip("resource", reason="this system sets no limit to files")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("limit", [0, 1000, 5000])
def test_a_full_disk_leaves_the_old_model_and_nothing_else(trained, tmp_path, limit):
    path = trained.save(tmp_path / "model")
    before = path.read_bytes()
    with full_disk(limit), refused("disk is full|could not be written"):
        trained.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_a_full_disk_under_the_commands(trained, tmp_path, capsys):
    api.write_image(tmp_path / "noisy.tif", picture((200, 200)))
    model = trained.save(tmp_path / "model")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for name in ("new.tif", "new.ome.tif"):
        with full_disk(4000), pytest.raises(SystemExit) as done:
            cli.main(["denoise", str(tmp_path / "noisy.tif"), str(tmp_path / name), "--model", str(model)])
        assert done.value.code == 1
        assert "space" in capsys.readouterr().err
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_full_disk_under_latents_and_reports(tmp_path, capsys):
    stored = api.Encoded({"0.0.0": np.zeros(9000, np.uint8)}, {"name": "cells"})
    with full_disk(4000), refused("space"):
        stored.save(tmp_path / "cells")
    assert not list(tmp_path.iterdir())
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "empty.tif").touch()  # which fails, and so needs no space
    report = tmp_path / "report.json"
    report.write_text("of yesterday")
    with full_disk(10), pytest.raises(SystemExit) as done:
        cli.main(["batch", "denoise", str(tmp_path / "in"), str(tmp_path / "out"), "--report", str(report)])
    out, err = capsys.readouterr()
    assert (done.value.code, json.loads(out)["failed"]) == (1, 1)
    assert "report.json" in err
    assert report.read_text() == "of yesterday"


def test_a_disk_that_is_full_before_all_tiles_are_written(trained, tmp_path):
    image, out = picture((128, 128)), tmp_path / "out.ome.zarr"
    small = {"tile_size": 64, "precision": "float32"}
    with full_disk(4000), refused("disk is full", image):
        api.denoise(image, trained, out=out, **small)
    assert os.listdir(tmp_path) == ["out.ome.zarr.partial"]
    done = api.denoise(image, trained, out=out, **small)
    np.testing.assert_array_equal(np.asarray(done.array), api.denoise(image, trained, **small))
    assert os.listdir(tmp_path) == ["out.ome.zarr"]


@pytest.mark.parametrize("adapt", [False, True])
def test_a_store_that_has_no_place_is_told_before_the_work(tmp_path, adapt):
    (tmp_path / "file").write_bytes(b"kept")
    events = []
    with refused("cannot be made|no folder"):
        api.denoise(picture(), out=tmp_path / "file" / "out.ome.zarr", adapt=adapt, on_progress=events.append)
    assert not events


@pytest.mark.skipif(sys.platform == "win32", reason="folders are protected otherwise there")
def test_a_place_that_cannot_be_written(trained, tmp_path):
    (tmp_path / "file").write_bytes(b"kept")
    (tmp_path / "folder.safetensors").mkdir()
    for name in ("file/model", "folder", "a" * 300):
        with refused("."):
            trained.save(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.safetensors"]
    assert (tmp_path / "file").read_bytes() == b"kept"


def test_training_does_not_change_what_it_learns_from(tiny):
    for dtype in (np.uint8, np.int32, np.float16, np.float32, np.float64):
        noisy, target = picture(dtype=dtype), picture(dtype=dtype)
        noisy.setflags(write=False)
        target.setflags(write=False)
        model = api.train("autoencoder", noisy, target, **tiny)
        api.denoise(noisy, model)
