"""Axes: any order goes to a batch and back; wrong ones are refused with a next step."""

import dask.array
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_recon.axes import AXES, check_axes, default_axes, from_batch, split_axes, to_batch
from napari_recon.errors import ReconError


@st.composite
def images(draw, need="YX"):
    """An array whose pixels all differ, with any axes in any order."""
    extra = draw(st.sets(st.sampled_from(sorted(set(AXES) - set(need)))))
    axes = "".join(draw(st.permutations([*need, *sorted(extra)])))
    shape = tuple(draw(st.integers(1, 4)) for _ in axes)
    return np.arange(np.prod(shape)).reshape(shape), axes


@given(images(), st.booleans())
def test_batch_of_planes_and_back_is_the_same_image(image, lazy):
    array, axes = image
    given_array = dask.array.from_array(array, chunks=2) if lazy else array
    batch = to_batch(given_array, axes)
    back = from_batch(batch, axes, array.shape)
    assert batch.ndim == 4
    assert hasattr(batch, "dask") is lazy
    assert hasattr(back, "dask") is lazy
    np.testing.assert_array_equal(np.asarray(back), array)


@given(images(need="ZYX"))
def test_batch_of_volumes_and_back_is_the_same_image(image):
    array, axes = image
    batch = to_batch(array, axes, "ZYX")
    assert batch.shape[2:] == tuple(array.shape[axes.index(a)] for a in "ZYX")
    np.testing.assert_array_equal(from_batch(batch, axes, array.shape, "ZYX"), array)


@given(images())
def test_every_plane_of_a_batch_is_one_plane_of_one_channel(image):
    array, axes = image
    batch = to_batch(array, axes)
    channels = array.shape[axes.index("C")] if "C" in axes else 1
    assert batch.shape[1] == channels
    if "C" in axes:
        for c in range(channels):
            expected = np.take(array, c, axis=axes.index("C"))
            assert set(batch[:, c].ravel()) == set(expected.ravel())


def test_a_batch_of_an_ordered_image_is_a_view():
    array = np.zeros((3, 2, 4, 5))
    assert np.shares_memory(to_batch(array, "TCYX"), array)


def test_a_lazy_stack_is_not_merged_into_one_chunk():
    stack = dask.array.zeros((6, 5, 32, 32), chunks=(1, 1, 32, 32))
    assert max(to_batch(stack, "TZYX").chunks[0]) == 1


def test_an_upscaled_batch_comes_back_with_its_new_size():
    assert from_batch(np.zeros((6, 2, 8, 10)), "CTYX", (2, 6, 4, 5)).shape == (2, 6, 8, 10)


def test_z_is_a_sample_in_2d_and_spatial_in_3d():
    assert split_axes("CZYXT") == ("TZ", "C", "YX")
    assert split_axes("CZYXT", "ZYX") == ("T", "C", "ZYX")


def test_a_plane_has_no_volume():
    with pytest.raises(ReconError, match="no Z") as error:
        to_batch(np.zeros((3, 4)), "YX", "ZYX")
    assert "2D model" in error.value.hint


@pytest.mark.parametrize(
    ("axes", "problem"),
    [("ZYX", "3 axes"), ("YY", "twice"), ("YQ", "unknown letters Q"), ("ZX", "lack Y or X"), ("", "0 axes")],
)
def test_wrong_axes_are_refused_with_a_hint(axes, problem):
    with pytest.raises(ReconError, match=problem) as error:
        check_axes(axes, (5, 6))
    assert "YX" in error.value.hint


def test_lower_case_axes_are_understood():
    assert check_axes(" tyx", (1, 2, 3)) == "TYX"


@given(st.integers(2, 6), st.booleans())
def test_guessed_axes_always_fit(ndim, rgb):
    if rgb and ndim == 2:
        return
    shape = (1,) * ndim
    axes = default_axes(shape, rgb)
    assert check_axes(axes, shape) == axes
    assert axes.endswith("YXC" if rgb else "YX")


@pytest.mark.parametrize("shape", [(), (5,), (1,) * 7])
def test_no_axes_are_guessed_for_what_is_no_image(shape):
    with pytest.raises(ReconError, match="is not an image"):
        default_axes(shape)
