"""`TrainedModel`: one .safetensors file that rebuilds its own network, and runs no code when read."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from napari_recon.config import Config
from napari_recon.data.normalization import Normalization
from napari_recon.errors import ReconError
from napari_recon.io._files import make_folder, replacing
from napari_recon.models import ModelSpec, get_family
from napari_recon.models._winograd import lay_out

FORMAT = 1
KEY = "napari-recon"

_logger = logging.getLogger(__name__)


@dataclass
class TrainedModel:
    """Weights with everything needed to use them.

    Parameters
    ----------
    family : str
        Key of the family in `napari_recon.models.MODELS`.
    config : Config
        Which network of that family.
    weights : dict of str to Tensor
        Its state, on the CPU.
    normalization : Normalization or None
        Measured on the training data; None when each image is measured on its own.
    provenance : dict
        Where it came from: data, seed, steps, versions, scores, licence (JSON types).
    name : str
        Name to show.
    stopped : bool
        Whether training was stopped before its budget was used.
    """

    family: str
    config: Config
    weights: dict[str, Tensor] = field(repr=False)  # pages of numbers
    normalization: Normalization | None
    provenance: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    stopped: bool = False
    _network: nn.Module | None = field(default=None, repr=False, compare=False)

    @property
    def spec(self) -> ModelSpec:
        """What the network needs and gives."""
        return get_family(self.family).spec(self.config)

    @property
    def hash(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the weights."""
        digest = hashlib.sha256()
        for key in sorted(self.weights):
            digest.update(self.weights[key].contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    def network(self, device: torch.device | str = "cpu") -> nn.Module:
        """Build the network with its weights, in evaluation mode; kept for the next call."""
        if self._network is None:
            build = get_family(self.family).build
            with torch.device("meta"):  # compare before anything is allocated: a damaged file may describe a giant
                expected = {k: v.shape for k, v in build(self.config).state_dict().items()}
            if expected != {k: v.shape for k, v in self.weights.items()}:
                raise ReconError(
                    f"The weights of {self.name or 'this model'} do not fit its network.",
                    "The file was altered or is damaged: get it again.",
                )
            network = build(self.config)
            network.load_state_dict({k: v.float() for k, v in self.weights.items()})
            self._network = lay_out(network.eval().requires_grad_(False), device)
        return self._network.to(device)

    def release(self) -> None:
        """Let go of the network and its memory; it is built anew when it is needed."""
        self._network = None

    def describe(self) -> dict[str, Any]:
        """Everything but the weights, as JSON types."""
        return {
            "format": FORMAT,
            "family": self.family,
            "name": self.name,
            "config": self.config.to_json(),
            "normalization": self.normalization.to_json() if self.normalization else None,
            "provenance": self.provenance,
        }

    def save(self, path: str | Path, *, half: bool = False) -> Path:
        """Write the model to `path`, whole or not at all.

        Parameters
        ----------
        path : path
            Gets the suffix ``.safetensors`` when it has none.
        half : bool
            Store the weights in half precision.

        Raises
        ------
        ReconError
            When it cannot be written.
        """
        path = Path(path).expanduser()
        if path.suffix != ".safetensors":
            path = path.with_name(path.name + ".safetensors")
        weights = {k: (v.half() if half and v.is_floating_point() else v).contiguous() for k, v in self.weights.items()}
        make_folder(path.parent)
        with replacing(path) as temporary:
            try:
                save_file(weights, temporary, metadata={KEY: json.dumps(self.describe())})
            except SafetensorError as error:  # its way to report what the file system refused
                raise OSError(str(error)) from error
        return path

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a model file.

        Raises
        ------
        ReconError
            When the file is missing, damaged, not a model of napari-recon, or from a newer version of it.
        """
        path = Path(path).expanduser()
        if not path.is_file():
            raise ReconError(
                f"There is no model file {path}.", "Check the path; `napari-recon models` lists those known."
            )
        try:
            with safe_open(path, framework="pt") as file:
                text = (file.metadata() or {}).get(KEY)
                # Copies, for the tensors themselves lie in the file: cutting it would end this program.
                weights = {k: file.get_tensor(k).clone() for k in file.keys()}  # noqa: SIM118 (not a mapping)
        except (SafetensorError, OSError) as error:
            raise ReconError(f"{path} is damaged or is not a model file.", "Get or train it again.") from error
        if text is None:
            raise ReconError(f"{path} is not a model of napari-recon.", "Choose a file that it saved.")
        return cls._from_description(path, text, weights)

    @classmethod
    def _from_description(cls, path: Path, text: str, weights: dict[str, Tensor]) -> Self:
        try:
            values = json.loads(text)
            version = int(values["format"])
            if version > FORMAT:
                raise ReconError(f"{path} was saved by a newer napari-recon.", "Update napari-recon to use it.")
            family = str(values["family"])
            normalization = values["normalization"]
            model = cls(
                family=family,
                config=get_family(family).config.from_json(values["config"]),
                weights=weights,
                normalization=None if normalization is None else Normalization.from_json(normalization),
                provenance=_unaltered(values["provenance"], path),
                name=str(values["name"]) or path.stem,
            )
            if normalization is None and not (model.spec.noise_aware or model.spec.task == "upscale"):
                raise ValueError("only models for images of any intensities come without a normalization")
            return model
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise ReconError(f"The description inside {path} is damaged.", "Get or train it again.") from error


# What of the provenance is read again, and how it must be.
_READ: dict[str, Callable[[Any], object]] = {
    "calibration": lambda v: 0 < float(v["factor"]) < math.inf,
    "data": lambda v: isinstance(v, str) or all(isinstance(d, dict) and "name" in d for d in v),
    "psf": lambda v: np.asarray(v, np.float32).ndim == 2 and np.isfinite(v).all(),
    "roughness": lambda v: np.shape(v) == (2,) and np.isfinite(v).all(),
}


def _unaltered(provenance: Any, path: Path) -> dict[str, Any]:
    """Leave out, with a note, what was altered by hand so that it cannot be used."""
    kept = dict(provenance) if isinstance(provenance, dict) else {}
    altered = [] if isinstance(provenance, dict) else ["all of it"]
    for key, check in _READ.items():
        try:
            good = kept.get(key) is None or check(kept[key])
        except (TypeError, ValueError, KeyError, OverflowError):
            good = False
        if not good:
            del kept[key]
            altered.append(key)
    if altered:
        _logger.warning("The provenance in %s was altered; left out: %s.", path, ", ".join(altered))
    return kept
