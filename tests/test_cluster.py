"""Tiles on the workers of a cluster: two processes give, bit for bit, what one gives."""

import numpy as np
import pytest
import torch

from napari_recon import api
from napari_recon.errors import Cancelled, ReconError
from napari_recon.image import Image
from napari_recon.io import read_image, write_image
from napari_recon.progress import CancelToken

distributed = pytest.importorskip("distributed")
SMALL = {"tile_size": 32, "precision": "float32"}


@pytest.fixture(scope="module")
def address():
    """A scheduler with two workers, each a process of its own."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def image(tmp_path):
    """An image on disk, where the workers find it."""
    pixels = np.random.default_rng(0).normal(100, 20, (4, 70, 90)).astype(np.float32)
    write_image(tmp_path / "in.ome.zarr", Image(pixels, "TYX"))
    return read_image(tmp_path / "in.ome.zarr")


@pytest.fixture(autouse=True)
def as_many_threads():
    """Workers start with one; sums of another number of them are rounded otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_two_workers_give_what_one_process_gives(tmp_path, address, image, trained):
    here = api.denoise(image, trained, out=tmp_path / "here.zarr", **SMALL)
    there = api.denoise(image, trained, out=tmp_path / "there.zarr", scheduler=address, **SMALL)
    np.testing.assert_array_equal(np.asarray(there.array), np.asarray(here.array))
    # An array in memory goes to the workers.
    array = np.asarray(image.array)
    sent = api.denoise(array, trained, axes="TYX", out=tmp_path / "sent.zarr", scheduler=address, **SMALL)
    np.testing.assert_array_equal(np.asarray(sent.array), np.asarray(here.array))


def test_a_run_on_a_cluster_goes_on_without_it(tmp_path, address, image, trained):
    token = CancelToken()

    def watch(event):
        if event.done >= 5:
            token.cancel()

    out = tmp_path / "out.zarr"
    with pytest.raises(Cancelled):
        api.denoise(image, trained, out=out, scheduler=address, cancel=token, on_progress=watch, **SMALL)
    made = api.denoise(image, trained, out=out, **SMALL)
    expected = api.denoise(image, trained, **SMALL)
    np.testing.assert_array_equal(np.asarray(made.array), expected.array)


def test_what_is_wrong_on_a_worker_is_told_here(tmp_path, address, image, trained):
    broken = image.with_array(image.array.map_blocks(_fail, dtype=np.float32))
    with pytest.raises(ReconError, match="on purpose"):
        api.denoise(broken, trained, out=tmp_path / "out.zarr", scheduler=address, **SMALL)


def _fail(block):
    try:
        distributed.get_worker()
    except ValueError:
        return block
    raise ReconError("This fails on purpose.", "Do nothing.")


@pytest.mark.parametrize("nowhere", ["tcp://127.0.0.1:9", "no address", "tcp://no-port"])
def test_a_scheduler_that_is_not_there_is_told(tmp_path, image, trained, monkeypatch, nowhere):
    monkeypatch.setattr("napari_recon.inference.cluster.PATIENCE", 1)
    with pytest.raises(ReconError, match="No scheduler answers"):
        api.denoise(image, trained, out=tmp_path / "a.zarr", scheduler=nowhere, **SMALL)


def test_a_scheduler_without_workers_is_told(tmp_path, image, trained, monkeypatch):
    monkeypatch.setattr("napari_recon.inference.cluster.PATIENCE", 1)
    empty = distributed.LocalCluster(n_workers=0, dashboard_address=":0")
    with empty as cluster, pytest.raises(ReconError, match="no workers"):
        api.denoise(image, trained, out=tmp_path / "a.zarr", scheduler=cluster.scheduler_address, **SMALL)
