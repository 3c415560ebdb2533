"""The shipped upscalers do what the panel promises, on images nobody trained them on."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from napari_recon import Image, api
from napari_recon.data.degradation import Optics, bicubic_downsample
from napari_recon.data.phantoms import dead_leaves, filaments, nuclei
from napari_recon.library import SHIPPED
from napari_recon.models.generators import enlarge


def scene(make, seed=11):
    return make((192, 208), np.random.default_rng(seed)).astype(np.float32)


def error(truth, image):
    return float(np.square(np.asarray(image) - truth)[8:-8, 8:-8].mean())


def coarse(truth, scale, photons=None):
    x = torch.from_numpy(truth)[None, None]
    if photons is None:
        return bicubic_downsample(x, scale)[0, 0].numpy()
    optics = Optics.gaussian(scale, 0.25 * scale, photons=photons, read_noise=1.0)
    return optics(x, torch.Generator().manual_seed(0))[0, 0].numpy()


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("make", [dead_leaves, filaments, nuclei])
@pytest.mark.parametrize(("photons", "gain"), [(None, 1.0), (300, 0.5)])
def test_nearer_to_the_truth_than_bicubic(scale, make, photons, gain):
    truth = scene(make)
    low = coarse(truth, scale, photons)
    bicubic = enlarge(torch.from_numpy(low)[None, None], scale)[0, 0].numpy()
    done = api.upscale(low, api.shipped_upscaler(scale), trust=False)
    assert 10 * np.log10(error(truth, bicubic) / error(truth, done)) > gain


@pytest.mark.parametrize("make", [dead_leaves, filaments, nuclei])
def test_what_software_made_smaller_has_a_model_that_is_better_at_it(make):
    truth = scene(make)
    low = np.round(255 * coarse(truth, 2).clip(0, 1)).astype(np.uint8)
    errors = {m: error(255 * truth, api.upscale(low, m, trust=False)) for m in ("upscale-x2", "upscale-x2-resized")}
    assert errors["upscale-x2-resized"] < errors["upscale-x2"]


def test_the_list_says_what_a_model_is_for():
    uses = {m.name: m.use for m in api.list_models() if m.shipped}
    assert "software" in uses["upscale-x2-resized"]


def test_the_first_in_the_list_is_for_what_a_camera_recorded():
    assert next(m.name for m in api.list_models() if m.family == "gan") == "upscale-x2"


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_the_mean_is_kept_and_may_be_measured(scale, dtype):
    low = (500 + 3000 * coarse(scene(nuclei), scale, photons=1000)).astype(dtype)
    done = api.upscale(Image(low, "YX"), f"upscale-x{scale}", keep_dtype=True)
    assert done.array.mean() == pytest.approx(low.mean(), rel=0.005)
    trust = done.metadata["napari_recon"]["trust"]
    assert trust["mean_change"] < 0.005
    assert trust["quantifiable"], trust


def test_distrust_is_where_the_error_is():
    truth = scene(dead_leaves)
    done, trust = api.upscale(coarse(truth, 2), "upscale-x2", return_trust=True)
    wrong = np.abs(done - truth)
    assert wrong[trust < np.quantile(trust, 0.1)].mean() > 1.5 * wrong.mean()


def long_exposure(make, photons):
    """A soft scene with the weak shot noise of a long exposure, and what binning makes of both."""
    clean = gaussian_filter(scene(make, 13), 2.0)
    fine = (np.random.default_rng(0).poisson(clean / clean.max() * photons) / photons).astype(np.float32)
    return fine, Optics(2).expected(torch.from_numpy(fine)[None, None])[0, 0].numpy()


@pytest.mark.parametrize("make", [dead_leaves, filaments, nuclei])
@pytest.mark.parametrize("photons", [1000, 3000])
def test_the_grain_of_long_exposures_is_no_reason_to_be_worse_than_bicubic(make, photons):
    fine, low = long_exposure(make, photons)
    bicubic = enlarge(torch.from_numpy(low)[None, None], 2)[0, 0].numpy()
    assert error(fine, api.upscale(low, trust=False)) < error(fine, bicubic)


@pytest.mark.parametrize("make", [filaments, nuclei])
def test_distrust_ranks_the_errors_of_long_exposures(make):
    fine, low = long_exposure(make, 2000)
    done, trust = api.upscale(low, return_trust=True)
    wrong = np.sqrt(gaussian_filter((done - fine) ** 2, 2.0))
    assert spearmanr(1 - trust[8:-8:4, 8:-8:4], wrong[8:-8:4, 8:-8:4], axis=None).statistic > 0.5


def test_they_are_small():
    assert sum(p.stat().st_size for p in SHIPPED.glob("upscale-*.safetensors")) < 10e6
