"""OME-Zarr: exact round trips in both versions, foreign and hostile stores, lazy reading."""

import json
import os
import pickle

import dask.array
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numcodecs import Pickle

from napari_recon.errors import ReconError
from napari_recon.image import Image
from napari_recon.io import read_image, write_image
from napari_recon.io.ome_zarr import read_levels

TYPES = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]
VERSIONS = ["0.4", "0.5"]


def assert_same(read, written):
    assert (read.axes, read.dtype) == (written.axes, written.dtype)
    np.testing.assert_array_equal(np.asarray(read.array), written.array)
    assert (read.scale, read.translate, read.units) == (written.scale, written.translate, written.units)
    assert read.channel_names == written.channel_names


@st.composite
def images(draw):
    """Images of any axes in any order, any type, with any physics."""
    axes = "".join(draw(st.permutations([*"YX", *sorted(draw(st.sets(st.sampled_from("TZCS"))))])))
    shape = tuple(draw(st.sampled_from([1, 2, 3])) for _ in axes)
    dtype = np.dtype(draw(st.sampled_from(TYPES)))
    top = 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max // 2)
    scale = st.floats(1e-6, 1e6) | st.floats(-10, -0.1)
    names = draw(st.booleans()) and "C" in axes
    return Image(
        (np.random.default_rng(draw(st.integers(0, 99))).random(shape) * top).astype(dtype),
        axes,
        scale=tuple(draw(scale) for _ in axes),
        translate=tuple(draw(st.floats(-1e6, 1e6)) for _ in axes),
        units=tuple(draw(st.sampled_from([None, "um", "nm", "s", "min", "parsec", "Ω\n="])) for _ in axes),
        channel_names=tuple(f"µ<{i}>\x07" for i in range(shape[axes.index("C")])) if names else (),
    )


@pytest.mark.parametrize("version", VERSIONS)
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(image=images())
def test_a_store_gives_back_exactly_what_was_written(tmp_path, version, image):
    path = tmp_path / "cells.ome.zarr"
    write_image(path, image, version=version)
    read = read_image(path)
    assert_same(read, image)
    assert read.name == "cells"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("dtype", [np.longlong, np.ulonglong, np.intc])
def test_integers_of_any_name_in_c_are_kept(tmp_path, dtype):
    pixels = np.arange(12, dtype=dtype).reshape(3, 4)
    write_image(tmp_path / "a.zarr", pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "a.zarr").array, pixels)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_other_programs_read_is_right(tmp_path, version):
    """The fields of the format, as its specification has them."""
    image = Image(
        np.arange(2 * 3 * 1100 * 4, dtype=np.uint16).reshape(2, 3, 1100, 4),
        "CZYX",
        scale=(1, 2, 0.5, 0.25),
        translate=(0, 10, 20, 30),
        units=(None, "um", "um", "nm"),
        channel_names=("DAPI", "actin"),
    )
    write_image(tmp_path / "a.zarr", image, version=version)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    content = group.attrs.asdict()["ome"] if version == "0.5" else group.attrs.asdict()
    multiscale = content["multiscales"][0]
    assert (content["version"] if version == "0.5" else multiscale["version"]) == version
    assert multiscale["axes"] == [
        {"name": "c", "type": "channel"},
        {"name": "z", "type": "space", "unit": "micrometer"},
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space", "unit": "nanometer"},
    ]
    steps = [d["coordinateTransformations"] for d in multiscale["datasets"]]
    assert [s[0] for s in steps] == [
        {"type": "scale", "scale": [1, 2, 0.5, 0.25]},
        {"type": "scale", "scale": [1, 2, 1.0, 0.5]},
        {"type": "scale", "scale": [1, 2, 2.0, 1.0]},
    ]
    assert steps[1][1] == {"type": "translation", "translation": [0, 10, 20.25, 30.125]}
    assert [c["label"] for c in content["omero"]["channels"]] == ["DAPI", "actin"]
    assert [group[d["path"]].shape for d in multiscale["datasets"]] == [(2, 3, 1100, 4), (2, 3, 550, 2), (2, 3, 275, 1)]
    assert group["0"].chunks == (1, 1, 1024, 4)
    if version == "0.5":
        assert group["0"].metadata.dimension_names == ("c", "z", "y", "x")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_reference_reader_reads_it(tmp_path, version):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    array = np.random.default_rng(0).random((2, 1100, 600)).astype(np.float32)
    write_image(tmp_path / "a.ome.zarr", Image(array, "TYX", scale=(5, 0.1, 0.1)), version=version)
    node = next(iter(Reader(parse_url(str(tmp_path / "a.ome.zarr")))()))
    np.testing.assert_array_equal(np.asarray(node.data[0]), array)
    assert len(node.data) == 3
    assert node.metadata["coordinateTransformations"][0][0]["scale"] == [5, 0.1, 0.1]


