"""Prediction: tiles equal the whole, whatever the size, the axes and the type of the image."""

import dask.array
import numpy as np
import psutil
import pytest
import torch
from scipy.ndimage import uniform_filter

from napari_recon.axes import from_batch, to_batch
from napari_recon.checkpoint import TrainedModel
from napari_recon.data.noise_estimate import NoiseEstimate
from napari_recon.data.normalization import Normalization, measure
from napari_recon.errors import ReconError
from napari_recon.image import Image
from napari_recon.inference.predict import predict
from napari_recon.models import get_family
from napari_recon.progress import ProgressEvent

NETWORKS = {
    "unet": {"features": 4, "depth": 1},
    "unet deep": {"features": 4, "depth": 3, "top_skip": True},
    "unet 3D": {"features": 4, "depth": 1, "dimensions": 3},
    "bottleneck": {"network": "bottleneck", "features": 4, "image_size": 16, "code_length": 8},
    "universal": {"network": "universal"},
}


def make_model(measured=1, noise=False, **options):
    """A network with random weights that answers about as strongly as it is asked."""
    family = get_family("autoencoder")
    config = family.config(**options)
    torch.manual_seed(0)
    network = family.build(config)
    if hasattr(network, "tail") and config.network == "unet":
        torch.nn.init.normal_(network.tail.weight, std=3.0)
    normalization = None if noise else Normalization((50.0,) * measured, (20.0,) * measured)
    return TrainedModel("autoencoder", config, network.state_dict(), normalization, name="test")


@pytest.fixture(params=NETWORKS)
def model(request):
    options = NETWORKS[request.param]
    return make_model(noise=options.get("network") == "universal", **options)


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).normal(50, 20, shape).astype(np.float32)


def run(model, array, axes, **options):
    return predict(model, Image(array, axes), **{"device": "cpu", "precision": "float32", **options}).array


def whole(model, array):
    """The answer of the network in one piece, without our tiles: of a (Z)YX array of any size."""
    spec, normalization = model.spec, model.normalization or measure(
        [to_batch(array, "YX")], stabilised=True, unit_noise=True
    )  # fmt: skip
    extra = [(0, -n % spec.size_multiple) for n in array.shape]
    x = torch.from_numpy(np.pad(normalization.forward(array, 0), extra, mode="symmetric"))[None, None]
    noise = (torch.tensor([normalization.noise_level(0)]),) if spec.noise_aware else ()
    with torch.inference_mode():
        answer = model.network()(x, *noise)[0, 0].numpy()
    clean = normalization.inverse(answer[tuple(slice(n) for n in array.shape)], 0)
    if spec.noise_aware:  # local means are kept
        clean = clean + uniform_filter(uniform_filter(array - clean, 33), 33)
    return clean


@pytest.mark.parametrize("side", [(64, 80), (65, 33), (41, 7), (1, 90), (3, 3), (330, 24)])
@pytest.mark.parametrize("tile", [16, 40, 1000])
def test_tiles_equal_the_whole(model, side, tile):
    volume = len(model.spec.axes) == 3
    shape = (5, *(min(n, 45) for n in side)) if volume else side
    array = pixels(*shape)
    np.testing.assert_allclose(
        run(model, array, model.spec.axes, tile_size=tile), whole(model, array), rtol=1e-4, atol=2e-3
    )


def test_tiles_that_see_less_than_the_receptive_field_are_not_exact_but_may_be_asked_for():
    model, array = make_model(features=4, depth=2), pixels(64, 64)
    exact = run(model, array, "YX")
    rough = run(model, array, "YX", tile_size=16, tile_overlap=4)
    assert np.isfinite(rough).all()
    assert not np.allclose(rough, exact, atol=1e-3)


@pytest.mark.parametrize(("tile", "overlap"), [(0, None), (-5, None), (32, -1)])
def test_impossible_tiles_are_refused(tile, overlap):
    with pytest.raises(ReconError) as caught:
        run(make_model(features=4), pixels(16, 16), "YX", tile_size=tile, tile_overlap=overlap)
    assert caught.value.hint


@pytest.mark.parametrize("axes", ["YX", "XY", "ZYX", "TZCYX", "YXC", "CTYX", "ZTYXS", "XYZTC", "SCZTXY"])
def test_every_plane_of_every_axes_order_is_done_on_its_own(axes):
    sizes = {"T": 2, "Z": 3, "C": 2, "S": 2, "Y": 17, "X": 20}
    array = pixels(*(sizes[a] for a in axes))
    channels = 2 if "C" in axes else 1
    model = make_model(channels, features=4, depth=1)
    done = run(model, array, axes)
    assert done.shape == array.shape
    assert done.dtype == np.float32
    one = make_model(features=4, depth=1)
    batch = to_batch(array, axes)
    planes = np.array([[run(one, plane, "YX") for plane in sample] for sample in batch])
    np.testing.assert_allclose(done, from_batch(planes, axes, array.shape), rtol=1e-4, atol=2e-3)


def test_volumes_of_every_axes_order_are_done_on_their_own():
    options = {"features": 4, "depth": 1, "dimensions": 3}
    array = pixels(12, 2, 5, 2, 14)
    done = run(make_model(2, **options), array, "YCZTX", tile_size=6)
    for t in range(2):
        for c in range(2):
            alone = run(make_model(**options), array[:, c, :, t].transpose(1, 0, 2), "ZYX")
            np.testing.assert_allclose(done[:, c, :, t].transpose(1, 0, 2), alone, rtol=1e-4, atol=2e-3)


