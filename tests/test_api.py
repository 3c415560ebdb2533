"""The verbs as an analyst calls them from a script."""

import dask.array
import numpy as np
import pytest
import torch
import xarray
import zarr

from napari_recon import api
from napari_recon.errors import Cancelled, ReconError
from napari_recon.image import Image
from napari_recon.progress import CancelToken


def test_an_array_gives_an_array(phantom, trained):
    result = api.denoise(phantom[0], trained)
    assert type(result) is np.ndarray
    assert (result.shape, result.dtype) == ((48, 48), np.float32)


def test_an_image_keeps_its_physics_and_says_how_it_was_made(phantom, trained):
    image = Image(
        phantom[0], "YX", scale=(0.2, 0.1), translate=(3.0, 4.0), units=("um", "um"), name="cells", metadata={"a": 1}
    )
    result = api.denoise(image, trained)
    assert (result.axes, result.scale, result.translate, result.units) == (
        image.axes, image.scale, image.translate, image.units,
    )  # fmt: skip
    assert result.name == "cells [denoised]"
    assert result.metadata["a"] == 1
    record = result.metadata["napari_recon"]
    assert (record["verb"], record["model_hash"], record["strength"]) == ("denoise", trained.hash, 1.0)
    assert "napari_recon" not in image.metadata


def test_lazy_and_labelled_arrays_work_like_arrays(phantom, tiny):
    stack = np.stack(phantom)
    kinds = {
        "numpy": stack,
        "dask": dask.array.from_array(stack, chunks=(1, 20, 48)),
        "zarr": zarr.array(stack, chunks=(1, 20, 48)),
        "xarray": xarray.DataArray(stack, dims=("time", "y", "x")),
    }
    results = {}
    for kind, array in kinds.items():
        axes = None if kind == "xarray" else "TYX"
        model = api.train("autoencoder", array, axes=axes, **tiny)
        results[kind] = (model.hash, api.denoise(array, model, axes=axes))
    reference = results.pop("numpy")
    for model_hash, denoised in results.values():
        assert model_hash == reference[0]
        np.testing.assert_array_equal(denoised, reference[1])


def test_images_of_several_sizes_train_one_model(phantom, tiny):
    images = [phantom[0], phantom[0][:30, :41], np.stack([phantom[0]] * 2)]
    model = api.train("autoencoder", images, **tiny)
    assert [d["shape"] for d in model.provenance["data"]] == [[48, 48], [30, 41], [2, 48, 48]]
    paired = api.train("autoencoder", images, [i + 1 for i in images], **tiny)
    assert paired.provenance["targets"]


def test_keep_dtype_rounds_and_tells_what_it_clipped(trained):
    dark = Image(np.zeros((48, 48), np.uint8), "YX")
    result = api.denoise(dark, trained, keep_dtype=True)
    assert result.dtype == np.uint8
    assert api.denoise(dark.with_array(np.zeros((48, 48), np.float16)), trained, keep_dtype=True).dtype == np.float16
    negative = api.denoise(Image(np.full((48, 48), -5000, np.int16), "YX"), trained)
    assert negative.dtype == np.float32
    high = Image(np.full((48, 48), 255, np.uint8), "YX")
    high = high.with_array(np.where(np.indices((48, 48)).sum(0) % 2, 255, 254).astype(np.uint8))
    notes = api.denoise(high, trained, keep_dtype=True).metadata["napari_recon"]["notes"]
    assert all("clipped" in n for n in notes)


def test_training_may_start_from_a_model(phantom, tiny, trained):
    longer = api.train("autoencoder", phantom[0], start_from=trained, steps=1, learning_rate=1e-7)
    assert longer.config == trained.config  # its network is taken over, not the defaults
    assert longer.provenance["started_from"]["hash"] == trained.hash
    for key, weight in trained.weights.items():
        torch.testing.assert_close(longer.weights[key], weight, atol=1e-5, rtol=0)
    with pytest.raises(ReconError, match="differs"):
        api.train("autoencoder", phantom[0], start_from=trained, **tiny | {"features": 8})


def test_saved_models_are_listed_and_found_by_name(trained, phantom, home):
    assert [m.name for m in api.list_models() if not m.shipped] == []
    path = api.save_model(trained, "my cells")
    assert path == home / "models" / "my cells.safetensors"
    (saved,) = [m for m in api.list_models() if not m.shipped]
    assert (saved.name, saved.family, saved.path) == ("my cells", "autoencoder", path)
    assert saved.created
    loaded = api.load_model("my cells")
    assert (loaded.hash, loaded.config, loaded.normalization) == (trained.hash, trained.config, trained.normalization)
    assert loaded.provenance["data_hash"] == trained.provenance["data_hash"]
    np.testing.assert_array_equal(api.denoise(phantom[0], "my cells"), api.denoise(phantom[0], path))
    (home / "models" / "junk.safetensors").write_bytes(b"junk")
    assert len([m for m in api.list_models() if not m.shipped]) == 1


@pytest.mark.parametrize("name", ["", "  ", "a/b", "..", "a\\b", ".hidden", "a:b"])
def test_a_name_that_is_no_file_name_is_refused(trained, name, home):
    with pytest.raises(ReconError, match="cannot be the name"):
        api.save_model(trained, name)
    assert not (home / "models").exists()


def test_the_provenance_tells_what_a_model_was_made_from(trained):
    provenance = trained.provenance
    assert provenance["data"] == [{"name": "", "axes": "YX", "shape": [48, 48], "dtype": "float32"}]
    assert provenance["training"]["seed"] == 0
    assert (provenance["steps"], provenance["skipped_steps"], provenance["missing_pixels"]) == (6, 0, 0)
    assert provenance["versions"]["torch"] == torch.__version__


def test_the_estimate_knows_budget_and_size(phantom):
    assert api.training_estimate("autoencoder", phantom[0], minutes=3)["seconds"] == 180
    assert api.training_estimate("autoencoder", phantom[0])["seconds"] == 120
    few, many = (
        api.training_estimate("autoencoder", phantom[0], steps=s, features=4, patch_size=50, depth=3)["seconds"]
        for s in (1, 1000)
    )
    assert 0 < few < many
    small, large = (
        api.training_estimate("autoencoder", phantom[0], minutes=1, features=f)["memory_bytes"] for f in (8, 64)
    )
    assert 0 < small < large


def test_a_thin_stack_is_estimated_by_what_fits_into_it(phantom):
    thin = np.stack([phantom[0]] * 6)
    estimate = api.training_estimate("autoencoder", thin, axes="ZYX", dimensions=3, steps=1, features=4)
    whole = api.training_estimate("autoencoder", np.ones((64, 64, 64)), axes="ZYX", dimensions=3, minutes=1, features=4)
    assert estimate["memory_bytes"] < whole["memory_bytes"] / 5


def test_a_stopped_prediction_raises_and_a_preset_is_a_budget(phantom, trained):
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        api.denoise(phantom[0], trained, cancel=token)
    model = api.train("autoencoder", phantom[0], preset="best", cancel=token)
    assert model.provenance["training"]["minutes"] == 120
