"""Model files: what was saved comes back, damage is told, no code runs, and a crash leaves the old file."""

import json
import math
import os
import pickle
import struct
from contextlib import suppress
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from napari_recon import checkpoint
from napari_recon.checkpoint import FORMAT, KEY, TrainedModel
from napari_recon.data.noise_estimate import NoiseEstimate
from napari_recon.data.normalization import Normalization
from napari_recon.errors import ReconError
from napari_recon.models import MODELS, get_family


def make_model(normalization=Normalization((5.0,), (2.0,)), **options):  # noqa: B008 (frozen)
    family = get_family("autoencoder")
    config = family.config(**{"features": 4, "depth": 1, **options})
    torch.manual_seed(0)
    return TrainedModel(
        "autoencoder",
        config,
        family.build(config).state_dict(),
        normalization,
        provenance={"seed": 3, "created": "2026-01-02T03:04:05", "losses": [[1, 0.5]]},
        name="µm-Test 蛋白",
    )


@pytest.fixture
def path(tmp_path):
    """A saved model."""
    return make_model().save(tmp_path / "model.safetensors")


def rewrite(path, change):
    """Save the same weights with a changed description."""
    model = TrainedModel.load(path)
    values = change(model.describe())
    save_file(model.weights, path, metadata={KEY: values if isinstance(values, str) else json.dumps(values)})


@pytest.mark.parametrize(
    ("options", "normalization"),
    [
        ({}, Normalization((5.0,), (2.0,))),
        ({"dimensions": 3, "depth": 2}, Normalization((1e-9,), (1e9,), (NoiseEstimate(0.1, -3.0),))),
        ({"channels": 2, "top_skip": True}, Normalization((1.0, 2.0), (3.0, 4.0))),
        ({"network": "bottleneck", "image_size": 16}, Normalization((0.0,), (1.0,))),
        ({"network": "universal"}, None),
    ],
)
def test_a_model_comes_back_as_it_was_saved(tmp_path, options, normalization):
    model = make_model(normalization, **options)
    back = TrainedModel.load(model.save(tmp_path / "model.safetensors"))
    assert (back.family, back.config, back.normalization) == (model.family, model.config, model.normalization)
    assert (back.provenance, back.name, back.spec) == (model.provenance, model.name, model.spec)
    assert back.hash == model.hash
    side = 2 * model.spec.size_multiple
    x = torch.randn(1, model.spec.channels, *(side,) * len(model.spec.axes))
    with torch.inference_mode():
        assert torch.equal(back.network()(x), model.network()(x))


def test_a_model_is_shown_without_its_numbers(path):
    assert "autoencoder" in repr(TrainedModel.load(path))
    assert len(repr(TrainedModel.load(path))) < 5000


def test_saving_does_not_change_the_model_and_the_suffix_is_added(tmp_path):
    model = make_model()
    before = model.hash
    assert model.save(tmp_path / "run.v2").name == "run.v2.safetensors"
    assert model.save(tmp_path / "new" / "folder" / "a.safetensors").is_file()
    assert model.hash == before


def test_half_precision_halves_the_file_and_hardly_changes_the_answer(tmp_path):
    model = make_model(features=16)
    full, half = model.save(tmp_path / "full"), model.save(tmp_path / "half", half=True)
    assert half.stat().st_size < 0.65 * full.stat().st_size
    x = torch.randn(1, 1, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(
            TrainedModel.load(half).network()(x), model.network()(x), rtol=1e-2, atol=1e-4
        )  # fmt: skip
    assert all(v.dtype == torch.float32 for v in model.weights.values())


def test_another_program_can_read_the_description(path):
    header = path.read_bytes()
    (length,) = struct.unpack("<Q", header[:8])
    description = json.loads(json.loads(header[8 : 8 + length])["__metadata__"][KEY])
    assert description["format"] == FORMAT
    assert description["family"] == "autoencoder"
    assert description["config"]["features"] == 4
    assert description["normalization"]["mean"] == [5.0]


def test_networks_are_ready_to_use_and_weights_stay_apart_from_them(path):
    model = TrainedModel.load(path)
    network = model.network()
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    assert model.network() is network
    before = model.hash
    network.tail.weight.fill_(7)
    assert model.hash == before


@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.3, 0.9, 0.999])
def test_a_file_cut_short_anywhere_is_told_with_a_next_step(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ReconError, match=path.name) as caught:
        TrainedModel.load(path)
    assert caught.value.hint


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_that_changed_give_an_error_or_a_model_but_never_a_crash(tmp_path, data):
    path = make_model().save(tmp_path / "model.safetensors")
    content = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, 8 + length - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with suppress(ReconError):
        TrainedModel.load(path).network()


@pytest.mark.parametrize(
    "content",
    [b"", b"II*\0" + bytes(100), b"\x80\x04\x95" + bytes(50), struct.pack("<Q", 2) + b"{}", bytes(1000), b"\xff" * 99],
    ids=["empty", "tiff", "pickle", "no tensors", "zeros", "ones"],
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    with pytest.raises(ReconError, match="other") as caught:
        TrainedModel.load(path)
    assert caught.value.hint


def test_weights_of_another_program_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(3)}, path, metadata={"format": "pt"})
    with pytest.raises(ReconError, match="not a model of napari-recon"):
        TrainedModel.load(path)


