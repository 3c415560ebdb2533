"""Devices: named as users name them, refused with the names there are, memory limited on request."""

import psutil
import pytest
import torch

from napari_recon.device import (
    choose_device,
    choose_precision,
    describe_devices,
    free_memory,
    is_out_of_memory,
)
from napari_recon.errors import ReconError


def test_the_cpu_is_always_there_and_comes_last():
    devices = describe_devices()
    assert devices[-1].name == "cpu"
    assert "thread" in devices[-1].label
    if len(devices) == 1:
        assert devices[0].note  # why there is nothing faster


def test_auto_is_the_first_of_the_list_and_every_name_in_it_can_be_chosen():
    devices = describe_devices()
    assert choose_device() == choose_device("auto") == torch.device(devices[0].name)
    for device in devices:
        assert choose_device(device.name) == torch.device(device.name)


@pytest.mark.parametrize("name", ["cuda:99", "tpu", "", "CPU:7", "meta"])
def test_an_unknown_device_is_refused_with_those_there_are(name):
    with pytest.raises(ReconError, match="no device") as caught:
        choose_device(name)
    assert "cpu" in caught.value.hint


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_asking_for_a_gpu_that_is_not_there_tells_why():
    with pytest.raises(ReconError, match=r"cuda.*\(.+\)"):
        choose_device("cuda")


def test_precision_is_what_was_asked_for_and_auto_is_one_of_the_two():
    cpu = torch.device("cpu")
    assert choose_precision(cpu, "float32") is torch.float32
    assert choose_precision(cpu, "bfloat16") is torch.bfloat16
    assert choose_precision(cpu) in (torch.float32, torch.bfloat16)
    assert choose_precision(cpu, dimensions=3) is torch.float32
    with pytest.raises(ReconError, match="float16") as caught:
        choose_precision(cpu, "float16")
    assert "bfloat16" in caught.value.hint


def test_free_memory_is_limited_on_request(monkeypatch):
    monkeypatch.delenv("NAPARI_RECON_MEMORY_GB", raising=False)
    assert 0 < free_memory("cpu") <= psutil.virtual_memory().total
    monkeypatch.setenv("NAPARI_RECON_MEMORY_GB", "0.25")
    assert free_memory(torch.device("cpu")) == 2**28
    monkeypatch.setenv("NAPARI_RECON_MEMORY_GB", "1e9")
    assert free_memory("cpu") <= psutil.virtual_memory().total


@pytest.mark.parametrize("limit", ["lots", "-1", "0", "nan"])
def test_a_limit_that_is_none_is_told(monkeypatch, limit):
    monkeypatch.setenv("NAPARI_RECON_MEMORY_GB", limit)
    with pytest.raises(ReconError, match="NAPARI_RECON_MEMORY_GB") as caught:
        free_memory("cpu")
    assert caught.value.hint


def test_running_out_of_memory_is_told_from_other_failures():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("wrong value"))
