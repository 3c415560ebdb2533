"""Results that go tile by tile into a store: equal to those in memory, and never done twice."""

import json
import subprocess
import sys
import textwrap
from functools import partial

import dask.array
import numpy as np
import pytest

from napari_recon import api, cli
from napari_recon.api import adapting
from napari_recon.batch import batch
from napari_recon.errors import Cancelled, ReconError
from napari_recon.image import Image
from napari_recon.inference.runner import TileRunner
from napari_recon.io import read_image, write_image
from napari_recon.progress import CancelToken, Reporter

JOBS = 2 * 3 * 9  # of the image below, by tiles of 32
SMALL = {"tile_size": 32, "precision": "float32"}


@pytest.fixture(scope="module")
def image():
    """Three times two planes of 70 x 90, noisy."""
    rng = np.random.default_rng(0)
    clean = 100 + 60 * np.sin(np.arange(70)[:, None] / 9) * np.cos(np.arange(90) / 7)
    pixels = rng.poisson(np.broadcast_to(clean, (3, 2, 70, 90))).astype(np.uint16)
    return Image(pixels, "TZYX", scale=(5, 1, 0.1, 0.1), units=("s", None, "um", "um"), name="cells")


@pytest.fixture
def computed(monkeypatch):
    """Places of the jobs that were computed."""
    places = []
    compute = TileRunner.compute

    def counted(self, job):
        places.append(self.place(job))
        return compute(self, job)

    monkeypatch.setattr(TileRunner, "compute", counted)
    return places


@pytest.fixture(autouse=True)
def every_event(monkeypatch):
    """Let no event be dropped for coming too soon."""
    monkeypatch.setattr("napari_recon.inference.streaming.Reporter", partial(Reporter, interval=0))


def stop_after(jobs):
    token = CancelToken()

    def watch(event):
        if event.phase == "denoise" and event.done >= jobs:
            token.cancel()

    return {"cancel": token, "on_progress": watch}


@pytest.mark.parametrize("options", [{}, {"keep_dtype": True}, {"strength": 0.5}])
def test_a_streamed_result_is_that_of_memory(tmp_path, image, trained, options):
    whole = api.denoise(image, trained, **options, **SMALL)
    lazy = api.denoise(image, trained, out=tmp_path / "clean.ome.zarr", **options, **SMALL)
    assert type(lazy.array).__module__.startswith("dask")
    np.testing.assert_array_equal(np.asarray(lazy.array), whole.array)
    assert (lazy.dtype, lazy.axes, lazy.scale, lazy.units) == (whole.dtype, whole.axes, whole.scale, whole.units)
    record, told = lazy.metadata["napari_recon"], whole.metadata["napari_recon"]
    assert {k: record[k] for k in told} == json.loads(json.dumps(told))
    assert [p.name for p in tmp_path.iterdir()] == ["clean.ome.zarr"]


@pytest.mark.parametrize("axes", ["YX", "SZYX", "ZYXC", "XTY", "STCYX"])
def test_any_axes_are_streamed(tmp_path, trained, axes):
    rng = np.random.default_rng(1)
    image = Image(rng.normal(100, 20, [30 if a in "YX" else 2 for a in axes]).astype(np.float32), axes)
    model = "universal" if "C" in axes else trained
    options = {"tile_size": 16, "precision": "float32"}
    whole = api.denoise(image, model, **options)
    lazy = api.denoise(image, model, out=tmp_path / "a.zarr", **options)
    assert lazy.axes == axes
    np.testing.assert_array_equal(np.asarray(lazy.array), whole.array)


def test_an_upscaled_image_lies_where_it_belongs(tmp_path, image):
    whole = api.upscale(image, trust=False, **SMALL)
    lazy = api.upscale(image, out=tmp_path / "large.ome.zarr", **SMALL)
    np.testing.assert_array_equal(np.asarray(lazy.array), whole.array)
    assert (lazy.scale, lazy.translate) == (whole.scale, whole.translate)
    with pytest.raises(ReconError, match="trust needs a store"):
        api.upscale(image, out=tmp_path / "large.ome.zarr", return_trust=True)
    with pytest.raises(ReconError, match="when the result does"):
        api.upscale(image, trust_out=tmp_path / "trust.ome.zarr")
    with pytest.raises(ReconError, match="Two results"):
        api.upscale(image, out=tmp_path / "one.ome.zarr", trust_out=tmp_path / "." / "one.ome.zarr")
    assert not (tmp_path / "one.ome.zarr").exists()


def test_the_record_of_a_result_replaces_that_of_its_source(tmp_path, image, trained):
    first = api.denoise(image, trained, strength=0.5, **SMALL)
    second = api.denoise(first, trained, out=tmp_path / "again.ome.zarr", **SMALL)
    assert second.metadata["napari_recon"]["strength"] == 1


