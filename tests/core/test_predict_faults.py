"""What goes wrong in a prediction: memory runs out, numbers are none, somebody presses Stop."""

import threading

import numpy as np
import pytest
import torch

from napari_recon import api
from napari_recon.checkpoint import TrainedModel
from napari_recon.data.normalization import Normalization
from napari_recon.errors import Cancelled, ReconError
from napari_recon.image import Image
from napari_recon.inference.predict import predict
from napari_recon.models import get_family
from napari_recon.progress import CancelToken


@pytest.fixture
def model():
    family = get_family("autoencoder")
    config = family.config(features=4, depth=1)
    torch.manual_seed(0)
    network = family.build(config)
    torch.nn.init.normal_(network.tail.weight, std=3.0)
    return TrainedModel("autoencoder", config, network.state_dict(), Normalization((50.0,), (20.0,)), name="test")


def _pixels(*shape):
    return np.random.default_rng(0).normal(50, 20, shape).astype(np.float32)


def _run(model, array, axes="YX", **options):
    return predict(model, Image(array, axes), **{"device": "cpu", "precision": "float32", **options})


def _before_each_forward(model, action):
    """Call ``action(x)`` with each input of the network, as a layer within it would meet the failure."""
    model.network().register_forward_pre_hook(lambda _, args: action(args[0]))


def _memory_for(limit, kind, message, seen):
    def check(x):
        seen.append(x.numel())
        if x.numel() > limit:
            raise kind(message)

    return check


