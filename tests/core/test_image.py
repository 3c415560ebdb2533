"""`Image` and `as_image`: physics stay true, lazy arrays stay lazy, nonsense is refused."""

import dask.array
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from napari_recon.errors import ReconError
from napari_recon.image import Image, as_image


def stack(**fields):
    array = np.arange(4 * 6 * 5, dtype=np.uint16).reshape(4, 6, 5)
    physics = {"scale": (2.0, 0.5, 0.25), "translate": (10.0, -1.0, 3.0), "units": ("um", "um", "um")}
    return Image(array, "ZYX", **(physics | fields))


def test_what_is_not_said_gets_neutral_values():
    image = Image(np.zeros((2, 3)), "yx")
    assert (image.axes, image.scale, image.translate, image.units) == ("YX", (1, 1), (0, 0), (None, None))


@pytest.mark.parametrize(
    ("spelling", "unit"),
    [
        ("micron", "um"),
        ("µm", "um"),
        ("\u03bcm", "um"),
        ("Micrometers", "um"),
        ("micrometer", "um"),
        ("nanometre", "nm"),
        ("sec", "s"),
        ("seconds", "s"),
        ("ms", "ms"),
        ("pixel", None),
        ("pixels", None),
        ("", None),
        (None, None),
        ("parsec", "parsec"),
    ],
)
def test_units_have_one_spelling(spelling, unit):
    assert Image(np.zeros((2, 2)), "YX", units=(spelling, spelling)).units == (unit, unit)


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.zeros((2, 2), bool), "type bool"),
        (np.zeros((2, 2), complex), "type complex128"),
        (np.zeros((2, 2), object), "type object"),
        (np.zeros((2, 2), "U1"), "type <U1"),
        (np.zeros((0, 2)), "empty"),
        (dask.array.zeros((0, 2)), "empty"),
        (np.ma.masked_equal([[1, 2], [3, 4]], 3), "lose its mask"),
    ],
)
def test_pixels_that_cannot_be_worked_on_are_refused(array, problem):
    with pytest.raises(ReconError, match=problem) as error:
        Image(array, "YX")
    assert error.value.hint


@pytest.mark.parametrize(
    "fields",
    [
        {"scale": (1.0, 1.0)},
        {"scale": (1.0, 0.0, 1.0)},
        {"scale": (1.0, float("nan"), 1.0)},
        {"translate": (float("inf"), 0.0, 0.0)},
        {"units": ("um",)},
        {"channel_names": ("a", "b")},
    ],
)
def test_physics_that_do_not_fit_are_refused(fields):
    with pytest.raises(ReconError):
        stack(**fields)


def test_a_foreign_byte_order_becomes_the_machines_own():
    values = np.array([[1, 2], [3, 1000]], dtype=">u2")
    image = Image(values, "YX")
    assert image.dtype.isnative
    np.testing.assert_array_equal(image.array, values)


def test_other_pixels_keep_the_physics_but_not_names_of_channels_that_are_gone():
    image = Image(np.zeros((2, 3, 4)), "CYX", scale=(1, 2, 3), name="cells", channel_names=("a", "b"))
    same = image.with_array(np.ones((2, 3, 4)), name="cells [denoised]")
    assert (same.scale, same.channel_names, same.name) == (image.scale, ("a", "b"), "cells [denoised]")
    assert image.with_array(np.ones((1, 3, 4))).channel_names == ()
    assert image.with_array(np.ones((3, 4)), axes="YX", scale=(2, 3), translate=(), units=()).scale == (2, 3)


@given(st.data())
def test_a_crop_stays_at_its_place_in_the_world(data):
    image = stack()
    slices = {a: data.draw(st.slices(n)) for a, n in zip("ZYX", image.shape, strict=True)}
    if 0 in image.array[tuple(slices.values())].shape:
        with pytest.raises(ReconError, match="empty"):
            image.crop(slices)
        return
    crop = image.crop(slices)
    index = tuple(data.draw(st.integers(0, n - 1)) for n in crop.shape)
    world = [t + s * i for t, s, i in zip(crop.translate, crop.scale, index, strict=True)]
    original = [round((w - t) / s) for w, t, s in zip(world, image.translate, image.scale, strict=True)]
    assert image.array[tuple(original)] == crop.array[index]