def test_samples_are_streamed_with_their_mean_and_deviation(tmp_path, image):
    model = api.train(
        "vae", image.crop({"Z": 0}), features=4, levels=1, blocks=1, latents=2, patch_size=16, batch_size=2,
        steps=3, validate_every=3, precision="float32",
    )  # fmt: skip
    noisy = image.crop({"Z": 0})
    paths = {name: tmp_path / f"{name}.ome.zarr" for name in ("samples", "mean", "std")}
    whole = api.sample(noisy, model, 3, seed=4, **SMALL)
    lazy = api.sample(noisy, model, 3, seed=4, out=paths, **SMALL)
    for name in paths:
        expected, made = getattr(whole, name), getattr(lazy, name)
        assert (made.axes, made.shape) == (expected.axes, expected.shape)
        np.testing.assert_allclose(np.asarray(made.array), expected.array, rtol=1e-4, atol=1e-3)
    with pytest.raises(ReconError, match="is the input image itself"):
        api.sample(lazy.mean, model, 3, out={"std": tmp_path / "deviation.ome.zarr", "mean": paths["mean"]})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mean.ome.zarr", "samples.ome.zarr", "std.ome.zarr"]


def test_an_interrupted_run_goes_on_and_does_nothing_twice(tmp_path, image, trained, computed):
    out = tmp_path / "clean.ome.zarr"
    with pytest.raises(Cancelled):
        api.denoise(image, trained, out=out, keep_dtype=True, **SMALL, **stop_after(7))
    assert not out.exists()
    half = tmp_path / "clean.ome.zarr.partial"
    finished = {p: p.read_bytes() for p in (half / "0" / "c").rglob("*") if p.is_file()}
    first = list(computed)
    done = len((half / "napari-recon-done.jsonl").read_text().splitlines())
    assert 7 == done <= len(first) <= 8
    # What is there can be looked at already.
    assert read_image(half).shape == image.shape
    made = api.denoise(image, trained, out=out, keep_dtype=True, **SMALL)
    again = computed[len(first) :]
    assert len(again) == JOBS - done
    assert not {str(p) for p in first[:done]} & {str(p) for p in again}
    assert all((out / p.relative_to(half)).read_bytes() == content for p, content in finished.items())
    expected = api.denoise(image, trained, keep_dtype=True, **SMALL)
    np.testing.assert_array_equal(np.asarray(made.array), expected.array)


def test_two_runs_do_not_fill_the_same_store(tmp_path, image, trained):
    out = tmp_path / "clean.ome.zarr"
    refused = []

    def second(event):
        if not refused:
            with pytest.raises(ReconError, match="Another process") as error:
                api.denoise(image, trained, out=out, **SMALL)
            refused.append(error)

    first = api.denoise(image, trained, out=out, on_progress=second, **SMALL)
    assert refused
    np.testing.assert_array_equal(np.asarray(first.array), api.denoise(image, trained, **SMALL).array)
    assert [p.name for p in tmp_path.iterdir()] == ["clean.ome.zarr"]


def test_a_line_cut_short_in_the_record_costs_one_tile(tmp_path, image, trained, computed):
    out = tmp_path / "clean.ome.zarr"
    with pytest.raises(Cancelled):
        api.denoise(image, trained, out=out, **SMALL, **stop_after(7))
    record = tmp_path / "clean.ome.zarr.partial" / "napari-recon-done.jsonl"
    lines = record.read_text().splitlines(keepends=True)
    record.write_text("".join(lines)[:-5])
    before = len(computed)
    made = api.denoise(image, trained, out=out, **SMALL)
    jobs = len(computed) - before
    assert jobs + len(lines) - 1 == JOBS
    np.testing.assert_array_equal(np.asarray(made.array), api.denoise(image, trained, **SMALL).array)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"strength": 0.5}, "strength"),
        ({"keep_dtype": True}, "keep_dtype"),
        ({"tile_size": 16}, "tile size"),
        ({"model": "universal"}, "model"),
        ({"image": 1}, "image"),
    ],
)
def test_a_half_done_store_is_not_finished_with_something_else(tmp_path, image, trained, change, what):
    out = tmp_path / "clean.ome.zarr"
    image = image.crop({"Z": 0})
    with pytest.raises(Cancelled):
        api.denoise(image, trained, out=out, **SMALL, **stop_after(2))
    options = {"model": trained, **SMALL, **change}
    if options.pop("image", None):
        image = image.with_array(image.array + 1)
    with pytest.raises(ReconError, match=f"another .*{what}") as error:
        api.denoise(image, out=out, **options)
    assert "remove that folder" in error.value.hint


