"""What the rest of the program needs to know about a network, so that nothing special-cases a family."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelSpec:
    """Describes a network to tiling, widgets and exports.

    Parameters
    ----------
    task : str
        The verb it serves, such as ``"denoise"``.
    axes : str
        Spatial axes it works on at once: ``"YX"`` or ``"ZYX"``.
    channels : int
        Channels it takes jointly; 1 means that every channel is an image of its own.
    scale : int
        Output pixels per input pixel along each spatial axis.
    size_multiple : int
        Its input must be a multiple of this along Y and X (and Z).
    receptive_field : int
        Pixels that can change an output pixel, in each direction beyond the cell of `size_multiple` pixels that it
        lies in.
    noise_aware : bool
        Whether the network takes the noise level as a second argument.
    guided : bool
        Whether the network takes the universal denoiser's answer to its input as a second argument.
    keeps_light : bool
        Whether each input pixel is to be the mean of the pixels made of it, where the image has little noise.
    attention : bool
        Whether the network has attention gates, which an attention map can show.
    """

    task: str
    axes: str
    channels: int
    size_multiple: int
    receptive_field: int
    scale: int = 1
    noise_aware: bool = False
    guided: bool = False
    keeps_light: bool = False
    attention: bool = False