def test_joint_channels_are_seen_together():
    model = make_model(2, features=4, depth=1, channels=2)
    array = pixels(2, 30, 30)
    done = run(model, array, "CYX")
    other = array.copy()
    other[1] += 10
    assert np.abs(run(model, other, "CYX")[0] - done[0]).max() > 0.1
    np.testing.assert_allclose(run(model, array, "CYX", tile_size=8), done, rtol=1e-4, atol=2e-3)
    np.testing.assert_allclose(run(model, array.transpose(1, 2, 0), "YXC").transpose(2, 0, 1), done, atol=2e-3)


@pytest.mark.parametrize(
    ("options", "channels", "axes", "shape"),
    [
        ({"channels": 2}, 2, "CYX", (3, 16, 16)),
        ({"channels": 2}, 2, "YX", (16, 16)),
        ({}, 1, "CYX", (2, 16, 16)),
        ({"dimensions": 3}, 1, "YX", (16, 16)),
    ],
)
def test_an_image_that_does_not_fit_the_model_is_refused_with_a_next_step(options, channels, axes, shape):
    with pytest.raises(ReconError) as caught:
        run(make_model(channels, features=4, **options), pixels(*shape), axes)
    assert caught.value.hint


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64"]
)
def test_every_pixel_type_gives_the_same_answer(dtype):
    array = pixels(20, 20).clip(0, 120).round()
    model = make_model(features=4, depth=1)
    np.testing.assert_allclose(run(model, array.astype(dtype), "YX"), run(model, array, "YX"), rtol=1e-4, atol=2e-3)


def test_foreign_byte_order_and_strides_do_not_matter():
    array, model = pixels(20, 20), make_model(features=4, depth=1)
    expected = run(model, array, "YX")
    np.testing.assert_array_equal(run(model, array.astype(">f4"), "YX"), expected)
    np.testing.assert_array_equal(run(model, np.repeat(array, 2, axis=1)[:, ::2], "YX"), expected)


def test_lazy_images_are_read_tile_by_tile_and_each_pixel_about_once():
    array, read = pixels(3, 64, 64), []

    def load(block):
        read.append(block.size)
        return block

    lazy = dask.array.from_array(array, chunks=(1, 32, 32)).map_blocks(load, dtype=array.dtype, meta=array[:0])
    model = make_model(features=4, depth=1)
    done = run(model, lazy, "ZYX", tile_size=32, tile_overlap=0)
    np.testing.assert_array_equal(done, run(model, array, "ZYX", tile_size=32, tile_overlap=0))
    assert sum(read) == array.size


def test_the_input_is_left_as_it_was():
    array = pixels(20, 20)
    array[3, 3] = np.nan
    before = array.copy()
    run(make_model(features=4, depth=1), array, "YX", strength=0.5)
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.5])
def test_strength_goes_from_the_input_to_beyond_the_answer(strength):
    array, model = pixels(20, 20), make_model(features=4, depth=1)
    full = run(model, array, "YX")
    np.testing.assert_allclose(
        run(model, array, "YX", strength=strength), array + strength * (full - array), rtol=1e-4, atol=1e-3
    )


def test_a_known_noise_replaces_the_measured_one():
    array, model = pixels(40, 40), make_model(noise=True, network="universal")
    known = NoiseEstimate(gain=0.0, intercept=100.0)
    done = predict(model, Image(array, "YX"), noise=[known], device="cpu", precision="float32")
    assert done.normalization.noise == (known,)
    measured = predict(model, Image(array, "YX"), device="cpu", precision="float32")
    again = predict(
        model, Image(array, "YX"), noise=measured.normalization.noise, device="cpu", precision="float32"
    )  # fmt: skip
    np.testing.assert_array_equal(again.array, measured.array)
    assert not np.allclose(done.array, measured.array, atol=1)


def test_known_noise_of_another_number_of_channels_is_refused():
    model = make_model(noise=True, network="universal")
    with pytest.raises(ReconError) as caught:
        run(model, pixels(2, 16, 16), "CYX", noise=[NoiseEstimate(gain=0.0, intercept=100.0)])
    assert caught.value.hint


def test_progress_counts_to_its_total_and_names_the_task():
    events: list[ProgressEvent] = []
    run(make_model(features=4, depth=1), pixels(4, 40, 40), "TYX", tile_size=16, on_progress=events.append)
    assert events[-1].done == events[-1].total > 0
    assert all(e.phase == "denoise" for e in events)
    assert [e.done for e in events] == sorted(e.done for e in events)


def test_memory_does_not_grow_with_the_number_of_tiles():
    model = make_model(features=4, depth=1)
    process = psutil.Process()

    def grown(planes):
        lazy = dask.array.ones((planes, 256, 256), chunks=(1, 256, 256), dtype=np.uint16)
        before = process.memory_info().rss
        run(model, lazy, "TYX", tile_size=64)
        return process.memory_info().rss - before

    run(model, np.ones((1, 256, 256)), "TYX", tile_size=64)  # what torch and dask keep for good
    # The result itself is 5 MB; activations of all tiles together would be 200 MB.
    assert grown(20) < 60e6
