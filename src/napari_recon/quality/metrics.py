"""How near an image comes to a reference: PSNR, scale-invariant PSNR, SSIM and NRMSE."""

import math
from importlib import import_module
from typing import Any

import numpy as np

from napari_recon.axes import to_batch
from napari_recon.errors import ReconError
from napari_recon.image import Image, as_image

_Array = np.ndarray[Any, np.dtype[np.float64]]
_WINDOW = 7


def _skimage() -> Any:
    """Return `skimage.metrics`, which brings scipy.stats along and so takes seconds to import."""
    return import_module("skimage.metrics")


def psnr(reference: Any, image: Any, data_range: float | None = None) -> float:
    """Peak signal-to-noise ratio.

    Parameters
    ----------
    reference, image : Image or array
        Ground truth and what is compared with it, of the same shape. Two `Image`s whose axes differ in their
        order only are aligned.
    data_range : float or None
        Span of the values that count as the peak; None for maximum minus minimum of the reference.

    Returns
    -------
    float
        Decibels; infinite for identical images.

    Raises
    ------
    ReconError
        When the shapes differ, a pixel is not finite, or the reference is constant and no range is given.
    """
    truth, values = _planes(reference, image)
    return _psnr(truth, values, _range(truth, data_range))


def si_psnr(reference: Any, image: Any) -> float:
    """Scale-invariant PSNR: PSNR after the mean is taken off both and the image scaled by least squares.

    The peak is the maximum minus the minimum of the reference. Parameters, result and errors as for `psnr`.

    References
    ----------
    Weigert et al., "Content-aware image restoration", Nature Methods 15 (2018).
    """
    truth, values = _planes(reference, image)
    peak = _range(truth, None)
    truth = truth - truth.mean()
    values = values - values.mean()
    power = float(np.vdot(values, values))
    factor = float(np.vdot(values, truth)) / power if power > 0 else 0.0
    return _psnr(truth, factor * values, peak)


def ssim(reference: Any, image: Any, data_range: float | None = None) -> float:
    """Structural similarity (Wang et al. 2004), the mean over all planes and channels.

    Windows are uniform, 7 x 7 pixels, or the largest odd size that fits into a smaller plane. Parameters and
    errors as for `psnr`; planes under 3 pixels on a side are refused as well. 1 for identical images.
    """
    truth, values = _planes(reference, image)
    peak = _range(truth, data_range)
    side = min(truth.shape[1:])
    if side < 3:
        raise ReconError(
            f"SSIM needs planes of at least 3 x 3 pixels, not {truth.shape[1]} x {truth.shape[2]}.",
            "Use PSNR, or a larger image.",
        )
    window = min(_WINDOW, side - 1 + side % 2)
    scores = [
        _skimage().structural_similarity(t, v, data_range=peak, win_size=window)
        for t, v in zip(truth, values, strict=True)
    ]
    return float(np.mean(scores))


def nrmse(reference: Any, image: Any) -> float:
    """Root mean squared error, divided by maximum minus minimum of the reference; errors as for `psnr`."""
    truth, values = _planes(reference, image)
    _range(truth, None)
    return float(_skimage().normalized_root_mse(truth, values, normalization="min-max"))


def evaluate(reference: Any, image: Any, data_range: float | None = None) -> dict[str, float]:
    """Compare an image with its reference by all four measures.

    Parameters
    ----------
    reference, image, data_range
        As for `psnr`; the range counts for PSNR and SSIM.

    Returns
    -------
    dict of str to float
        ``psnr`` and ``si_psnr`` in decibels, ``ssim``, and ``nrmse``.

    Raises
    ------
    ReconError
        When the images cannot be compared, or the reference is constant.
    """
    return {
        "psnr": psnr(reference, image, data_range),
        "si_psnr": si_psnr(reference, image),
        "ssim": ssim(reference, image, data_range),
        "nrmse": nrmse(reference, image),
    }


def _planes(reference: Any, image: Any) -> tuple[_Array, _Array]:
    """Return both as float64 of shape (planes, Y, X)."""
    truth, other = as_image(reference), as_image(image)
    both_named = isinstance(reference, Image) and isinstance(image, Image)
    if both_named and set(truth.axes) == set(other.axes):
        order = [other.axes.index(a) for a in truth.axes]
        other = Image(other.array.transpose(order), truth.axes)
    if truth.shape != other.shape:
        raise ReconError(
            f"The reference is {_size(truth)}, but the image {_size(other)}.",
            "Compare images of the same shape and axes.",
        )
    planes = []
    for which, one in (("reference", truth), ("image", other)):
        values = np.asarray(to_batch(one.array, truth.axes), dtype=np.float64)
        if not np.isfinite(values).all():
            raise ReconError(f"The {which} holds NaN or infinite pixels.", "Replace or crop them first.")
        planes.append(values.reshape(-1, *values.shape[-2:]))
    return planes[0], planes[1]


def _size(image: Image) -> str:
    return f"{' x '.join(map(str, image.shape))} ({image.axes})"


def _range(truth: _Array, data_range: float | None) -> float:
    if data_range is None:
        data_range = float(truth.max() - truth.min())
        if data_range == 0:
            raise ReconError("The reference is constant.", "Compare with an image that shows something.")
    if not 0 < data_range < math.inf:
        raise ReconError(f"The data range {data_range} cannot be used.", "Give a number above 0, such as 255.")
    return data_range


def _psnr(truth: _Array, values: _Array, peak: float) -> float:
    with np.errstate(divide="ignore"):  # identical images: infinite
        return float(_skimage().peak_signal_noise_ratio(truth, values, data_range=peak))
