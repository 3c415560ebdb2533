"""File > Save: what napari's own writer leaves out is kept."""

import numpy as np
import pytest

from napari_recon.errors import ReconError
from napari_recon.io import read_image

PLACE = {"scale": (2, 0.5, 0.25), "translate": (0, 3, 4), "units": ("s", "um", "um"), "axis_labels": ("t", "y", "x")}


def pixels(seed=0):
    return np.random.default_rng(seed).integers(0, 4000, (3, 40, 50)).astype(np.uint16)


@pytest.mark.parametrize("name", ["cells.ome.zarr", "cells.zarr", "cells.ome.tif"])
def test_a_saved_layer_keeps_its_place_and_opens_as_it_was(viewer, tmp_path, name):
    layer = viewer.add_image(pixels(), name="cells", metadata={"napari_recon": {"verb": "denoise"}}, **PLACE)
    assert viewer.layers.save(str(tmp_path / name)) == [str(tmp_path / name)]
    image = read_image(tmp_path / name)
    np.testing.assert_array_equal(np.asarray(image.array), layer.data)
    assert image.axes == "TYX"
    assert image.scale == pytest.approx(PLACE["scale"])
    assert image.translate == pytest.approx(PLACE["translate"])
    assert image.units == PLACE["units"]
    assert image.metadata["napari_recon"]["verb"] == "denoise"
    (opened,) = viewer.open(str(tmp_path / name), plugin="napari-recon")
    np.testing.assert_array_equal(np.asarray(opened.data), layer.data)
    np.testing.assert_allclose(opened.scale, layer.scale)
    np.testing.assert_allclose(opened.translate, layer.translate)
    assert opened.units == layer.units
    assert opened.axis_labels == ("time", "y", "x")
    assert opened.metadata["napari_recon"]["verb"] == "denoise"


@pytest.mark.parametrize("name", ["both.ome.zarr", "both.ome.tif"])
def test_layers_become_channels_and_channels_layers(viewer, tmp_path, name):
    for seed, channel in enumerate(("actin", "dna")):
        viewer.add_image(pixels(seed), name=channel, **PLACE)
    path = str(tmp_path / name)
    assert viewer.layers.save(path) == [path]
    assert read_image(path).axes == "TCYX"
    viewer.layers.clear()
    opened = viewer.open(path, plugin="napari-recon")
    assert [layer.name for layer in opened] == ["actin", "dna"]
    for seed, layer in enumerate(opened):
        np.testing.assert_array_equal(np.asarray(layer.data), pixels(seed))
        np.testing.assert_allclose(layer.scale, PLACE["scale"])


def test_a_pyramid_and_colours_are_saved_at_full_resolution(viewer, tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    viewer.add_image([rgb, rgb[::2, ::2]], rgb=True, multiscale=True, name="stain")
    viewer.layers.save(str(tmp_path / "stain.ome.tif"))
    image = read_image(tmp_path / "stain.ome.tif")
    assert image.size("C") == 3
    np.testing.assert_array_equal(np.moveaxis(image.array, image.axes.index("C"), -1), rgb)
    (opened,) = viewer.open(str(tmp_path / "stain.ome.tif"), plugin="napari-recon")
    assert opened.rgb
    np.testing.assert_array_equal(opened.data, rgb)


def test_layers_that_do_not_fit_together_are_refused(viewer, tmp_path):
    viewer.add_image(pixels(), name="large")
    viewer.add_image(pixels()[:, ::2], name="small")
    with pytest.raises(ReconError, match="one by one"):
        viewer.layers.save(str(tmp_path / "both.ome.zarr"))
    assert not list(tmp_path.glob("both*"))
