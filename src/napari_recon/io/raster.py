"""PNG and JPEG: one plane, grey or colour."""

import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from PIL.PngImagePlugin import PngInfo

from napari_recon.errors import ReconError
from napari_recon.image import Image
from napari_recon.io import _header

_ORDER = "STZYXC"
_logger = logging.getLogger(__name__)


def read(path: Path) -> Image:
    """Read a PNG or JPEG file: ``"YX"`` when grey, ``"YXC"`` when in colour.

    Palettes become colours, 1-bit images 0 and 255, and transparency is dropped (with a warning in the log
    where there is any).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
        try:
            picture = PIL.Image.open(path, formats=["PNG", "JPEG"])
        except PIL.Image.DecompressionBombError as error:
            raise ReconError(f"{path} holds too many pixels: {error}", "Save it as TIFF first.") from error
    with picture:
        if ";16B" in str(picture.tile[0].args) and picture.mode not in ("I", "I;16"):
            raise ReconError(
                f"{path} is a colour image of 16 bits, of which PNG readers keep only 8.", "Save it as TIFF."
            )
        picture.load()
        comment = picture.info.get(_header.KEY) or picture.info.get("comment") or ""
        array = _pixels(picture, path)
    text = comment.decode("latin-1") if isinstance(comment, bytes) else str(comment)
    plain = Image(array, "YX" if array.ndim == 2 else "YXC")
    return _header.restore(array, text) or plain


def write_png(path: Path, image: Image) -> None:
    """Write grey images of 8 or 16 bits, and colour images of 8 bits."""
    info = PngInfo()
    info.add_text(_header.KEY, _header.dump(image, _ORDER))
    _write(path, image, "PNG", pnginfo=info)


def write_jpeg(path: Path, image: Image) -> None:
    """Write grey and colour images of 8 bits, at high quality but with the loss that JPEG brings."""
    comment = _header.dump(image, _ORDER).encode("ascii")
    _write(path, image, "JPEG", quality=95, subsampling=0, comment=comment)


def check_png(image: Image) -> None:
    """Raise `ReconError` for what PNG cannot hold; the pixels are not looked at."""
    _check(image, "PNG", (np.uint8, np.uint16))


def check_jpeg(image: Image) -> None:
    """Raise `ReconError` for what JPEG cannot hold; the pixels are not looked at."""
    _check(image, "JPEG", (np.uint8,))


def _pixels(picture: PIL.Image.Image, path: Path) -> np.ndarray[Any, Any]:
    if picture.mode in ("I", "I;16"):
        return np.asarray(picture).astype(np.uint16)
    if picture.has_transparency_data and picture.convert("RGBA").getchannel("A").getextrema()[0] != 255:
        _logger.warning("%s is partly transparent: its transparency is dropped.", path)
    return np.asarray(picture.convert("L" if picture.mode in ("1", "L", "LA") else "RGB"))


def _check(image: Image, name: str, dtypes: tuple[type, ...]) -> None:
    channels = image.size("C")
    if any(image.size(a) > 1 for a in "STZ") or channels not in (1, 3):
        raise ReconError(
            f"{name} holds one plane with 1 or 3 channels, not {image.axes} of {image.shape}.",
            "Save it as TIFF.",
        )
    colour = channels == 3
    if image.dtype not in dtypes or (colour and image.dtype != np.uint8):
        raise ReconError(
            f"{name} cannot hold {'colours' if colour else 'pixels'} of type {image.dtype}.",
            "Save it as TIFF, or convert it to uint8 first.",
        )


def _write(path: Path, image: Image, name: str, **options: Any) -> None:
    array = _header.arrange(image, _ORDER)[0, 0, 0]
    array = array if array.shape[-1] == 3 else array[..., 0]
    # Through memory: when a disk is full, Pillow's own writer does not say so.
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(array)).save(buffer, name, **options)
    path.write_bytes(buffer.getbuffer())
