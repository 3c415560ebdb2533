"""Folders: every image once, errors collected, the tree mirrored."""

import json
import shutil
import signal

import numpy as np
import pytest

from napari_recon import api, cli
from napari_recon.batch import batch
from napari_recon.checkpoint import TrainedModel
from napari_recon.errors import Cancelled
from napari_recon.image import Image
from napari_recon.io import read_image, write_image
from napari_recon.progress import CancelToken


@pytest.fixture
def folder(phantom, trained, tmp_path, monkeypatch):
    """in/a.tif, in/day 1/b.ome.zarr, in/day 1/c.png, in/notes.txt and model.safetensors."""
    (tmp_path / "in" / "day 1").mkdir(parents=True)
    image = Image(phantom[0].clip(0, 255).astype(np.uint8), "YX", scale=(0.1, 0.1), units=("um", "um"))
    for name in ("a.tif", "day 1/b.ome.zarr", "day 1/c.png"):
        write_image(tmp_path / "in" / name, image)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    trained.save(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            cli.main(list(arguments))
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return done.value.code, json.loads(out) if out else None, err

    return run


DENOISE = ("batch", "denoise", "in", "out", "--model", "model.safetensors")


def test_a_tree_is_mirrored_and_what_is_done_is_skipped(folder, command):
    code, told, _ = command(*DENOISE)
    assert (code, told["done"], told["failed"]) == (0, 3, 0)
    made = sorted(str(p.relative_to(folder / "out")) for p in (folder / "out").rglob("*.*") if ".zarr/" not in str(p))
    assert [m for m in made if "zarr.json" not in m] == ["a.tif", "day 1/b.ome.zarr", "day 1/c.tif"]
    expected = api.denoise(api.read_image("in/a.tif"), "model.safetensors")
    for name in ("a.tif", "day 1/b.ome.zarr", "day 1/c.tif"):
        read = read_image(folder / "out" / name)
        np.testing.assert_allclose(np.asarray(read.array), expected.array, rtol=1e-5, atol=1e-3)
        assert read.units == ("um", "um")
    before = (folder / "out" / "a.tif").stat().st_mtime_ns
    code, told, _ = command(*DENOISE)
    assert (code, told["done"], told["skipped"]) == (0, 0, 3)
    assert (folder / "out" / "a.tif").stat().st_mtime_ns == before


def test_one_that_fails_does_not_stop_the_others_and_is_told_at_the_end(folder, command):
    (folder / "in" / "b.tif").write_bytes(b"not an image")
    code, told, err = command(*DENOISE, "--report", "out/report.json")
    assert (code, told["done"], told["failed"]) == (1, 3, 1)
    assert "1 of 4 images failed" in err
    assert "The others are done" in err
    assert "b.tif" in err
    report = json.loads((folder / "out" / "report.json").read_text())
    (failed,) = [f for f in report["files"] if f["status"] == "failed"]
    assert failed["input"].endswith("b.tif")
    assert failed["error"]
    assert not (folder / "out" / "b.tif").exists()


def test_a_damaged_chunk_does_not_stop_the_others(folder, command):
    chunk = next(p for p in (folder / "in" / "day 1" / "b.ome.zarr" / "0" / "c").rglob("*") if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:5])
    code, told, err = command(*DENOISE)
    assert (code, told["done"], told["failed"]) == (1, 2, 1)
    assert "A chunk of" in err


def test_an_image_that_vanishes_does_not_stop_the_others(folder, command):
    assert command(*DENOISE)[0] == 0
    source = folder / "in" / "a.tif"
    source.unlink()
    source.symlink_to("moved.tif")
    code, told, err = command(*DENOISE)
    assert (code, told["skipped"], told["failed"]) == (1, 2, 1)
    assert "a.tif" in err


def test_where_all_fail_none_is_said_to_be_done(folder, command):
    (folder / "in" / "b.tif").write_bytes(b"not an image")
    code, told, err = command(*DENOISE, "--pattern", "b.tif")
    assert (code, told["done"], told["failed"]) == (1, 0, 1)
    assert "others" not in err


def test_hidden_files_are_no_images(folder, command):
    (folder / "in" / "._a.tif").write_bytes(b"what macOS notes of a.tif")
    (folder / "in" / ".Trash").mkdir()
    shutil.copy(folder / "in" / "a.tif", folder / "in" / ".Trash")
    code, told, _ = command(*DENOISE)
    assert (code, told["done"], told["failed"]) == (0, 3, 0)