@pytest.mark.parametrize("dtype", TYPES)
def test_a_coarser_level_is_the_mean_of_four_pixels_and_lies_on_them(tmp_path, dtype):
    top = 1 if np.dtype(dtype).kind == "f" else min(int(np.iinfo(dtype).max), 60000)
    array = (np.random.default_rng(0).random((2, 1051, 600)) * top).astype(dtype)
    write_image(tmp_path / "a.ome.zarr", Image(array, "ZYX", scale=(1, 0.5, 0.5), translate=(0, 3, 4)))
    _, second, third = read_levels(tmp_path / "a.ome.zarr")
    assert second.shape == (2, 525, 300)
    assert third.shape == (2, 262, 150)
    assert (second.scale, second.translate) == ((1, 1, 1), (0, 3.25, 4.25))
    if np.dtype(dtype).itemsize < 8:
        mean = array[:, :1050].astype(np.float64).reshape(2, 525, 2, 300, 2).mean(axis=(2, 4))
        tolerance = 0.51 if top > 1 else 1e-3
        np.testing.assert_allclose(np.asarray(second.array, np.float64), mean, atol=tolerance)


def test_pixels_stay_on_disk_until_they_are_needed(tmp_path):
    """An image of 16 TB, of which nothing was ever written."""
    store = tmp_path / "huge.ome.zarr"
    write_image(store, np.zeros((1, 64, 64), np.float32), "TYX")
    text = (store / "0" / "zarr.json").read_text()
    meta = json.loads(text)
    meta["shape"], meta["chunk_grid"]["configuration"]["chunk_shape"] = [10**6, 2000, 2000], [1, 1000, 1000]
    (store / "0" / "zarr.json").write_text(json.dumps(meta))
    image = read_image(store)
    assert image.shape == (10**6, 2000, 2000)
    assert float(image.array[5, 3, 7].compute()) == 0


def test_dask_arrays_are_written_chunk_by_chunk(tmp_path):
    def plane(block_info=None):
        return np.full((1, 600, 700), block_info[None]["chunk-location"][0], np.uint16)

    array = dask.array.map_blocks(plane, chunks=((1,) * 6, (600,), (700,)), dtype=np.uint16)
    write_image(tmp_path / "a.zarr", array, "ZYX")
    read = read_image(tmp_path / "a.zarr")
    assert [int(p.max()) for p in np.asarray(read.array)] == [0, 1, 2, 3, 4, 5]
    # Onto the very store it is read from.
    write_image(tmp_path / "a.zarr", read.with_array(read.array + 1))
    assert [int(p.max()) for p in np.asarray(read_image(tmp_path / "a.zarr").array)] == [1, 2, 3, 4, 5, 6]


def test_what_another_program_wrote_over_the_metadata_counts(tmp_path):
    path = tmp_path / "a.ome.zarr"
    write_image(path, Image(np.ones((3, 4, 5), np.uint8), "YXS", scale=(2, 2, 1)))
    text = json.loads((path / "zarr.json").read_text())
    text["attributes"]["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"] = [1, 7, 7]
    (path / "zarr.json").write_text(json.dumps(text))
    read = read_image(path)
    assert (read.axes, read.shape, read.scale) == ("TYX", (5, 3, 4), (1, 7, 7))


def test_a_bare_zarr_array_and_a_collection_are_read(tmp_path):
    zarr.create_array(tmp_path / "bare.zarr", data=np.arange(12, dtype=np.int16).reshape(3, 4))
    assert read_image(tmp_path / "bare.zarr").axes == "YX"
    zarr.open_group(tmp_path / "many.zarr", mode="w", zarr_format=2, attributes={"bioformats2raw.layout": 3})
    write_image(tmp_path / "one.zarr", np.ones((3, 4), np.float32), version="0.4")
    (tmp_path / "one.zarr").rename(tmp_path / "many.zarr" / "0")
    assert read_image(tmp_path / "many.zarr").shape == (3, 4)
    assert read_image(tmp_path / "many.zarr" / "0").name == "0"


def _edit(change):
    def edit(path):
        content = json.loads((path / ".zattrs").read_text())
        del content["napari_recon"]
        change(content["multiscales"][0])
        (path / ".zattrs").write_text(json.dumps(content))

    return edit


