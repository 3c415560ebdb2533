"""Image files: exact round trips, and foreign files as they are meant."""

import zlib
from pathlib import Path

import dask.array
import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_recon.axes import AXES
from napari_recon.errors import ReconError
from napari_recon.image import Image
from napari_recon.io import read_image, write_image

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
TYPES = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]
NOT_IN_OME = {"u8", "i8", "f2"}


def assert_same(read, written):
    assert read.axes == written.axes
    assert read.dtype == written.dtype
    np.testing.assert_array_equal(read.array, written.array)
    assert (read.scale, read.translate, read.units) == (written.scale, written.translate, written.units)
    assert read.channel_names == written.channel_names


@st.composite
def images(draw, types=TYPES, extra="TZCS"):
    """Images of any axes in any order, any type, with any physics."""
    axes = "".join(draw(st.permutations([*"YX", *sorted(draw(st.sets(st.sampled_from(extra))))])))
    shape = tuple(draw(st.sampled_from([1, 2, 3, 5])) for _ in axes)
    dtype = np.dtype(draw(st.sampled_from(types)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    top = 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max // 2)
    scale = st.floats(1e-6, 1e6) | st.floats(-10, -0.1)
    names = draw(st.booleans()) and "C" in axes
    return Image(
        (rng.random(shape) * top).astype(dtype),
        axes,
        scale=tuple(draw(scale) for _ in axes),
        translate=tuple(draw(st.floats(-1e6, 1e6)) for _ in axes),
        units=tuple(draw(st.sampled_from([None, "um", "nm", "s", "parsec", "Ω\n="])) for _ in axes),
        channel_names=tuple(f"µ<{i}>\x07" for i in range(shape[axes.index("C")])) if names else (),
        name=draw(st.sampled_from(["", "cells & <µ>\x00\n"])),
    )


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(image=images(), suffix=st.sampled_from([".tif", ".ome.tif", ".TIFF"]))
def test_tiff_gives_back_exactly_what_was_written(tmp_path, image, suffix):
    path = tmp_path / f"cells{suffix}"
    if suffix == ".ome.tif" and image.dtype.str[1:] in NOT_IN_OME:
        with pytest.raises(ReconError, match="OME-TIFF cannot hold"):
            write_image(path, image)
        return
    write_image(path, image)
    read = read_image(path)
    assert_same(read, image)
    assert read.name == "cells"


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(image=images(types=["u1", "u2"]), suffix=st.sampled_from([".png", ".jpg"]))
def test_png_and_jpeg_give_back_what_they_can_hold_and_refuse_the_rest(tmp_path, image, suffix):
    path = tmp_path / f"cells{suffix}"
    single = all(image.size(a) == 1 for a in "TZS")
    types = {1: ["uint8", "uint16"], 3: ["uint8"]} if suffix == ".png" else {1: ["uint8"], 3: ["uint8"]}
    if not single or image.dtype.name not in types.get(image.size("C"), []):
        with pytest.raises(ReconError, match=r"PNG|JPEG") as error:
            write_image(path, image)
        assert "TIFF" in error.value.hint
        return
    write_image(path, image)
    read = read_image(path)
    if suffix == ".jpg":  # lossy: everything but the pixels is exact
        assert read.shape == image.shape
        read = read.with_array(image.array)
    assert_same(read, image)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_float_pixels_are_not_squeezed_into_a_picture(tmp_path, suffix):
    with pytest.raises(ReconError, match="float32") as error:
        write_image(tmp_path / f"a{suffix}", np.zeros((4, 4), np.float32))
    assert "TIFF" in error.value.hint


def test_bool_and_complex_are_refused(tmp_path):
    for dtype in (bool, complex):
        with pytest.raises(ReconError):
            write_image(tmp_path / "a.tif", np.zeros((4, 4), dtype))


def test_lazy_pixels_are_written(tmp_path):
    array = dask.array.arange(60, chunks=7).reshape(3, 4, 5).astype("u2")
    write_image(tmp_path / "a.tif", array, axes="tyx")
    assert_same(read_image(tmp_path / "a.tif"), Image(np.asarray(array), "TYX"))


# What other programs read in our files, and we in theirs.


def volume(**fields):
    array = np.random.default_rng(0).integers(0, 60000, (2, 3, 4, 16, 20)).astype(np.uint16)
    return Image(array, "TCZYX", (5.0, 1.0, 2.0, 0.5, 0.25), (), ("s", None, "um", "um", "um"), **fields)


def test_imagej_finds_axes_scale_and_units_in_our_files(tmp_path):
    write_image(tmp_path / "a.tif", volume())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        fields = file.imagej_metadata
        assert file.series[0].axes == "TZCYX"
        assert (fields["frames"], fields["slices"], fields["channels"]) == (2, 4, 3)
        assert (fields["unit"], fields["spacing"], fields["finterval"]) == ("um", 2.0, 5.0)
        assert file.pages.first.resolution == (4.0, 2.0)


def test_ome_readers_find_axes_scale_units_and_channels_in_our_files(tmp_path):
    write_image(tmp_path / "a.ome.tif", volume(channel_names=("DAPI", "GFP", "µ")))
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        xml = file.ome_metadata
        assert file.series[0].axes == "TZCYX"
    for text in ('PhysicalSizeX="0.25"', 'PhysicalSizeZ="2.0"', 'PhysicalSizeXUnit="µm"', 'Name="GFP"'):
        assert text in xml
    assert 'TimeIncrement="5.0"' in xml


def test_colour_images_are_colour_images_in_other_programs(tmp_path):
    colour = np.random.default_rng(0).integers(0, 255, (8, 9, 3)).astype(np.uint8)
    for suffix in (".tif", ".ome.tif", ".png"):
        write_image(tmp_path / f"a{suffix}", Image(colour, "YXC"))
        with PIL.Image.open(tmp_path / f"a{suffix}") as picture:
            assert picture.mode == "RGB"
            np.testing.assert_array_equal(np.asarray(picture), colour)


def test_imagej_files_are_read_as_imagej_means_them(tmp_path):
    array = np.zeros((2, 3, 4, 16, 20), np.uint16)
    metadata = {"axes": "TZCYX", "unit": "\\u00B5m", "spacing": 2.0, "finterval": 5.0}
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, resolution=(4, 2), metadata=metadata)
    image = read_image(tmp_path / "a.tif")
    assert image.axes == "TZCYX"
    assert image.scale == (5.0, 2.0, 1.0, 0.5, 0.25)
    assert image.units == ("s", "um", None, "um", "um")


def test_ome_files_are_read_as_their_xml_means_them(tmp_path):
    metadata = {
        "axes": "CYX",
        "PhysicalSizeX": 65.0,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.1,
        "Channel": {"Name": ["DAPI", "GFP"]},
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((2, 16, 20), np.uint16), metadata=metadata)
    image = read_image(tmp_path / "a.ome.tif")
    assert (image.axes, image.scale, image.units) == ("CYX", (1.0, 0.1, 65.0), (None, "um", "nm"))
    assert image.channel_names == ("DAPI", "GFP")


@pytest.mark.parametrize(("unit", "scale"), [("CENTIMETER", 0.5), ("INCH", 1.0)])
def test_a_resolution_per_centimetre_counts_and_one_per_inch_does_not(tmp_path, unit, scale):
    array = np.zeros((8, 9), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array, resolution=(20000, 20000), resolutionunit=unit)
    assert read_image(tmp_path / "a.tif").scale == (scale, scale)


@pytest.mark.parametrize(
    ("shape", "options", "axes"),
    [
        ((8, 9), {}, "YX"),
        ((5, 8, 9), {}, "ZYX"),
        ((2, 5, 8, 9), {}, "TZYX"),
        ((8, 9, 3), {"photometric": "rgb"}, "YXC"),
        ((5, 8, 9, 3), {"photometric": "rgb"}, "ZYXC"),
        ((5, 8, 9), {"metadata": {"axes": "TYX"}}, "TYX"),
        ((5, 8, 9), {"metadata": {"axes": "QYX"}}, "ZYX"),
        ((5, 8, 9), {"metadata": None}, "ZYX"),
        ((5, 8, 9), {"metadata": {"axes": "CYX"}, "bigtiff": True, "byteorder": ">"}, "CYX"),
    ],
)
def test_tiffs_of_all_kinds_have_usable_axes(tmp_path, shape, options, axes):
    array = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array, **({"photometric": "minisblack"} | options))
    image = read_image(tmp_path / "a.tif")
    assert image.axes == axes
    np.testing.assert_array_equal(image.array, array)