@pytest.mark.parametrize("lazy", [False, True])
def test_a_half_done_store_is_not_finished_with_an_image_of_another_border(tmp_path, image, trained, lazy):
    out = tmp_path / "clean.ome.zarr"
    pixels = image.array[0].copy()

    def denoise(**options):
        read = dask.array.from_array(pixels, name=False) if lazy else pixels
        api.denoise(read, trained, axes="ZYX", out=out, **SMALL, **options)

    with pytest.raises(Cancelled):
        denoise(**stop_after(2))
    pixels[-1, -1, -1] += 1
    with pytest.raises(ReconError, match="another image"):
        denoise()


def test_only_what_the_finished_tiles_were_made_of_must_be_as_it_was(tmp_path, trained, computed):
    out = tmp_path / "clean.ome.zarr"
    pixels = np.random.default_rng(0).normal(100, 10, (20, 70, 90)).astype(np.float32)

    def denoise(**options):
        lazy = dask.array.from_array(pixels, chunks=(1, 70, 90), name=False)
        return api.denoise(lazy, trained, axes="ZYX", out=out, **SMALL, **options)

    with pytest.raises(Cancelled):
        denoise(**stop_after(7))
    pixels[0, 5, 80] += 1
    before = len(computed)
    with pytest.raises(ReconError, match="another image"):
        denoise()
    assert len(computed) == before
    pixels[0, 5, 80] -= 1
    pixels[0, 69, 80] += 1  # of a tile to come
    denoise()


def test_the_old_store_stays_until_the_new_one_is_whole(tmp_path, image, trained):
    out = tmp_path / "clean.ome.zarr"
    write_image(out, np.ones((4, 5), np.uint8))
    with pytest.raises(Cancelled):
        api.denoise(image, trained, out=out, **SMALL, **stop_after(2))
    assert read_image(out).shape == (4, 5)
    api.denoise(image, trained, out=out, **SMALL)
    assert read_image(out).shape == image.shape


def test_short_memory_makes_smaller_tiles_but_the_same_chunks(tmp_path, image, trained, monkeypatch):
    whole = api.denoise(image, trained, out=tmp_path / "a.zarr", tile_size=128, precision="float32")
    compute = TileRunner.compute

    def short(self, job):
        if job.tile.write[1].stop - job.tile.write[1].start > 64:
            raise MemoryError
        return compute(self, job)

    monkeypatch.setattr(TileRunner, "compute", short)
    made = api.denoise(image, trained, out=tmp_path / "b.zarr", tile_size=128, precision="float32")
    np.testing.assert_allclose(np.asarray(made.array), np.asarray(whole.array), rtol=1e-4, atol=1e-3)
    assert any("memory was short" in n for n in made.metadata["napari_recon"]["notes"])


