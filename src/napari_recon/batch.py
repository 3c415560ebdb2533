"""A verb over a folder of images: what is done is skipped, what fails is listed, the rest goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from napari_recon import api
from napari_recon.api.models import Model, model_for
from napari_recon.errors import ReconError
from napari_recon.io import FORMATS, check_format
from napari_recon.io._files import check_local, is_store, make_folder
from napari_recon.progress import CancelToken, ProgressCallback, ProgressEvent

VERBS = ("denoise", "sample", "upscale")


@dataclass
class Entry:
    """What became of one file: ``"done"``, ``"skipped"`` (was done before) or ``"failed"``."""

    input: str
    outputs: dict[str, str]
    status: str
    seconds: float = 0.0
    error: str = ""


def batch(
    verb: str,
    folder: str | Path,
    out: str | Path,
    model: Model | None = None,
    *,
    pattern: str = "**/*",
    suffix: str | None = None,
    axes: str | None = None,
    on_progress: ProgressCallback | None = None,
    on_entry: Callable[[Entry], None] | None = None,
    cancel: CancelToken | None = None,
    **options: Any,
) -> list[Entry]:
    """Denoise, sample or upscale all images of a folder.

    Parameters
    ----------
    verb : {"denoise", "sample", "upscale"}
        What to do.
    folder, out : path
        Where the images are, and where the results go, in folders of the same names; made when missing.
    model : TrainedModel, str or path, optional
        Loaded once; the verb's own choice when left out.
    pattern : str
        Which files, as in `pathlib.Path.glob`; those of other formats are passed over.
    suffix : str, optional
        Format of the results, such as ``".ome.zarr"``; that of each image when left out, and TIFF for PNG and JPEG.
    axes : str, optional
        Axes of the images, when their files do not say.
    on_progress, cancel
        Receives events; stops the run, and what is done stays.
    on_entry : callable, optional
        Receives what became of each image as soon as it is known, also of a run that is stopped later.
    **options
        For the verb; of `sample` with its ``outputs`` (mean and std when left out), each in a file of its own.

    Returns
    -------
    list of Entry
        One for each image. An image whose results are all there, and newer, is skipped; one that fails does not stop
        the others.

    Raises
    ------
    ReconError
        When there is no such folder, no image in it, or no such model.
    Cancelled
        When stopped.
    """
    source, target = Path(folder).expanduser(), Path(out).expanduser()
    check_local(target)
    loaded = model_for(verb, model)
    files = find_images(source, pattern, target)
    plan = {path: _outputs(verb, target / path.relative_to(source), suffix, options) for path in files}
    _check_apart(plan)
    entries = []
    for number, (path, paths) in enumerate(plan.items()):
        if on_progress is not None:
            on_progress(ProgressEvent("batch", number, len(files), message=str(path.relative_to(source))))
        entry = Entry(str(path), {name: str(p) for name, p in paths.items()}, "skipped")
        start = time.monotonic()
        try:
            if not all(_is_newer(p, path) for p in paths.values()):
                _one(verb, path, paths, loaded, axes, {**options, "on_progress": on_progress, "cancel": cancel})
                entry.status = "done"
        except (ReconError, OSError) as error:
            entry.status, entry.error = "failed", str(error)
        if entry.status != "skipped":
            entry.seconds = round(time.monotonic() - start, 2)
        entries.append(entry)
        if on_entry is not None:
            on_entry(entry)
    return entries


def find_images(folder: Path, pattern: str, without: Path) -> list[Path]:
    """Return the images of a folder, sorted; what lies inside a store or in `without` is none of them.

    Raises
    ------
    ReconError
        When there are none.
    """
    if not folder.is_dir():
        raise ReconError(f"There is no folder {folder}.", "Check its name.")
    if ".." in Path(pattern).parts:  # the results would lie as far outside of their folder, perhaps over the images
        raise ReconError(f"The pattern {pattern!r} leads out of the folder.", "Give that folder instead.")
    inside = without.resolve()
    if inside in (folder.resolve(), *folder.resolve().parents):
        raise ReconError(f"{folder} lies in the folder for the results.", "Choose another folder for the results.")
    try:
        matching = sorted(folder.glob(pattern))
    except (ValueError, NotImplementedError) as error:
        raise ReconError(f"The pattern {pattern!r} cannot be used ({error}).", "Use one such as '**/*.tif'.") from error
    found = [p for p in matching if _is_image(p, folder) and inside not in p.resolve().parents]
    if not found:
        raise ReconError(
            f"No image in {folder} fits {pattern!r}.", f"Formats are {', '.join(FORMATS)}; change the pattern."
        )
    return found


def summary(entries: list[Entry]) -> dict[str, Any]:
    """Return the entries and how many there are of each status, as JSON types."""
    counts = {s: sum(e.status == s for e in entries) for s in ("done", "skipped", "failed")}
    return {**counts, "files": [asdict(e) for e in entries]}


def _is_image(path: Path, folder: Path) -> bool:
    known = [form for suffix, form in FORMATS.items() if path.name.lower().endswith(suffix)]
    # Hidden ones are no images of the user: macOS adds such a file to every one on a foreign disk, trash has a folder.
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    if not known or hidden or known[0].folder != path.is_dir():
        return False
    return not any(is_store(parent) for parent in path.parents if folder in parent.parents)


def _outputs(verb: str, path: Path, suffix: str | None, options: dict[str, Any]) -> dict[str, Path]:
    own = max((s for s in FORMATS if path.name.lower().endswith(s)), key=len)
    wanted = suffix or {".png": ".tif", ".jpg": ".tif", ".jpeg": ".tif"}.get(own, own)
    if wanted not in FORMATS:
        raise ReconError(f"{wanted!r} is not the suffix of an image format.", f"Use one of {', '.join(FORMATS)}.")
    stem = path.name[: -len(own)]
    if verb != "sample":
        return {"output": path.with_name(stem + wanted)}
    return {name: path.with_name(f"{stem}_{name}{wanted}") for name in options.get("outputs", ("mean", "std"))}


def _check_apart(plan: dict[Path, dict[str, Path]]) -> None:
    """Raise when two images would have the same result."""
    taken: dict[Path, Path] = {}
    for path, paths in plan.items():
        for result in paths.values():
            other = taken.setdefault(result, path)
            if other != path:
                raise ReconError(f"{other} and {path} would both become {result}.", "Take one of them by a pattern.")


def _is_newer(path: Path, source: Path) -> bool:
    return path.exists() and path.stat().st_mtime >= source.stat().st_mtime


def _one(verb: str, path: Path, paths: dict[str, Path], model: Any, axes: str | None, options: dict[str, Any]) -> None:
    """Do one image."""
    image = api.read_image(path, axes=axes)
    for file in paths.values():
        check_format(file, image, image.dtype if options.get("keep_dtype") else "float32")
    make_folder(next(iter(paths.values())).parent)
    streamed = all(form.folder for p in paths.values() for s, form in FORMATS.items() if p.name.lower().endswith(s))
    if verb == "sample":
        wanted: dict[str, Any] = {"out": paths} if streamed else {"outputs": tuple(paths)}
        made: Any = api.sample(image, model, **{**options, **wanted})
        results = {} if streamed else {name: getattr(made, name) for name in paths}
    else:
        out = {"out": paths["output"]} if streamed else {}
        made = getattr(api, verb)(image, model, **options, **out)
        results = {} if streamed else {"output": made}
    for name, result in results.items():
        api.write_image(paths[name], result)