def test_the_caller_knows_the_axes_better(tmp_path):
    write_image(tmp_path / "a.tif", Image(np.zeros((3, 8, 9)), "ZYX", (2, 0.5, 0.5), (), ("um",) * 3))
    image = read_image(tmp_path / "a.tif", axes="TYX")
    assert (image.axes, image.scale, image.units) == ("TYX", (1, 0.5, 0.5), (None, "um", "um"))
    with pytest.raises(ReconError, match="2 axes"):
        read_image(tmp_path / "a.tif", axes="YX")


def test_a_line_of_ours_that_no_longer_holds_is_passed_over(tmp_path):
    write_image(tmp_path / "a.tif", Image(np.zeros((3, 8, 9), np.uint8), "ZYX", (2.0, 0.5, 0.5)))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        line = file.imagej_metadata["napari_recon"]
    cropped = {"axes": "ZYX", "napari_recon": line}
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((2, 8, 9), np.uint8), imagej=True, metadata=cropped)
    damaged = {"axes": "ZYX", "napari_recon": line[:-9]}
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((3, 8, 9), np.uint8), imagej=True, metadata=damaged)
    assert read_image(tmp_path / "b.tif").shape == (2, 8, 9)
    assert read_image(tmp_path / "c.tif").shape == (3, 8, 9)


