"""OME-Zarr in the viewer: lazy, at its place, a layer for each channel."""

import numpy as np
import pytest

from napari_recon import api
from napari_recon.errors import ReconError
from napari_recon.image import Image
from napari_recon.io import write_image
from napari_recon.plugin._reader import get_reader, read


@pytest.fixture
def store(tmp_path):
    pixels = np.random.default_rng(0).normal(100, 20, (2, 3, 600, 40)).astype(np.float32)
    image = Image(
        pixels, "TCYX", (5, 1, 0.1, 0.2), (0, 0, 7, 8), ("s", None, "um", "um"), channel_names=("a", "b", "c")
    )
    write_image(tmp_path / "cells.ome.zarr", image)
    return tmp_path / "cells.ome.zarr"


def test_a_store_opens_lazily_where_it_belongs(make_napari_viewer, store):
    viewer = make_napari_viewer()
    viewer.open(str(store), plugin="napari-recon")
    assert [layer.name for layer in viewer.layers] == ["a", "b", "c"]
    layer = viewer.layers[1]
    assert layer.multiscale
    assert [level.shape for level in layer.data] == [(2, 600, 40), (2, 300, 20)]
    assert type(layer.data[0]).__module__.startswith("dask")
    np.testing.assert_allclose(layer.scale, (5, 0.1, 0.2))
    np.testing.assert_allclose(layer.translate, (0, 7, 8))
    assert [str(u) for u in layer.units] == ["second", "micrometer", "micrometer"]
    assert layer.axis_labels == ("time", "y", "x")


def test_a_streamed_result_opens_with_its_record(make_napari_viewer, tmp_path, phantom, trained):
    api.denoise(phantom[0], trained, out=tmp_path / "clean.ome.zarr")
    viewer = make_napari_viewer()
    (layer,) = viewer.open(str(tmp_path / "clean.ome.zarr"), plugin="napari-recon")
    assert layer.name == "clean"
    assert layer.metadata["napari_recon"]["verb"] == "denoise"


def test_only_stores_are_taken(tmp_path, store):
    (tmp_path / "folder.zarr").mkdir()
    assert get_reader(str(tmp_path / "folder.zarr")) is None
    assert get_reader(str(store)) is read
    assert get_reader([str(store)]) is None
    (store / "zarr.json").write_text("{")
    with pytest.raises(ReconError):
        read(str(store))
