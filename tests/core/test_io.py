"""Image files: exact round trips, foreign files as they are meant, nothing half-read or half-written."""

import errno
import os
import subprocess
import sys
import tempfile
import zlib
from contextlib import contextmanager
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
from napari_recon.io import FORMATS, read_image, write_image

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
TYPES = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]
WINDOWS = sys.platform == "win32"
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


@pytest.mark.parametrize(("alpha", "warned"), [(255, False), (9, True)])
def test_transparency_is_dropped_and_said_so_where_there_is_any(tmp_path, caplog, alpha, warned):
    PIL.Image.new("RGBA", (5, 4), (10, 20, 30, alpha)).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
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


# Faults.


def written(folder, suffix, dtype="u1"):
    """A file of that format, and what it holds."""
    path = Path(folder) / f"a{suffix}"
    shape = (3, 20, 24) if "tif" in suffix else (20, 24)
    array = np.random.default_rng(0).integers(1, 255, shape).astype(dtype)
    write_image(path, Image(array, "TYX"[-len(shape) :], scale=(0.5,) * len(shape)))
    return path, read_image(path)


def read_or_refused(path):
    try:
        return read_image(path)
    except ReconError:
        return None


@settings(deadline=None, max_examples=120)
@given(st.sampled_from([*sorted(FORMATS), "f8.tif", "f2.tif"]), st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_is_refused_or_whole(kind, part):
    """Never fewer planes, zeros, or other axes than were written."""
    with tempfile.TemporaryDirectory() as folder:
        dtype = kind[:2] if kind[0] == "f" else "u1"
        path, whole = written(folder, kind.removeprefix(dtype), dtype)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * part)])
        read = read_or_refused(path)
        if read is not None:
            assert_same(read, whole)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}])
def test_a_foreign_tiff_cut_short_loses_no_plane_silently(tmp_path, options):
    array = np.random.default_rng(0).integers(1, 255, (3, 20, 24)).astype(np.uint8)
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for plane in array:
            file.write(plane, contiguous=False, metadata=None, **options)
    np.testing.assert_array_equal(read_image(path).array, array)
    content = path.read_bytes()
    for length in {*range(0, len(content), 37), len(content) - 2, len(content) - 1}:
        path.write_bytes(content[:length])
        read = read_or_refused(path)
        assert read is None or np.array_equal(read.array, array)


def test_planes_in_a_missing_file_are_not_read_as_zeros(tmp_path):
    names = [tmp_path / f"{i}.ome.tif" for i in range(2)]
    uuids = [f"urn:uuid:00000000-0000-0000-0000-00000000000{i}" for i in range(2)]
    planes = "".join(
        f'<TiffData FirstT="{i}" PlaneCount="1"><UUID FileName="{i}.ome.tif">{uuids[i]}</UUID></TiffData>'
        for i in range(2)
    )
    xml = (
        f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{uuids[0]}">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="9" SizeY="8" '
        'SizeZ="1" SizeC="1" SizeT="2"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
        f"{planes}</Pixels></Image></OME>"
    )
    for name in names:
        tifffile.imwrite(name, np.ones((8, 9), np.uint8), description=xml, metadata=None)
    assert read_image(names[0]).shape == (2, 8, 9)
    names[1].unlink()
    with pytest.raises(ReconError, match="missing"):
        read_image(names[0])


@pytest.mark.parametrize("suffix", sorted(FORMATS))
@pytest.mark.parametrize("content", [b"", b"not an image at all", bytes(5000)])
def test_what_is_no_image_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(ReconError) as error:
        read_image(path)
    assert error.value.hint


def test_missing_files_folders_and_unknown_formats_are_refused(tmp_path):
    (tmp_path / "folder.tif").mkdir()
    (tmp_path / "file").write_bytes(b"a")
    for name in ("none.tif", "folder.tif", "file/a.tif", "a.docx", "tif"):
        with pytest.raises(ReconError) as error:
            read_image(tmp_path / name)
        assert error.value.hint


