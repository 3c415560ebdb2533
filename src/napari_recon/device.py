"""Which device computes, in which precision, and how much memory it has. Imports torch only when asked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_recon.errors import ReconError
from napari_recon.memory import available_memory

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class DeviceInfo:
    """One device as a user sees it.

    Parameters
    ----------
    name : str
        What to pass as ``device=``: ``"cpu"``, ``"cuda:0"``, ``"mps"``.
    label : str
        For people, such as ``"CPU, 8 threads"``.
    note : str
        Why nothing faster is here, empty when there is nothing to say.
    """

    name: str
    label: str
    note: str = ""


def describe_devices() -> list[DeviceInfo]:
    """List the devices of this machine, the one that ``"auto"`` chooses first."""
    import torch

    devices = [
        DeviceInfo(f"cuda:{i}", f"{torch.cuda.get_device_name(i)}, {_gigabytes(free_memory(f'cuda:{i}'))} free")
        for i in range(torch.cuda.device_count())
    ]
    if torch.backends.mps.is_available():
        devices.append(DeviceInfo("mps", "Apple GPU"))
    note, threads = "", torch.get_num_threads()
    if not devices:
        built = torch.version.cuda or getattr(torch.version, "hip", None)
        note = "no GPU was found" if built else "torch has no CUDA build"
    devices.append(DeviceInfo("cpu", f"CPU, {threads} thread{'s' if threads > 1 else ''}", note))
    return devices


def choose_device(name: str = "auto") -> torch.device:
    """Turn a device name into a torch device.

    Parameters
    ----------
    name : str
        ``"auto"`` (the fastest present), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.

    Raises
    ------
    ReconError
        When there is no such device here.
    """
    import torch

    known = describe_devices()
    if name == "auto":
        return torch.device(known[0].name)
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in {d.name for d in known}:
        why = f" ({known[-1].note})" if known[-1].note else ""
        raise ReconError(
            f"There is no device {name!r} here{why}.", f"Use 'auto' or one of: {', '.join(d.name for d in known)}."
        )
    return torch.device(wanted)


def choose_precision(device: torch.device, wanted: str = "auto", dimensions: int = 2) -> torch.dtype:
    """Decide between float32 and bfloat16.

    Parameters
    ----------
    device : torch.device
        Where it will be computed.
    wanted : str
        ``"float32"``, ``"bfloat16"``, or ``"auto"``: bfloat16 where the device has arithmetic for it.
    dimensions : int
        Of the network's convolutions, 2 or 3. In 3D a CPU computes in float32 unless told otherwise: in bfloat16
        convolutions of few channels now and then gave values that are not finite (torch 2.13).
    """
    import torch

    if wanted not in ("auto", "float32", "bfloat16"):
        raise ReconError(f"There is no precision {wanted!r}.", "Use 'auto', 'float32' or 'bfloat16'.")
    if wanted == "auto":
        suits = device.type != "cpu" or dimensions == 2
        wanted = "bfloat16" if suits and _bfloat16_is_faster(device) else "float32"
    return torch.bfloat16 if wanted == "bfloat16" else torch.float32


def _bfloat16_is_faster(device: torch.device) -> bool:
    """Whether it has arithmetic for it: by what it says of itself, so that no other load changes a result."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False
    # torch before 2.13 does not tell; then float32.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def free_memory(device: torch.device | str) -> int:
    """Bytes that a job may still use on a device; NAPARI_RECON_MEMORY_GB limits it on a CPU.

    Raises
    ------
    ReconError
        When that variable holds no positive number.
    """
    name = str(device)
    if name.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(name)[0])
    available = available_memory()
    limit = os.environ.get("NAPARI_RECON_MEMORY_GB")
    if not limit:
        return available
    try:
        count = float(limit) * 2**30
    except ValueError:
        count = float("nan")
    if not count > 0:
        raise ReconError(
            f"The environment variable NAPARI_RECON_MEMORY_GB is {limit!r}, which is no amount of memory.",
            "Set it to a number of gigabytes such as 8, or remove it.",
        )
    return int(min(available, count))


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception says that a device has no memory left; torch has no class for it on the CPU."""
    phrases = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or any(phrase in str(error).lower() for phrase in phrases)


def _gigabytes(count: int) -> str:
    return f"{count / 2**30:.0f} GB"
