"""Write what a panel does as lines of Python."""

from pathlib import Path
from typing import Any

from napari_recon.plugin._layers import Snapshot


def script(verbs: list[str], source: Snapshot, *lines: str) -> str:
    """Write a script that loads an image and goes on with `lines`; `verbs` are what these import."""
    return compose(verbs, load_line(source, "image"), *lines)


def compose(verbs: list[str], *lines: str) -> str:
    """Write a script that imports `verbs`, and what its lines load images with."""
    text = "\n".join(lines)
    names = [name for name in ("Image", "read_image") if f"{name}(" in text] + verbs
    return f"from napari_recon import {', '.join(names)}\n\n{text}\n"


def load_line(source: Snapshot | None, variable: str) -> str:
    """Write the line that loads what a snapshot holds."""
    assert source is not None
    axes = source.image.axes
    cut = ", ".join(f"{a!r}: slice({s.start}, {s.stop})" for a, s in source.slices.items())
    crop = f".crop({{{cut}}})" if cut else ""
    if source.path is not None:
        return f"{variable} = read_image({str(source.path)!r}, axes={axes!r}){crop}"
    # Not from a file: in napari's own console the layer is at hand.
    part = ("[0]" if source.multiscale else "") + ("[..., :3]" if source.rgb else "")  # neither levels nor transparency
    return f"{variable} = Image(viewer.layers[{source.name!r}].data{part}, {axes!r}){crop}"


def chosen(options: dict[str, Any]) -> dict[str, Any]:
    """Leave out the options that say nothing."""
    return {k: v for k, v in options.items() if v is not None and v is not False and v != "auto"}


def arguments(*positional: str, **named: Any) -> str:
    """Write the arguments of a call; empty ones are left out."""
    texts = {k: repr(str(v)) if isinstance(v, Path) else repr(v) for k, v in named.items()}
    return ", ".join([*(p for p in positional if p), *(f"{k}={v}" for k, v in texts.items())])


def model_text(model: Any) -> str:
    """Write a model as an argument: its name, or its file."""
    if isinstance(model, Path):
        return repr(model.stem if model.parent.name == "pretrained" else str(model))
    return repr(f"{model.name}.safetensors")