@pytest.mark.parametrize(
    ("file", "mode", "white", "axes"),
    [
        ("a.png", "1", 1, "YX"),
        ("a.tif", "1", 1, "YX"),
        ("a.png", "P", "white", "YXC"),
        ("a.png", "LA", (255, 255), "YX"),
        ("a.jpg", "CMYK", (0, 0, 0, 0), "YXC"),
    ],
)
def test_unusual_pictures_become_grey_or_colour_of_8_bits(tmp_path, file, mode, white, axes):
    PIL.Image.new(mode, (5, 4), white).save(tmp_path / file)
    image = read_image(tmp_path / file)
    assert (image.axes, image.dtype, image.shape[:2]) == (axes, np.uint8, (4, 5))
    assert (image.array == 255).all()


def test_images_too_large_for_classic_tiff_become_bigtiff(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_recon.io.tiff._CLASSIC_LIMIT", 1000)  # in place of 4 GB
    for name in ("a.tif", "a.ome.tif"):
        write_image(tmp_path / name, volume())
        assert_same(read_image(tmp_path / name), volume())
        with tifffile.TiffFile(tmp_path / name) as file:
            assert file.is_bigtiff
            assert file.is_ome


@pytest.mark.parametrize("file", ["a.png", "a.tif"])
@pytest.mark.parametrize(("alpha", "warned"), [(255, False), (9, True)])
def test_transparency_is_dropped_and_said_so_where_there_is_any(tmp_path, caplog, file, alpha, warned):
    picture = PIL.Image.new("RGBA", (5, 4), (10, 20, 30, alpha))
    picture.putpixel((4, 3), (10, 20, 30, 255))
    picture.save(tmp_path / file)
    image = read_image(tmp_path / file)
    assert image.axes == "YXC"
    assert image.array[0, 0].tolist() == [10, 20, 30]
    assert ("transparency" in caplog.text) is warned


def test_a_colour_png_of_16_bits_does_not_lose_8_of_them_silently(tmp_path):
    def chunk(kind, content):
        check = zlib.crc32(kind + content)
        return len(content).to_bytes(4) + kind + content + check.to_bytes(4)

    header = chunk(b"IHDR", (2).to_bytes(4) + (1).to_bytes(4) + bytes([16, 2, 0, 0, 0]))
    pixels = chunk(b"IDAT", zlib.compress(bytes(13)))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b""))
    with pytest.raises(ReconError, match="16 bits"):
        read_image(tmp_path / "a.png")


@pytest.mark.skipif(not DATA.is_dir(), reason="the folder shared/data is not beside the project")
@pytest.mark.parametrize(
    ("file", "axes", "dtype"),
    [
        ("micro_demo/BBBC022_3channel.tif", "CYX", "uint16"),
        ("micro_demo/BBBC038_nuclei.tif", "YX", "uint8"),
        ("micro_demo/beads_3d.tif", "ZYX", "uint8"),
        ("w2s10/w2s_n2v10_avg1.tif", "TYX", "uint8"),
        ("bsd68/test001.png", "YX", "uint8"),
    ],
)
def test_real_micrographs_are_read_and_kept(tmp_path, file, axes, dtype):
    image = read_image(DATA / file)
    assert (image.axes, image.dtype.name) == (axes, dtype)
    write_image(tmp_path / "copy.tif", image)
    assert_same(read_image(tmp_path / "copy.tif"), image)


def test_all_axes_at_once(tmp_path):
    image = Image(np.arange(64, dtype=np.uint8).reshape((2,) * 6), AXES[::-1])
    write_image(tmp_path / "a.ome.tif", image)
    assert_same(read_image(tmp_path / "a.ome.tif"), image)
