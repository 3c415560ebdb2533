"""Lazy results: bit for bit those of the whole run, only what is read, within their bounds."""

import threading
import time

import dask.array
import numpy as np
import pytest

from napari_recon import api
from napari_recon.api.lazily import lazily
from napari_recon.errors import ReconError
from napari_recon.image import Image
from napari_recon.inference.live import LiveResult
from napari_recon.progress import CancelToken

FIXED = {"device": "cpu", "precision": "float32", "tile_size": 32}
PATIENCE = 60


def noisy(*shape, dtype="uint16"):
    return np.random.default_rng(0).poisson(200, shape).astype(dtype)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """One model for each verb, trained for a moment."""
    image = noisy(48, 48)
    options = {"features": 4, "patch_size": 16, "batch_size": 2, "steps": 2, "device": "cpu", "precision": "float32"}
    volume = {"depth": 1, "dimensions": 3, "patch_size": 8}
    return {
        "denoise": api.train("autoencoder", image, depth=1, **options),
        "volume": api.train("autoencoder", Image(noisy(16, 48, 48), "ZYX"), **{**options, **volume}),
        "sample": api.train("vae", image, **options),
        "upscale": api.train("gan", image, scale=2, **options),
    }


def whole(verb, image, model, **options):
    if verb == "sample":
        return api.sample(image, model, 1, outputs=["mean"], **options).mean.array
    more = {"trust": False} if verb == "upscale" else {}
    return getattr(api, verb)(image, model, **options, **more).array


CASES = [
    ("denoise", "denoise", "YX", {"keep_dtype": True}),
    ("denoise", "denoise", "TZYX", {"strength": 0.7}),
    ("denoise", "denoise", "YXZ", {"keep_dtype": True}),
    ("denoise", "denoise", "TCZYX", {}),
    ("denoise", "volume", "TZYX", {}),
    ("denoise", "volume", "ZCYX", {"keep_dtype": True}),
    ("denoise", "universal", "ZYX", {"strength": 1.2}),
    ("denoise", "universal", "YXZT", {"tile_size": 24}),
    ("denoise", "universal", "TYX", {"plane_by_plane": True}),
    ("denoise", "denoise", "TCZYX", {"tile_size": 100}),  # planes go through the network together
    ("sample", "sample", "TYX", {}),
    ("upscale", "upscale", "ZYX", {"keep_dtype": True}),
    ("upscale", "upscale-x2", "TYX", {}),
]
SIZES = {"T": 3, "Z": 3, "C": 1, "Y": 40, "X": 50}