def test_patterns_formats_and_options_are_passed_on(folder, command):
    code, told, _ = command(
        *DENOISE, "--pattern", "*.tif", "--suffix", ".ome.zarr", "--strength", "0.5", "--keep-dtype"
    )
    assert (code, told["done"]) == (0, 1)
    made = read_image(folder / "out" / "a.ome.zarr")
    expected = api.denoise(api.read_image("in/a.tif"), "model.safetensors", strength=0.5, keep_dtype=True)
    np.testing.assert_array_equal(np.asarray(made.array), expected.array)
    assert made.metadata["napari_recon"]["strength"] == 0.5


def test_what_the_results_cannot_hold_is_told_before_the_work(folder, command, monkeypatch):
    write_image(folder / "in" / "stack.tif", np.zeros((2, 3, 2, 40, 40), np.uint8), axes="TZCYX")
    monkeypatch.setattr(api, "denoise", None)
    for more, problem in (["--keep-dtype"], "PNG holds one plane"), ([], "PNG cannot hold pixels of type float32"):
        pattern = "stack.tif" if more else "a.tif"
        code, _, err = command(*DENOISE, "--pattern", pattern, "--suffix", ".png", *more)
        assert code == 1
        assert problem in err
    assert not (folder / "out").exists()


def test_a_results_folder_inside_is_not_an_input(folder):
    first = batch("denoise", "in", "in/out", "model.safetensors")
    assert len(batch("denoise", "in", "in/out", "model.safetensors")) == len(first) == 3


def test_mistakes_are_told_at_once(folder, command):
    write_image(folder / "in" / "day 1" / "c.tif", np.ones((8, 8), np.float32))
    for arguments, problem in {
        ("batch", "denoise", "none", "out"): "no folder",
        ("batch", "denoise", "in", "out", "--pattern", "*.lif"): "No image",
        ("batch", "denoise", "in/day 1", "out", "--pattern", "../*.tif"): "leads out of the folder",
        ("batch", "denoise", "in", "out", "--report", "in/a.tif"): "cannot be the report",
        ("batch", "denoise", "in", "in"): "lies in the folder for the results",
        ("batch", "denoise", "in", "out", "--suffix", ".docx"): "not the suffix",
        ("batch", "denoise", "in", "out", "--model", "none"): "none",
        ("batch", "denoise", "in", "out"): "would both become",
    }.items():
        code, _, err = command(*arguments)
        assert code == 1
        assert problem in err
    assert not (folder / "out").exists()
    assert read_image(folder / "in" / "a.tif").units == ("um", "um")


def test_a_stopped_batch_keeps_what_is_done(folder):
    token = CancelToken()

    def watch(event):
        if event.phase == "batch" and event.done == 1:
            token.cancel()

    with pytest.raises(Cancelled):
        batch("denoise", "in", "out", "model.safetensors", cancel=token, on_progress=watch)
    assert (folder / "out" / "a.tif").exists()
    assert {e.status for e in batch("denoise", "in", "out", "model.safetensors")} == {"skipped", "done"}


def test_a_batch_stopped_by_ctrl_c_tells_what_was_done(folder, command, monkeypatch):
    denoise, calls = api.denoise, []

    def second_is_interrupted(*args, **options):
        calls.append(options)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return denoise(*args, **options)

    monkeypatch.setattr(api, "denoise", second_is_interrupted)
    code, told, err = command(*DENOISE, "--report", "report.json")
    assert code == 130
    assert err.splitlines()[-1] == "napari-recon: Stopped after 1 images. Run it again to go on."
    assert (told["done"], told["failed"], told["stopped"]) == (1, 0, True)
    assert json.loads((folder / "report.json").read_text()) == told
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    code, told, _ = command(*DENOISE)
    assert (code, told["done"], told["skipped"], told["stopped"]) == (0, 2, 1, False)


def test_the_model_is_loaded_once(folder, monkeypatch):
    loaded = []
    load = TrainedModel.load
    monkeypatch.setattr(TrainedModel, "load", lambda path: loaded.append(path.name) or load(path))
    batch("denoise", "in", "out", "model.safetensors")
    assert loaded == ["model.safetensors"]