OUT_OF_MEMORY = [
    pytest.param(torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 20.00 MiB", id="cuda"),
    pytest.param(RuntimeError, "DefaultCPUAllocator: can't allocate memory: you tried to allocate 99", id="linux"),
    pytest.param(RuntimeError, "DefaultCPUAllocator: not enough memory: you tried to allocate 99", id="windows"),
    pytest.param(RuntimeError, "MPS backend out of memory (MPS allocated: 1 GB)", id="mps"),
    pytest.param(MemoryError, "Unable to allocate 9 GiB for an array", id="numpy"),
]


@pytest.mark.parametrize(("kind", "message"), OUT_OF_MEMORY)
def test_when_memory_is_short_tiles_are_halved_which_is_said_and_changes_nothing(model, kind, message):
    array, seen = _pixels(200, 180), []
    expected = _run(model, array).array
    _before_each_forward(model, _memory_for(100 * 100, kind, message, seen))
    done = _run(model, array)
    np.testing.assert_allclose(done.array, expected, rtol=1e-4, atol=2e-3)
    assert done.tile_size == 64
    assert [n for n in done.notes if "memory was short" in n] == done.notes != []
    assert max(seen[-3:]) <= 100 * 100


def test_planes_done_together_are_done_apart_when_memory_is_short(model):
    array, seen = _pixels(50, 32, 32), []
    expected = _run(model, array, "TYX").array
    _before_each_forward(model, _memory_for(4 * 32 * 32, MemoryError, "", seen))
    np.testing.assert_allclose(_run(model, array, "TYX").array, expected, rtol=1e-4, atol=2e-3)
    assert seen[0] == array.size  # all at once while there is memory


def test_memory_short_in_the_middle_of_a_stack_keeps_what_is_done(model):
    array, events, calls = _pixels(3, 128, 128), [], []
    expected = _run(model, array, "TYX", tile_size=128).array

    def check(x):
        calls.append(x.numel())
        if len(calls) == 2:
            raise MemoryError

    _before_each_forward(model, check)
    done = _run(model, array, "TYX", tile_size=128, on_progress=events.append)
    np.testing.assert_allclose(done.array, expected, rtol=1e-4, atol=2e-3)
    assert len(calls) == 2 + 2 * 4
    assert events[-1].done == events[-1].total


def test_too_little_memory_for_any_tile_ends_in_an_error_with_a_next_step(model):
    _before_each_forward(model, _memory_for(0, MemoryError, "", []))
    with pytest.raises(ReconError, match="memory") as caught:
        _run(model, _pixels(200, 180))
    assert "Close other programs" in caught.value.hint


def test_a_result_larger_than_memory_is_refused_before_anything_is_computed(model):
    huge = np.broadcast_to(np.uint8(0), (2**20, 2**20, 2**18))
    with pytest.raises(ReconError, match="GB"):
        _run(model, huge, "TYX")


def test_other_failures_are_bugs_and_not_hidden(model):
    _before_each_forward(model, _memory_for(0, RuntimeError, "shapes cannot be multiplied", []))
    with pytest.raises(RuntimeError, match="shapes"):
        _run(model, _pixels(32, 32))


def test_an_answer_that_is_not_finite_in_half_precision_is_computed_again_in_float32(model):
    array = _pixels(40, 40)
    expected = _run(model, array).array
    used = []

    def overflow(module, args, answer):
        used.append(answer.dtype)
        return answer * torch.inf if answer.dtype == torch.bfloat16 else answer

    model.network().tail.register_forward_hook(overflow)
    done = _run(model, array, precision="bfloat16")
    np.testing.assert_allclose(done.array, expected, rtol=1e-4, atol=2e-3)
    assert used == [torch.bfloat16, torch.float32]


def test_half_precision_is_nearly_exact(model):
    array = _pixels(40, 40)
    expected = _run(model, array).array
    done = _run(model, array, precision="bfloat16")
    assert done.precision == "bfloat16"
    assert np.abs(done.array - expected).max() < 0.05 * np.abs(expected - 50).max()


def test_a_model_gone_wrong_is_an_error_and_not_a_black_image(model):
    model.weights["tail.bias"] = torch.full((1,), torch.nan)
    with pytest.raises(ReconError, match="not finite") as caught:
        _run(model, _pixels(16, 16))
    assert caught.value.hint


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_pixels_that_are_no_numbers_are_kept_and_disturb_only_their_neighbours(model, value, strength):
    array = _pixels(64, 64)
    clean = _run(model, array, strength=strength).array
    array[30, 20:24] = value
    done = _run(model, array, strength=strength)
    np.testing.assert_array_equal(done.array[30, 20:24], array[30, 20:24])
    assert np.isfinite(np.delete(done.array.ravel(), [30 * 64 + x for x in range(20, 24)])).all()
    far = np.ones((64, 64), bool)
    far[30 - 12 : 30 + 13, 20 - 12 : 24 + 13] = False
    np.testing.assert_allclose(done.array[far], clean[far], rtol=1e-4, atol=2e-3)
    assert done.notes == ["pixels that are not finite were kept as they are"]


def test_wide_holes_are_filled_alike_in_every_tile(model):
    array = _pixels(96, 96)
    array[:, 20:70] = np.nan
    expected, tiled = _run(model, array).array, _run(model, array, tile_size=16, tile_overlap=32).array
    np.testing.assert_array_equal(tiled[:, 20:70], array[:, 20:70])
    np.testing.assert_allclose(tiled, expected, rtol=1e-3, atol=2e-2)


def test_an_image_of_nothing_but_missing_pixels_stays_one(model):
    done = _run(model, np.full((20, 20), np.nan, np.float32))
    assert np.isnan(done.array).all()


def test_a_constant_image_is_denoised_by_a_model_that_knows_its_range(model):
    assert np.isfinite(_run(model, np.full((20, 20), 50.0, np.float32)).array).all()


def test_stop_before_the_first_tile_computes_nothing(model):
    token, seen = CancelToken(), []
    token.cancel()
    _before_each_forward(model, _memory_for(np.inf, MemoryError, "", seen))
    with pytest.raises(Cancelled):
        _run(model, _pixels(32, 32), cancel=token)
    assert not seen


def test_stop_is_heard_after_the_tile_in_progress(model):
    token, seen = CancelToken(), []

    def stop_at_third(x):
        seen.append(x)
        if len(seen) == 3:
            token.cancel()

    _before_each_forward(model, stop_at_third)
    with pytest.raises(Cancelled):
        _run(model, _pixels(64, 64), tile_size=16, cancel=token)
    assert len(seen) == 3


def test_stop_is_heard_within_a_tile_but_not_by_others_who_use_the_network(model):
    token, reached, others = CancelToken(), [], []
    network = model.network()
    parts = [m for m in network.modules() if not list(m.children())]

    def stop(*_):
        if not token.cancelled:
            token.cancel()
            other = threading.Thread(target=lambda: others.append(_run(model, _pixels(32, 32)).array))
            other.start()
            other.join()
            reached.clear()

    handles = [parts[0].register_forward_hook(stop), parts[-1].register_forward_hook(lambda *_: reached.append(1))]
    with pytest.raises(Cancelled):
        _run(model, _pixels(32, 32), cancel=token)
    for handle in handles:
        handle.remove()
    assert not reached
    assert np.isfinite(others[0]).all()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16"])
def test_keeping_the_pixel_type_rounds_and_clips_at_its_range_and_tells_how_many(model, dtype):
    info = np.finfo(dtype) if dtype == "float16" else np.iinfo(dtype)
    top = float(info.max)
    # A network that answers with twice its input: bright pixels go beyond the range.
    model.normalization = Normalization((0.0,), (top,))
    model.network().register_forward_hook(lambda _, args, __: 2 * args[0])
    array = np.full((16, 16), info.max // 4).astype(dtype)
    array[:4] = info.max
    image = api.denoise(Image(array, "YX"), model, keep_dtype=True, device="cpu", precision="float32")
    assert image.dtype == array.dtype
    np.testing.assert_allclose(image.array[4:].astype(float), top / 2, rtol=0.03)
    np.testing.assert_allclose(image.array[:4].astype(float), top, rtol=1e-6)
    (note,) = image.metadata["napari_recon"]["notes"]
    assert "25.00%" in note
    assert dtype in note


def test_keeping_the_pixel_type_rounds_to_the_nearest(model):
    model.normalization = Normalization((0.0,), (1.0,))
    model.network().register_forward_hook(lambda _, args, __: args[0] + 0.7)
    done = api.denoise(np.full((8, 8), 3, np.uint8), model, keep_dtype=True, device="cpu", precision="float32")
    assert (done == 4).all()
    assert done.dtype == np.uint8