def test_an_image_larger_than_memory_is_refused_before_it_is_read(tmp_path):
    tile = bytes(256)
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(path, iter([tile]), shape=(16, 16), dtype="u1", tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as file:
        for tag in (256, 257):
            file.pages.first.tags[tag].overwrite(2**28 if tag == 256 else 2**24, dtype="I")
    with pytest.raises(ReconError, match="GiB"):
        read_image(path)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_read(tmp_path, monkeypatch):
    PIL.Image.new("L", (100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 4000)
    with pytest.raises(ReconError, match="too many pixels"):
        read_image(tmp_path / "a.png")


@contextmanager
def full_disk(limit):
    """No file may grow beyond `limit` bytes: writing fails as it does on a full disk."""
    resource = pytest.importorskip("resource", reason="this system sets no limit to files")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("suffix", sorted(FORMATS))
@pytest.mark.parametrize("limit", [0, 100, 3000])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, suffix, limit):
    path, old = written(tmp_path, suffix)
    new = np.random.default_rng(1).integers(0, 255, (200, 200)).astype(np.uint8)
    with full_disk(limit), pytest.raises(ReconError) as error:
        write_image(path, new)
    assert "space" in error.value.hint
    assert_same(read_image(path), old)
    assert os.listdir(tmp_path) == [path.name]


def test_a_disk_that_reports_late_that_it_is_full_leaves_the_old_file(tmp_path, monkeypatch):
    path, old = written(tmp_path, ".tif")

    def fsync(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ReconError, match="disk is full"):
        write_image(path, np.zeros((8, 9)))
    assert_same(read_image(path), old)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.skipif(WINDOWS, reason="there is no kill -9")
def test_a_killed_program_leaves_the_old_file(tmp_path):
    path, old = written(tmp_path, ".tif")
    code = (
        "import os, signal, sys, numpy, tifffile\n"
        "from napari_recon.io import write_image\n"
        "save = tifffile.imwrite\n"
        "def killed(*args, **kwargs):\n"
        "    save(*args, **kwargs)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "tifffile.imwrite = killed\n"
        "write_image(sys.argv[1], numpy.zeros((8, 9), 'u1'))\n"
    )
    process = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert process.returncode == -9
    assert_same(read_image(path), old)


def test_pixels_that_fail_to_compute_leave_the_old_file_and_say_why(tmp_path):
    path, old = written(tmp_path, ".tif")

    def fail(block):
        raise OSError("the network drive is gone")

    lazy = dask.array.zeros((8, 9), chunks=4).map_blocks(fail, dtype=float, meta=np.zeros((0, 0)))
    with pytest.raises(OSError, match="network drive"):
        write_image(path, lazy)
    assert_same(read_image(path), old)
    assert os.listdir(tmp_path) == [path.name]


def test_a_folder_that_is_a_file_missing_or_taken_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"kept")
    (tmp_path / "folder.tif").mkdir()
    for name in ("file/a.tif", "none/a.tif", "folder.tif", f"{'a' * 300}.tif", "a.docx", "a"):
        with pytest.raises(ReconError) as error:
            write_image(tmp_path / name, np.zeros((4, 4), np.uint8))
        assert error.value.hint
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.tif"]
    assert (tmp_path / "file").read_bytes() == b"kept"


@pytest.mark.skipif(WINDOWS or os.geteuid() == 0, reason="the superuser, and Windows, may write everywhere")
def test_a_forbidden_folder_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ReconError, match="may not be written"):
        write_image(tmp_path / "a.tif", np.zeros((4, 4), np.uint8))
    tmp_path.chmod(0o700)


@pytest.mark.skipif(WINDOWS, reason="links need a privilege")
def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link.tif").symlink_to(tmp_path / "real.tif")
    write_image(tmp_path / "link.tif", np.zeros((4, 4), np.uint8))
    assert (tmp_path / "link.tif").is_symlink()
    assert read_image(tmp_path / "real.tif").shape == (4, 4)


def test_all_axes_at_once(tmp_path):
    image = Image(np.arange(64, dtype=np.uint8).reshape((2,) * 6), AXES[::-1])
    write_image(tmp_path / "a.ome.tif", image)
    assert_same(read_image(tmp_path / "a.ome.tif"), image)