MALFORMED = {
    "no datasets": _edit(lambda m: m.pop("datasets")),
    "no levels": _edit(lambda m: m.update(datasets=[])),
    "no axes": _edit(lambda m: m.pop("axes")),
    "axes of another number": _edit(lambda m: m["axes"].pop()),
    "an unknown axis": _edit(lambda m: m["axes"][0].update(name="q")),
    "a scale that is no number": _edit(lambda m: m["datasets"][0]["coordinateTransformations"][0].update(scale="ab")),
    "a scale of another number": _edit(lambda m: m["datasets"][0]["coordinateTransformations"][0].update(scale=[1])),
    "an unknown transformation": _edit(lambda m: m["datasets"][0]["coordinateTransformations"][0].update(type="warp")),
    "another version": _edit(lambda m: m.update(version="0.9")),
    "pixels elsewhere": _edit(lambda m: m["datasets"][0].update(path="../other.ome.zarr/0")),
    "pixels at an absolute path": _edit(lambda m: m["datasets"][0].update(path="/tmp/0")),
    "missing pixels": _edit(lambda m: m["datasets"][0].update(path="7")),
    "no JSON": lambda path: (path / ".zattrs").write_text("{"),
    "no image": lambda path: (path / ".zattrs").write_text("{}"),
    "a plate": lambda path: (path / ".zattrs").write_text('{"plate": {}}'),
    "negative sizes": lambda path: _array_field(path, shape=[-4, 4]),
    "endless chunks": lambda path: _array_field(path, shape=[10**12, 10**12]),
    "one giant chunk": lambda path: _array_field(path, shape=[10**9, 10**9], chunks=[10**9, 10**9]),
    "an unknown codec": lambda path: _array_field(path, filters=[{"id": "none of these"}]),
    "objects": lambda path: _array_field(path, dtype="|O", filters=[{"id": "pickle"}]),
    "complex numbers": lambda path: _array_field(path, dtype="<c8"),
}


def _array_field(path, **fields):
    file = path / "0" / ".zarray"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_store_is_refused_with_a_next_step(tmp_path, what):
    path = tmp_path / "a.ome.zarr"
    write_image(path, np.ones((4, 4), np.float32), version="0.4")
    MALFORMED[what](path)
    with pytest.raises(ReconError) as error:
        read_image(path)
    assert error.value.hint


class _Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_from_a_store_is_executed(tmp_path):
    """A chunk that is a pickle, declared as numbers."""
    path = tmp_path / "a.ome.zarr"
    write_image(path, np.ones((4, 4), np.float32), version="0.4")
    _array_field(path, filters=[Pickle().get_config()], compressor=None)
    (path / "0" / "0" / "0").write_bytes(pickle.dumps(_Bomb(str(tmp_path / "ran"))))
    with pytest.raises(ReconError, match="pickle"):
        np.asarray(read_image(path).array)
    assert not (tmp_path / "ran").exists()


def test_no_foreign_folder_is_replaced(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    write_image(tmp_path / "a.zarr", np.ones((4, 4)))  # empty: nothing is lost
    assert read_image(tmp_path / "a.zarr").shape == (4, 4)
    (tmp_path / "b.zarr").mkdir()
    (tmp_path / "b.zarr" / "thesis.txt").write_text("all of it")
    (tmp_path / "c.zarr").write_text("a file")
    for name in ("b.zarr", "c.zarr"):
        with pytest.raises(ReconError, match="not a Zarr folder"):
            write_image(tmp_path / name, np.ones((4, 4)))
    assert (tmp_path / "b.zarr" / "thesis.txt").read_text() == "all of it"


def test_a_write_that_fails_leaves_the_old_store_alone(tmp_path):
    write_image(tmp_path / "a.zarr", np.ones((4, 4), np.uint8))

    def fail(block):
        raise ValueError("on purpose")

    broken = dask.array.zeros((2, 4, 4), chunks=(1, 4, 4)).map_blocks(fail, dtype=float)
    with pytest.raises(ValueError, match="on purpose"):
        write_image(tmp_path / "a.zarr", broken, "ZYX")
    assert_same(read_image(tmp_path / "a.zarr"), Image(np.ones((4, 4), np.uint8), "YX"))
    assert os.listdir(tmp_path) == ["a.zarr"]


def test_versions_are_of_ome_zarr_alone(tmp_path):
    with pytest.raises(ReconError, match=r"version 0\.5"):
        write_image(tmp_path / "a.tif", np.ones((4, 4)), version="0.5")
    with pytest.raises(ReconError, match=r"version 0\.1"):
        write_image(tmp_path / "a.zarr", np.ones((4, 4)), version="0.1")


def test_a_store_without_its_pixels_is_told_from_one_that_is_not_there(tmp_path):
    write_image(tmp_path / "a.ome.zarr", np.zeros((8, 8), np.uint8))
    (tmp_path / "a.ome.zarr" / "0").rename(tmp_path / "moved")
    with pytest.raises(ReconError, match="A part of"):
        read_image(tmp_path / "a.ome.zarr")
    with pytest.raises(ReconError, match="no file"):
        read_image(tmp_path / "b.ome.zarr")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("altered", ["me", [1], {"made": "by me"}, {"made": [1], "image": 5}])
def test_an_altered_record_of_how_it_was_made_is_left_out_with_a_note(tmp_path, version, altered, caplog):
    image = Image(np.eye(600, dtype=np.uint8), "YX", scale=(2, 3), metadata={"napari_recon": {"verb": "denoise"}})
    write_image(tmp_path / "a.zarr", image, version=version)
    assert read_image(tmp_path / "a.zarr").metadata == image.metadata
    zarr.open_group(tmp_path / "a.zarr", mode="r+").attrs["napari_recon"] = altered
    read = read_image(tmp_path / "a.zarr")
    assert_same(read, image)
    assert read.metadata == {}
    assert caplog.text.count("left out") == 1
