"""Processes, devices and precision of a run, all from Lightning Fabric."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import torch

from napari_recon.device import choose_precision
from napari_recon.errors import ReconError
from napari_recon.training.config import TrainConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def launch(config: TrainConfig, device: torch.device, dimensions: int, resumed: str | None = None) -> Fabric:
    """Start the processes of a run, or join those that torchrun or a cluster has started.

    Parameters
    ----------
    config : TrainConfig
        Devices, nodes and precision.
    device : torch.device
        Kind of device, and which one when there is but one process; `Fabric.device` is each process's own.
    dimensions : int
        Of the network, 2 or 3.
    resumed : str, optional
        Precision of the run that is resumed, in Fabric's words: another machine might choose another.

    Raises
    ------
    ReconError
        When there are not as many devices or processes as asked for.
    """
    from lightning_fabric import Fabric  # takes seconds to import, and predicting does without
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    alone = config.devices * config.nodes == 1
    started = int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_STEP_NUM_TASKS") or 1)
    if alone and started > 1:
        raise ReconError(f"{started} processes were started to train on one device.", f"Add devices={started}.")
    precision = resumed
    if precision is None or config.precision != "auto":
        chosen = choose_precision(device, config.precision, dimensions)
        precision = "bf16-mixed" if chosen == torch.bfloat16 else "32-true"
    cores = os.cpu_count() or 1
    if device.type == "cpu" and config.devices > cores:  # Fabric would start them all
        raise ReconError(f"{config.devices} processes are more than the {cores} cores here.", "Give fewer devices.")
    # Fabric announces its precision on stderr, which is the progress bar's.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        fabric = Fabric(
            accelerator=device.type,
            devices=config.devices if config.devices > 1 or device.index is None else [device.index],
            num_nodes=config.nodes,
            precision=precision,  # type: ignore[arg-type]
            # Else a napari that runs in a SLURM job of several tasks, such as a remote desktop, is refused.
            plugins=LightningEnvironment() if alone else None,
        )
        fabric.launch()
    except Exception as error:  # Fabric raises its own, ValueError or RuntimeError for what does not fit together
        raise ReconError(
            f"Training cannot start on {config.devices} device(s) of {config.nodes} machine(s): {error}",
            "Make devices and nodes fit what is there; with torchrun, devices is its --nproc_per_node.",
        ) from error
    return fabric
