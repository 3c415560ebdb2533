"""Learned image reconstruction for napari, Python and the command line: no labels needed.

The public names are looked up when they are first used, so that importing the package (which napari does
at its start, for every plugin) costs nothing: neither torch nor Qt nor numpy is imported here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_recon._version import __version__

if TYPE_CHECKING:
    from napari_recon.api import (
        attention_map,
        complete,
        decode,
        denoise,
        encode,
        evaluate,
        generate,
        interpolate,
        latent_factors,
        lazily,
        list_models,
        load_model,
        measure_noise,
        read_image,
        sample,
        save_model,
        train,
        traverse,
        upscale,
        write_image,
    )
    from napari_recon.errors import ReconError
    from napari_recon.image import Image
    from napari_recon.progress import CancelToken, ProgressEvent

__all__ = [
    "CancelToken",
    "Image",
    "ProgressEvent",
    "ReconError",
    "__version__",
    "attention_map",
    "complete",
    "decode",
    "denoise",
    "encode",
    "evaluate",
    "generate",
    "interpolate",
    "latent_factors",
    "lazily",
    "list_models",
    "load_model",
    "measure_noise",
    "read_image",
    "sample",
    "save_model",
    "train",
    "traverse",
    "upscale",
    "write_image",
]

# Names that are not verbs of the api, with the light module that holds them.
_ELSEWHERE = {
    "CancelToken": "progress",
    "Image": "image",
    "ProgressEvent": "progress",
    "ReconError": "errors",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_ELSEWHERE.get(name, 'api')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