def test_one_plane_loses_its_axis_and_nothing_else():
    plane = stack().crop({"Z": -1})
    assert (plane.axes, plane.scale, plane.units) == ("YX", (0.5, 0.25), ("um", "um"))
    np.testing.assert_array_equal(plane.array, stack().array[-1])


def test_a_crop_of_channels_keeps_their_names():
    image = Image(np.zeros((3, 4, 4)), "CYX", channel_names=("a", "b", "c"))
    assert image.crop({"C": slice(1, 3)}).channel_names == ("b", "c")
    assert image.crop({"C": 0}).channel_names == ()


@pytest.mark.parametrize("slices", [{"T": 0}, {"Z": 4}, {"Z": slice(9, 12)}, {"Y": 0}])
def test_an_impossible_crop_is_refused(slices):
    with pytest.raises(ReconError):
        stack().crop(slices)


def test_an_axis_with_a_new_meaning_loses_its_old_spacing():
    movie = as_image(stack(), "TYX")
    assert movie.axes == "TYX"
    assert movie.scale == (1.0, 0.5, 0.25)
    assert movie.units == (None, "um", "um")


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((40, 50), "YX"),
        ((40, 50, 3), "YXC"),
        ((5, 40, 50), "ZYX"),
        ((9, 8, 3), "ZYX"),
        ((2, 5, 40, 50), "TZYX"),
    ],
)
def test_axes_of_a_bare_array_are_guessed(shape, axes):
    assert as_image(np.zeros(shape)).axes == axes


def test_a_masked_array_without_a_mask_is_a_plain_one():
    image = Image(np.ma.masked_invalid([[1.0, 2.0]]), "YX")
    assert type(image.array) is np.ndarray


def test_lists_of_numbers_are_images_too():
    assert as_image([[1, 2, 3], [4, 5, 6]]).shape == (2, 3)


@pytest.mark.parametrize("thing", ["a.tif", 3, None, [[1, 2], [3]], [], {"a": 1}])
def test_what_is_no_image_is_refused(thing):
    with pytest.raises(ReconError):
        as_image(thing)


class Untouchable:
    """Pixels of which nobody may read one: whoever tries, reads them too early."""

    shape = (40, 50)
    dtype = np.dtype(np.uint8)
    ndim = 2

    def __getitem__(self, index):
        raise AssertionError("read too early")


def test_the_largest_level_of_a_multiscale_image_is_taken_and_not_read():
    levels = [dask.array.from_array(Untouchable(), asarray=False, meta=np.zeros((0, 0), np.uint8))]
    levels.append(levels[0][::2, ::2])
    for order in (levels, levels[::-1]):
        image = as_image(order)
        assert image.array is levels[0]


def test_arrays_on_disk_are_not_read():
    assert as_image(Untouchable()).shape == (40, 50)


def test_a_list_of_equal_images_is_not_taken_for_levels():
    with pytest.raises(ReconError, match="multiscale") as error:
        as_image([np.zeros((4, 5)), np.zeros((4, 5))])
    assert "stack" in error.value.hint


def test_zarr_stays_on_disk_and_can_be_worked_on(tmp_path):
    array = zarr.create_array(tmp_path / "a.zarr", shape=(4, 6, 5), chunks=(1, 6, 5), dtype="u2")
    array[...] = stack().array
    image = as_image(array, "TYX")
    assert hasattr(image.array, "dask")
    np.testing.assert_array_equal(np.asarray(image.array), stack().array)


def test_xarray_gives_its_dims_as_axes_and_drops_its_attributes():
    xarray = pytest.importorskip("xarray")
    data = xarray.DataArray(np.zeros((2, 3, 4)), dims=("time", "y", "x"), attrs={"a": 1}, name="cells")
    image = as_image(data)
    assert (image.axes, image.name, image.metadata) == ("TYX", "cells", {})
    assert as_image(data.chunk()).array.chunks
    with pytest.raises(ReconError):
        as_image(data.rename(x="lambda"))
    assert as_image(data.rename(x="lambda"), "ZYX").axes == "ZYX"
    assert as_image(xarray.DataArray(np.zeros((2, 3, 4)))).axes == "ZYX"  # nobody named its axes
    assert as_image(data.variable).axes == "TYX"


def test_a_dask_array_of_unknown_size_is_refused_with_the_way_out():
    array = dask.array.arange(12, chunks=4)
    with pytest.raises(ReconError, match="unknown") as error:
        as_image(array[array > 2][:, None], "YX")
    assert "compute_chunk_sizes" in error.value.hint