@pytest.mark.parametrize(("verb", "name", "axes", "options"), CASES)
def test_what_is_read_equals_the_whole_run_bit_for_bit(models, verb, name, axes, options):
    image = Image(noisy(*(SIZES[a] for a in axes)), axes)
    model = models.get(name, name)
    expected = whole(verb, image, model, **{**FIXED, **options})
    result = lazily(verb, image, model, **{**FIXED, **options})
    assert (result.shape, result.dtype, result.ndim) == (expected.shape, expected.dtype, expected.ndim)
    middle = tuple(slice(n // 2, n // 2 + 1) if n < 10 else slice(5, 37) for n in expected.shape)
    np.testing.assert_array_equal(result[middle], expected[middle])
    np.testing.assert_array_equal(np.asarray(result), expected)


@pytest.mark.parametrize(("verb", "name"), [("denoise", "universal"), ("upscale", "upscale-x2")])
def test_without_a_model_it_takes_that_of_the_verb(verb, name):
    image = Image(noisy(40, 50), "YX")
    np.testing.assert_array_equal(np.asarray(lazily(verb, image, **FIXED)), whole(verb, image, name, **FIXED))
    with pytest.raises(ReconError, match="no model to sample with"):
        lazily("sample", image)


INDICES = [
    0, -1, (1, 2), (slice(None), 0), (..., 3), (0, ..., slice(4, 30, 3)), (slice(None, None, -1), 1, slice(20, 2, -2)),
    (1, slice(2, 2)), (np.int64(1), 0, 5, 7), ([1, 0],), (slice(0, 1), slice(1, 3), slice(-9, None), slice(None)),
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES)
def test_is_indexed_as_numpy_is(models, index):
    image = Image(noisy(2, 3, 40, 50), "TZYX")
    result = lazily("denoise", image, models["denoise"], **FIXED)
    expected = np.asarray(result)[index]
    np.testing.assert_array_equal(result[index], expected)
    np.testing.assert_array_equal(LiveResult(result)[index], expected)


def test_there_is_nothing_beyond_the_end(models):
    result = lazily("denoise", Image(noisy(2, 40, 50), "TYX"), models["denoise"], **FIXED)
    for index in (2, -3, (0, 0, 0, 0)):
        with pytest.raises(IndexError):
            result[index]


def test_only_what_is_read_is_computed(models):
    read = []

    def load(block):
        read.append(block.size)
        return block

    pixels = noisy(50, 64, 64)
    source = dask.array.from_array(pixels, chunks=(1, 64, 64)).map_blocks(load, dtype=pixels.dtype, meta=pixels[:0])
    result = lazily("denoise", Image(source, "TYX"), models["denoise"], **FIXED)
    assert read == []
    result[7]
    assert sum(read) <= 5 * 64 * 64  # once for each tile, and one plane to see that it holds no labels


def test_tiles_are_kept_within_the_limit(models):
    plane = 64 * 64 * 4
    image = Image(noisy(12, 64, 64), "TYX")
    result = lazily("denoise", image, models["denoise"], limit=3 * plane, **FIXED)
    for t in range(12):
        result[t]
        assert result.nbytes_kept <= 3 * plane
    assert result.nbytes_kept > 2 * plane
    np.testing.assert_array_equal(np.asarray(result), whole("denoise", image, models["denoise"], **FIXED))


def test_what_is_not_possible_is_told(models):
    with pytest.raises(ReconError, match="no way to train"):
        lazily("train", noisy(40, 40), models["denoise"])[0]
    with pytest.raises(ReconError, match="upscale"):
        lazily("denoise", noisy(40, 40), models["upscale"])[0]


@pytest.mark.parametrize("scale", [1, 2])
def test_shows_the_source_until_there_is_more(models, scale):
    verb = "denoise" if scale == 1 else "upscale"
    pixels = noisy(2, 40, 50)
    live = LiveResult(lazily(verb, Image(pixels, "TYX"), models[verb], **FIXED))
    np.testing.assert_array_equal(live[1], np.kron(pixels[1], np.ones((scale, scale))))
    np.testing.assert_array_equal(live[1, 3:11, 5:6], live[1][3:11, 5:6])
    slow = Image(dask.array.from_array(pixels, chunks=(1, 40, 50)), "TYX")
    assert not LiveResult(lazily(verb, slow, models[verb], **FIXED))[1].any()


class Served:
    """A live result at work, and the planes in the order in which they were done."""

    def __init__(self, image, model, **options):
        self.live = LiveResult(lazily("denoise", image, model, **{**FIXED, **options}))
        self.cancel = CancelToken()
        self.computed = []
        self.slow = threading.Event()
        plan = self.live.complete.prepare()
        compute = plan.compute

        def spied(key, stop):
            while self.slow.is_set() and not stop():
                time.sleep(0.005)
            values = compute(key, stop)
            self.computed.append(key)
            return values

        plan.compute = spied
        self.thread = threading.Thread(target=self.live.serve, args=(lambda: None, self.cancel))
        self.thread.start()

    def planes(self):
        return list(dict.fromkeys(plan_unit for plan_unit, _ in self.computed))

    def wait(self, condition):
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.01)

    def done(self, t):
        return self.planes() and (t in self.planes())

    def close(self):
        self.slow.clear()
        self.cancel.cancel()
        self.thread.join()


@pytest.fixture
def served(models):
    made = []

    def serve(frames=20, **options):
        # Planes as large as these go through the network one by one.
        made.append(Served(Image(noisy(frames, 64, 64), "TYX"), models["denoise"], **options))
        return made[-1]

    yield serve
    for one in made:
        one.close()


def at(t):
    return {"T": slice(t, t + 1)}


def test_the_plane_on_screen_comes_first_then_those_ahead(served):
    job = served()
    job.live.look_at(at(9))
    job.wait(lambda: len(job.planes()) >= 5)
    assert job.planes() == [9, 10, 11, 12, 13]
    job.live.look_at(at(7))
    job.wait(lambda: len(job.planes()) >= 10)
    assert job.planes()[5:] == [7, 6, 5, 4, 3]


def test_what_is_visible_comes_before_the_rest_of_the_plane(served):
    job = served(frames=1)
    job.live.look_at({}, {"Y": slice(40, 60), "X": slice(40, 60)})
    job.wait(lambda: len(job.computed) == 4)
    assert job.computed[0] == (0, 3)


def test_looking_elsewhere_gives_up_what_was_begun(served):
    job = served()
    job.slow.set()
    job.live.look_at(at(3))
    time.sleep(0.1)
    job.live.look_at(at(15))
    time.sleep(0.1)
    job.slow.clear()
    job.wait(lambda: job.done(15))
    assert job.planes()[0] == 15


def test_looking_nowhere_computes_nothing(served):
    job = served()
    time.sleep(0.1)
    assert job.computed == []
    job.live.look_at(at(0))
    job.wait(lambda: job.done(0))
    job.slow.set()
    job.live.look_at(at(15))
    job.live.look_at(None)
    job.slow.clear()
    time.sleep(0.1)
    assert not job.done(15)


def test_a_small_cache_holds_what_is_on_screen(served):
    plane = 64 * 64 * 4
    job = served(limit=plane // 2)
    job.live.look_at(at(4))
    job.wait(lambda: len(job.computed) == 4)
    assert job.planes() == [4]
    assert job.live.complete.nbytes_kept == plane
    job.live.look_at(at(5))
    job.wait(lambda: job.done(5) and job.live.complete.nbytes_kept == plane)


def test_scrolling_to_and_fro_keeps_within_the_limit_and_ends_with_the_right_pixels(served):
    plane = 64 * 64 * 4
    job = served(limit=4 * plane)
    for t in (0, 5, 1, 19, 18, 17, 3):
        job.live.look_at(at(t))
        time.sleep(0.02)
        assert job.live.complete.nbytes_kept <= 4 * plane
    expected = np.asarray(job.live)
    job.wait(lambda: np.array_equal(job.live[3], expected[3]))


def test_what_is_saved_is_complete(served, models):
    job = served()
    job.live.look_at(at(2))
    image = job.live.complete.source
    np.testing.assert_array_equal(np.asarray(job.live), whole("denoise", image, models["denoise"], **FIXED))


def test_a_released_result_can_still_be_read(models):
    result = lazily("denoise", Image(noisy(3, 40, 40), "TYX"), models["denoise"], **FIXED)
    before = result[1]
    result.release()
    assert result.nbytes_kept == 0
    np.testing.assert_array_equal(result[1], before)


def test_short_memory_cuts_the_image_anew(models):
    image = Image(noisy(2, 128, 128), "TYX")
    result = lazily("denoise", image, models["denoise"], **{**FIXED, "tile_size": 128})
    plan = result.prepare()
    result[0]

    def fail(job):
        raise MemoryError

    plan.runner.compute, compute = fail, plan.runner.compute
    restore = plan.runner.use_less_memory

    def use_less_memory():
        plan.runner.compute = compute
        restore()

    plan.runner.use_less_memory = use_less_memory
    expected = whole("denoise", image, models["denoise"], **{**FIXED, "tile_size": 64})
    np.testing.assert_array_equal(result[1], expected[1])
    assert result.plan.runner.tile == 64
