"""Tiles write every pixel once, see far enough around it, and start where the network's cells start."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_recon.inference.tiling import padded_shape, plan_tiles


@st.composite
def plans(draw):
    multiple = draw(st.sampled_from([1, 2, 4, 8, 12]))
    dims = draw(st.integers(2, 3))
    shape = [multiple * draw(st.integers(1, 24 // dims)) for _ in range(dims)]
    return shape, draw(st.integers(1, 60)), draw(st.integers(0, 40)), multiple


@given(plans())
def test_tiles_write_every_pixel_exactly_once(plan):
    shape, tile, halo, multiple = plan
    written = np.zeros(shape, int)
    for t in plan_tiles(shape, tile, halo, multiple):
        written[t.write] += 1
    assert (written == 1).all()


@given(plans())
def test_tiles_see_the_halo_around_what_they_write_as_far_as_there_is_something(plan):
    shape, tile, halo, multiple = plan
    for t in plan_tiles(shape, tile, halo, multiple):
        for read, write, length in zip(t.read, t.write, shape, strict=True):
            assert 0 <= read.start <= max(write.start - halo, 0)
            assert min(write.stop + halo, length) <= read.stop <= length


@given(plans())
def test_tiles_start_end_and_are_as_long_as_the_network_can_take(plan):
    shape, tile, halo, multiple = plan
    for t in plan_tiles(shape, tile, halo, multiple):
        for read, write in zip(t.read, t.write, strict=True):
            assert read.start % multiple == read.stop % multiple == write.start % multiple == 0
            assert write.stop - write.start < tile + multiple
            assert read.stop - read.start < tile + multiple + 2 * (halo + multiple)


@given(plans())
def test_the_crop_of_what_is_read_is_what_is_written(plan):
    shape, tile, halo, multiple = plan
    array = np.arange(np.prod(shape)).reshape(shape)
    for t in plan_tiles(shape, tile, halo, multiple):
        np.testing.assert_array_equal(array[t.read][t.crop], array[t.write])


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=3), st.integers(1, 64))
def test_padding_goes_up_to_the_next_multiple_and_no_further(shape, multiple):
    for n, padded in zip(shape, padded_shape(shape, multiple), strict=True):
        assert padded % multiple == 0
        assert n <= padded < n + multiple


@pytest.mark.parametrize("tile", [64, 65, 1000])
def test_an_image_that_fits_into_one_tile_is_one_tile(tile):
    assert len(plan_tiles((64, 64), tile, 16, 8)) == 1
