"""The entries of ``File > Open Sample``: small real micrographs that ship with the plugin.

Sources and licences are in ``samples/LICENCES.md``. A noisy image with a long exposure of the same
field opens as two layers, the noisy one on top and selected, so that a result can be judged by eye and by
`evaluate`.
"""

from importlib.resources import as_file, files
from typing import Any

from napari_recon.image import Image
from napari_recon.io import read_image

LayerData = tuple[Any, dict[str, Any], str]

_HAGEN = {"licence": "CC0-1.0", "citation": "Hagen et al., GigaScience 10(5), giab032, 2021"}
_BBBC = {"licence": "CC0-1.0", "citation": "Ljosa et al., Nature Methods 9, 637, 2012 (BBBC)"}
_DHM = {"licence": "CC0-1.0", "citation": "skimage.data.cell of scikit-image"}
_STARDIST = {"licence": "BSD-3-Clause", "citation": "Weigert et al., WACV 2020 (StarDist test images)"}


def noisy_nucleus() -> list[LayerData]:
    """Open a nucleus: short exposure, and long exposure of the same field."""
    return _pair("nucleus", "Nucleus", "bop blue")


def noisy_mitochondria() -> list[LayerData]:
    """Open mitochondria: short exposure, and long exposure of the same field."""
    return _pair("mito-60x-noise1", "Mitochondria", "green")


def noisy_membrane() -> list[LayerData]:
    """Open a membrane with spatially correlated noise: short and long exposure of the same field."""
    return _pair("membrane", "Membrane", "magenta")


def nuclei_2d() -> list[LayerData]:
    """Open fluorescent nuclei."""
    return [_layer(_read("BBBC038_nuclei.tif"), "Nuclei", "gray", _BBBC)]


def nuclei_3d() -> list[LayerData]:
    """Open a small noisy volume of nuclei."""
    return [_layer(_read("stardist_img3d.tif"), "Nuclei 3D", "gray", _STARDIST)]


def cell_painting() -> list[LayerData]:
    """Open three channels of a Cell Painting assay, one layer each."""
    image = _read("BBBC022_3channel.tif")
    return [
        _layer(image, f"Cell Painting channel {index + 1}", colormap, _BBBC, index=index, blending="additive")
        for index, colormap in enumerate(("blue", "green", "red"))
    ]


def phase_cell() -> list[LayerData]:
    """Open a cell in digital holographic microscopy."""
    image = _read("skimage_cell_dhm.png")
    # The pixel size is published with the image; the PNG itself does not hold it.
    return [_layer(image, "Cell, phase", "gray", _DHM, scale=(0.107, 0.107), units=("um", "um"))]


def _pair(stem: str, name: str, colormap: str) -> list[LayerData]:
    noisy, clean = _read(f"{stem}_lowsnr.png"), _read(f"{stem}_highsnr.png")
    # napari selects the layer that was added last: that must be the one to denoise.
    return [
        _layer(clean, f"{name}, long exposure", colormap, _HAGEN, visible=False),
        _layer(noisy, f"{name}, noisy", colormap, _HAGEN),
    ]


def _read(filename: str) -> Image:
    with as_file(files(__package__) / "samples" / filename) as path:
        return read_image(path)


def _layer(
    image: Image, name: str, colormap: str, origin: dict[str, str], index: int | None = None, **extra: Any
) -> LayerData:
    array, axes = image.array, image.axes
    if index is not None:
        array, axes = array[index], axes[1:]
    attributes = {"name": name, "colormap": colormap, "metadata": {"sample": origin}}
    return array, attributes | {"axis_labels": tuple(axes.lower())} | extra, "image"
