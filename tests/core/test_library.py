"""The list of models: shipped ones first, then the newest; what is no model is left out without a word."""

import json
import os
import shutil
import struct

import pytest
import torch

from napari_recon import library
from napari_recon.checkpoint import KEY, TrainedModel
from napari_recon.data.normalization import Normalization
from napari_recon.errors import ReconError
from napari_recon.library import find_model, list_models, models_folder, read_description
from napari_recon.models import get_family


@pytest.fixture
def folder(home):
    """The folder of the user's models; empty."""
    path = models_folder()
    assert home in path.parents
    path.mkdir(parents=True)
    return path


@pytest.fixture
def save(folder):
    def save(name, age=0, **provenance):
        family = get_family("autoencoder")
        config = family.config(features=4, depth=1)
        weights, normalization = family.build(config).state_dict(), Normalization((0.0,), (1.0,))
        model = TrainedModel("autoencoder", config, weights, normalization, provenance, name)
        path = model.save(folder / name)
        os.utime(path, (path.stat().st_atime, 1_700_000_000 - age))
        return path

    return save


def _saved():
    return [info for info in list_models() if not info.shipped]


def _write(path, description):
    header = json.dumps({"__metadata__": {KEY: description}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def test_without_a_folder_there_are_no_saved_models():
    assert _saved() == []


def test_the_newest_model_comes_first_with_what_a_list_shows(save):
    save("old", age=900)
    path = save("new", created="2026-02-03T04:05:06")
    save("middle", age=300)
    found = _saved()
    assert [info.name for info in found] == ["new", "middle", "old"]
    assert (found[0].path, found[0].family, found[0].created) == (path, "autoencoder", "2026-02-03T04:05:06")
    assert found[1].created == ""


def test_shipped_models_come_before_saved_ones(save, tmp_path, monkeypatch):
    saved = save("own")
    shutil.copy(saved, tmp_path / "shipped.safetensors")
    monkeypatch.setattr(library, "SHIPPED", tmp_path)
    assert [(i.name, i.shipped) for i in list_models()] == [("shipped", True), ("own", False)]


def test_what_is_no_model_is_left_out(save, folder):
    save("good")
    (folder / "empty.safetensors").touch()
    (folder / "text.safetensors").write_text("not a model")
    (folder / "notes.txt").write_text("hello")
    (folder / "folder.safetensors").mkdir()
    (folder / "cut.safetensors").write_bytes((folder / "good.safetensors").read_bytes()[:50])
    (folder / "long.safetensors").write_bytes(b"\xff" * 100)
    for number, description in enumerate(["", "[]", "{}", "3", "{", "[" * 100_000, json.dumps({"family": None})]):
        _write(folder / f"wrong {number}.safetensors", description)
    header = json.dumps({"__metadata__": [1]}).encode()
    (folder / "list.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert [info.name for info in _saved()] == ["good"]


def test_odd_provenance_does_not_hide_the_other_models(save, folder):
    save("good", age=10)
    for number, provenance in enumerate([None, [], "text", {"created": None}]):
        _write(folder / f"odd {number}.safetensors", json.dumps({"family": "autoencoder", "provenance": provenance}))
    assert {info.name for info in _saved()} == {"good", "odd 0", "odd 1", "odd 2", "odd 3"}


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_to_a_model_that_is_gone_is_left_out(save, folder):
    save("good")
    (folder / "gone.safetensors").symlink_to(folder / "nowhere")
    assert [info.name for info in _saved()] == ["good"]


def test_models_are_found_by_name_and_by_file(save, tmp_path):
    path = save("my model")
    assert find_model("my model") == path
    assert find_model(path) == find_model(str(path)) == path
    elsewhere = shutil.copy(path, tmp_path / "copy.safetensors")
    assert find_model(elsewhere) == elsewhere


def test_an_unknown_name_lists_those_that_are_known(save):
    save("known one")
    for name in ("unknown", "missing.safetensors", ""):
        with pytest.raises(ReconError, match="There is no model") as caught:
            find_model(name)
        assert "known one" in caught.value.hint


def test_the_description_is_read_without_the_weights(save):
    path = save("big")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 100)  # the weights are cut, the description is whole
    assert read_description(path)["config"]["features"] == 4


def test_the_folder_follows_the_environment_or_the_system(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_RECON_HOME", str(tmp_path))
    assert models_folder() == tmp_path / "models"
    monkeypatch.delenv("NAPARI_RECON_HOME")
    assert models_folder().name == "models"
    assert models_folder().parent != tmp_path


def test_a_model_of_the_list_can_be_loaded(save):
    save("usable")
    model = TrainedModel.load(_saved()[0].path)
    assert model.name == "usable"
    assert model.network()(torch.zeros(1, 1, 8, 8)).shape == (1, 1, 8, 8)
