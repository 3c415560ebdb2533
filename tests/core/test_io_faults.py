"""Faults of files, disks and folders: nothing half-read, nothing half-written, always a next step."""

import errno
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import dask.array
import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_recon.errors import ReconError
from napari_recon.image import Image
from napari_recon.io import FORMATS, read_image, write_image

WINDOWS = sys.platform == "win32"
FILES = sorted(suffix for suffix, form in FORMATS.items() if not form.folder)


def assert_same(read, written):
    assert read.axes == written.axes
    assert read.dtype == written.dtype
    np.testing.assert_array_equal(read.array, written.array)
    assert (read.scale, read.translate, read.units) == (written.scale, written.translate, written.units)
    assert read.channel_names == written.channel_names


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
@given(st.sampled_from([*FILES, "f8.tif", "f2.tif"]), st.floats(0, 1, exclude_max=True))
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