def test_a_missing_file_and_a_folder_are_told(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(ReconError) as caught:
            TrainedModel.load(path)
        assert caught.value.hint


def test_a_pickle_is_never_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    path = tmp_path / "model.safetensors"
    for write in (lambda: path.write_bytes(pickle.dumps(Bomb())), lambda: torch.save({"weights": Bomb()}, path)):
        write()
        with pytest.raises(ReconError):
            TrainedModel.load(path)
    assert not (tmp_path / "exploded").exists()


def test_a_file_of_a_newer_version_says_update(path):
    rewrite(path, lambda v: {**v, "format": FORMAT + 1, "something": "new", "config": {"unknown": 1}})
    with pytest.raises(ReconError, match="newer") as caught:
        TrainedModel.load(path)
    assert "Update" in caught.value.hint


@pytest.mark.parametrize(
    "change",
    [
        lambda v: {**v, "family": "perceptron"},
        lambda v: {**v, "config": {**v["config"], "depth": 99}},
        lambda v: {**v, "config": {**v["config"], "depth": "two"}},
        lambda v: {**v, "config": {**v["config"], "speed": 1}},
        lambda v: {**v, "config": []},
        lambda v: {**v, "config": None},
        lambda v: {**v, "normalization": {"mean": [1]}},
        lambda v: {**v, "normalization": {"mean": ["x"], "std": [1], "noise": []}},
        lambda v: {**v, "normalization": {"mean": [1], "std": [0], "noise": []}},
        lambda v: {**v, "normalization": {"mean": [1], "std": [1], "noise": [{"gain": 1}]}},
        lambda v: {**v, "normalization": {"mean": [1], "std": [1], "noise": 3}},
        lambda v: {**v, "normalization": None},
        lambda v: {**v, "normalization": {}},
        lambda v: {**v, "normalization": {"mean": [1], "std": [1], "noise": [asdict(NoiseEstimate(math.inf, 1.0))]}},
        lambda v: {**v, "format": "one"},
        lambda v: {**v, "format": float("inf")},
        lambda v: {k: x for k, x in v.items() if k != "family"},
        lambda v: {k: x for k, x in v.items() if k != "format"},
        lambda v: [v],
        lambda v: json.dumps(v)[:-5],
        lambda v: "",
        lambda v: "[" * 200_000,
    ],
)
def test_an_altered_description_is_told_with_a_next_step(path, change):
    rewrite(path, change)
    with pytest.raises(ReconError) as caught:
        TrainedModel.load(path)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("altered", "told"),
    [
        (3, "all of it"),
        ([["seed", 3]], "all of it"),
        ({"calibration": "x"}, "calibration"),
        ({"calibration": {"factor": "much"}}, "calibration"),
        ({"roughness": [1]}, "roughness"),
        ({"roughness": [None, 1]}, "roughness"),
        ({"psf": [[1, 2], [3]]}, "psf"),
        ({"data": [1]}, "data"),
    ],
)
def test_an_altered_provenance_is_left_out_with_a_note(path, altered, told, caplog):
    assert TrainedModel.load(path).provenance["seed"] == 3
    assert not caplog.text
    rewrite(path, lambda v: {**v, "provenance": {"seed": 4, **altered} if isinstance(altered, dict) else altered})
    kept = TrainedModel.load(path).provenance
    assert kept == ({"seed": 4} if isinstance(altered, dict) else {})
    assert f"left out: {told}." in caplog.text


@pytest.mark.parametrize("options", [{"depth": 2}, {"features": 8}, {"network": "bottleneck"}, {"dimensions": 3}])
def test_weights_that_do_not_fit_the_description_are_told(path, options):
    rewrite(path, lambda v: {**v, "config": {**v["config"], **options}})
    with pytest.raises(ReconError, match="do not fit") as caught:
        TrainedModel.load(path).network()
    assert caught.value.hint


def test_a_description_of_a_giant_network_does_not_fill_the_memory(path):
    rewrite(path, lambda v: {**v, "config": {**v["config"], "features": 256, "depth": 5, "dimensions": 3}})
    with pytest.raises(ReconError, match="do not fit"):  # 26 GB if it were built first
        TrainedModel.load(path).network()


def test_a_crash_in_the_middle_leaves_the_old_file_and_nothing_else(path, monkeypatch):
    before = path.read_bytes()

    def half_written(weights, target, metadata):
        target.write_bytes(before[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", half_written)
    with pytest.raises(KeyboardInterrupt):
        make_model(depth=2).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_full_disk_is_told_and_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()

    def full(weights, target, metadata):
        target.write_bytes(before[:100])
        raise checkpoint.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(ReconError, match="No space left") as caught:
        make_model().save(path)
    assert "space" in caught.value.hint
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file" / "model", tmp_path / "file" / "deeper" / "model"):
        with pytest.raises(ReconError) as caught:
            make_model().save(place)
        assert caught.value.hint


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission_is_told(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ReconError):
            make_model().save(tmp_path / "model")
    finally:
        tmp_path.chmod(0o700)


def test_provenance_that_is_no_json_is_a_bug_and_leaves_nothing(tmp_path):
    model = make_model()
    model.provenance["array"] = np.zeros(3)
    with pytest.raises(TypeError):
        model.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_loaded_model_does_not_hang_on_its_file(path):
    model = TrainedModel.load(path)
    expected = model.hash
    with path.open("r+b") as file:  # as a copy over a network drive does: in place
        file.truncate(10)
    assert model.hash == expected


def test_every_family_can_be_saved(tmp_path):
    for name, family in MODELS.items():
        config = family.config()
        model = TrainedModel(name, config, family.build(config).state_dict(), Normalization((0.0,), (1.0,)))
        assert TrainedModel.load(model.save(tmp_path / name)).spec == family.spec(config)
