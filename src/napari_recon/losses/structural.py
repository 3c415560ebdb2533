"""A distance that follows local structure rather than single pixels."""

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_recon.losses.reconstruction import l1

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of Wang et al., from the finest scale on
WINDOW, SIGMA = 11, 1.5
STABILISER = 0.03**2  # next to variances; images are normalised to a standard deviation near one
STRUCTURE_SHARE = 0.84  # beside absolute error, after Zhao et al.


def ms_ssim(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Multi-scale structural similarity, turned into a distance and mixed with the absolute error.

    Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality assessment" (Asilomar 2003), mixed
    as by Zhao et al., "Loss functions for image restoration with neural networks" (2017). Contrast and structure are
    compared at as many of its five scales as the images have room for; not brightness, since normalised images have
    no black.

    Parameters
    ----------
    prediction, target : Tensor
        (N, C, Y, X), at least 11 pixels on a side, of a standard deviation near one.
    weight : Tensor or None
        0 where a pixel does not count.
    """
    if weight is not None:
        prediction = torch.where(weight > 0, prediction, target)
    similar = prediction.new_ones(())
    x, y = prediction, target
    for share in SCALE_WEIGHTS:
        if min(x.shape[2:]) < WINDOW:
            break
        similar = similar * _contrast_structure(x, y).clamp_min(1e-4) ** share
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return STRUCTURE_SHARE * (1 - similar) + (1 - STRUCTURE_SHARE) * l1(prediction, target, weight)


def _contrast_structure(x: Tensor, y: Tensor) -> Tensor:
    """Mean over all windows of their covariance next to their variances: 1 for equal images."""
    c = x.shape[1]
    place = torch.arange(WINDOW, device=x.device, dtype=x.dtype) - WINDOW // 2
    line = torch.exp(-0.5 * (place / SIGMA) ** 2)
    line = line / line.sum()
    kernel = (line[:, None] * line).expand(c, 1, WINDOW, WINDOW)

    def mean(image: Tensor) -> Tensor:
        return F.conv2d(image, kernel, groups=c)

    mean_x, mean_y = mean(x), mean(y)
    covariance = mean(x * y) - mean_x * mean_y
    variances = mean(x * x) - mean_x.square() + mean(y * y) - mean_y.square()
    similarity: Tensor = ((2 * covariance + STABILISER) / (variances + STABILISER)).mean()
    return similarity