@pytest.mark.skipif(sys.platform == "win32", reason="there is no resource module")
def test_memory_does_not_grow_with_the_image(tmp_path, trained):
    """Planes of an image of 2 GB that exists nowhere, in a process that may hold 0.5 GB more than at its start."""
    model = trained.save(tmp_path / "model")
    code = f"""
        import resource, dask.array, numpy as np
        from napari_recon import api
        from napari_recon.errors import Cancelled
        from napari_recon.progress import CancelToken, Reporter
        rng = np.random.default_rng(0)
        plane = rng.normal(100, 10, (1, 1024, 1024)).astype(np.float32)
        image = dask.array.concatenate([dask.array.from_array(plane, name=False)] * 500)
        model = api.load_model({str(model)!r})
        api.denoise(plane[0, :64, :64], model)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        token = CancelToken()
        def watch(event):
            if event.done >= 20:
                token.cancel()
        try:
            options = dict(tile_size=256, precision="float32", cancel=token, on_progress=watch)
            api.denoise(image, model, axes="TYX", out={str(tmp_path / "a.ome.zarr")!r}, **options)
        except Cancelled:
            pass
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.5


def test_noise_of_what_is_not_in_memory_is_measured_in_some_places_only(tmp_path):
    read = []

    def block(block_info=None):
        read.append(1)
        return np.random.default_rng(len(read)).normal(100, 10, (1, 512, 512)).astype(np.float32)

    image = dask.array.map_blocks(
        block, chunks=((1,) * 2000, (512,), (512,)), meta=np.empty((0, 0, 0), np.float32), dtype=np.float32
    )
    with pytest.raises(Cancelled):
        api.denoise(image, axes="TYX", out=tmp_path / "a.zarr", **SMALL, **stop_after(1))
    assert len(read) < 300


@pytest.mark.parametrize("verb", ["denoise", "upscale"])
def test_the_commands_stream_into_a_store(tmp_path, image, verb, capsys):
    image = image.crop({"T": 0, "Z": 0})
    write_image(tmp_path / "in.ome.zarr", image)
    with pytest.raises(SystemExit) as done:
        cli.main([verb, str(tmp_path / "in.ome.zarr"), str(tmp_path / "out.ome.zarr"), "--tile-size", "32"])
    assert done.value.code == 0
    told = json.loads(capsys.readouterr().out)
    made = read_image(tmp_path / "out.ome.zarr")
    assert told["shape"] == list(made.shape)
    expected = getattr(api, verb)(image, tile_size=32)
    np.testing.assert_array_equal(np.asarray(made.array), expected.array)


def test_a_store_is_needed(tmp_path, image, trained):
    with pytest.raises(ReconError, match="Tiles cannot go"):
        api.denoise(image, trained, out=tmp_path / "a.tif")
    with pytest.raises(ReconError, match="scheduler needs a store"):
        api.denoise(image, trained, scheduler="tcp://127.0.0.1:1")
    with pytest.raises(ReconError, match="cannot be adapted"):
        api.denoise(image, trained, out=tmp_path / "a.zarr", adapt=True)


@pytest.mark.parametrize("changed", [lambda image: image, lambda image: image.crop({"T": 0}).array + 1])
def test_a_store_is_not_filled_with_what_is_made_of_itself(tmp_path, image, trained, monkeypatch, changed):
    write_image(tmp_path / "noisy.ome.zarr", image)
    monkeypatch.chdir(tmp_path)
    noisy, out = changed(read_image("noisy.ome.zarr")), tmp_path / "noisy.ome.zarr"
    with pytest.raises(ReconError, match="is the input image itself"):
        api.denoise(noisy, trained, out=out)
    with pytest.raises(ReconError, match="is the input image itself"):
        api.upscale(noisy, out=out)
    with pytest.raises(ReconError, match="is the input image itself"):
        api.upscale(noisy, out="large.ome.zarr", trust_out=out)
    np.testing.assert_array_equal(np.asarray(read_image(out).array), image.array)
    assert [p.name for p in tmp_path.iterdir()] == ["noisy.ome.zarr"]


@pytest.mark.parametrize("address", ["s3://bucket/clean.ome.zarr", "https://host/clean.ome.zarr", "file:///a.zarr"])
def test_an_address_is_not_taken_for_a_folder(tmp_path, image, trained, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    for use in (
        lambda: api.denoise(image, trained, out=address),
        lambda: api.upscale(image, out=address),
        lambda: write_image(address, image),
        lambda: read_image(address),
        lambda: trained.save(address),
        lambda: batch("denoise", tmp_path, address, trained),
    ):
        with pytest.raises(ReconError, match="is an address"):
            use()
    assert not list(tmp_path.iterdir())


def test_an_adapted_model_goes_on_with_the_weights_it_had(tmp_path, image, computed, monkeypatch):
    monkeypatch.setattr(adapting, "MINUTES", 0.01)
    out, other = tmp_path / "clean.ome.zarr", tmp_path / "other.safetensors"
    with pytest.raises(Cancelled):
        api.denoise(image, adapt=True, out=out, **SMALL, **stop_after(20))
    kept = api.load_model(adapting.weights_beside(out))
    computed.clear()
    shifted = api.load_model("universal")
    shifted.weights = {name: 1.01 * value for name, value in shifted.weights.items()}
    with pytest.raises(ReconError, match="adapted from"):
        api.denoise(image, shifted.save(other), adapt=True, out=out, **SMALL)
    events = []
    lazy = api.denoise(image, adapt=True, out=out, on_progress=events.append, **SMALL)
    assert 0 < len(computed) <= JOBS - 20
    assert "train" not in {e.phase for e in events}
    assert lazy.metadata["napari_recon"]["adapt"] is True
    assert lazy.metadata["napari_recon"]["model_hash"] == kept.hash
    np.testing.assert_array_equal(np.asarray(lazy.array), api.denoise(image, kept, **SMALL).array)
    assert {p.name for p in tmp_path.iterdir()} == {out.name, other.name}


def test_of_a_large_image_a_part_is_adapted_to():
    pixels = dask.array.random.default_rng(0).normal(100, 10, (300, 2, 3, 9000, 700), chunks=(1, 1, 1, 500, 700))
    image = Image(pixels.astype(np.float32), "TZCYX", scale=(2, 1, 1, 1, 1))
    part = adapting.excerpt(image)
    assert isinstance(part.array, np.ndarray)
    assert part.shape == (4, 2, 3, 1024, 700)
    assert part.scale[0] == 150
    np.testing.assert_array_equal(part.array[1, 1], np.asarray(image.array[75, 1, :, 3988:5012]))
