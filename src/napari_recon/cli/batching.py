"""Commands that work on folders: `batch denoise`, `batch sample`, `batch upscale`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from napari_recon.cli._common import Axes, Device, Progress, Scheduler, print_json, stop_on_interrupt
from napari_recon.errors import Cancelled, ReconError
from napari_recon.io._files import check_writable, replacing

batch_app = App(name="batch", help="Denoise, sample or upscale all images of a folder.")

Flag = Annotated[bool, Parameter(negative=())]


@dataclass(frozen=True)
class BatchOptions:
    """What the commands have in common."""

    pattern: Annotated[str, Parameter(help="Which files, such as '**/*.tif'; folders are mirrored.")] = "**/*"
    suffix: Annotated[
        str | None, Parameter(help="Format of the results, such as .ome.zarr; else that of each image.")
    ] = None
    report: Annotated[Path | None, Parameter(help="File (.json) for what became of each image.")] = None
    axes: Axes = None
    tile_size: Annotated[int | None, Parameter(help="Side of a tile in pixels; chosen from the free memory else.")] = (
        None
    )
    device: Device = "auto"
    scheduler: Scheduler = None


How = Annotated[BatchOptions, Parameter(name="*")]
DEFAULTS = BatchOptions()


@batch_app.command
def denoise(
    folder: Path,
    out: Path,
    /,
    *,
    model: str = "universal",
    strength: float = 1.0,
    plane_by_plane: Flag = False,
    keep_dtype: Flag = False,
    how: How = DEFAULTS,
) -> None:
    """Denoise all images of a folder; what is done is skipped.

    Parameters
    ----------
    folder
        Folder of images.
    out
        Folder for the results; made when it is not there.
    model
        A model file, or a name that `napari-recon models` lists.
    strength
        0 to 1.5; 1 removes the noise that was measured.
    plane_by_plane
        Look at each plane of a stack or movie alone, not at what it shares with its neighbours.
    keep_dtype
        Round to the pixel type of each image.
    """
    options = {"strength": strength, "plane_by_plane": plane_by_plane, "keep_dtype": keep_dtype}
    _run("denoise", folder, out, model, how, **options)


@batch_app.command
def upscale(
    folder: Path,
    out: Path,
    /,
    *,
    model: str = "upscale-x2",
    fidelity: float = 1.0,
    keep_dtype: Flag = False,
    how: How = DEFAULTS,
) -> None:
    """Upscale all images of a folder; what is done is skipped.

    Parameters
    ----------
    folder
        Folder of images.
    out
        Folder for the results; made when it is not there.
    model
        A model file, or a name that `napari-recon models` lists; it has its own scale.
    fidelity
        1: faithful weights. 0: those that look sharp and invent texture. Between them: interpolated.
    keep_dtype
        Round to the pixel type of each image.
    """
    _run("upscale", folder, out, model, how, fidelity=fidelity, keep_dtype=keep_dtype)


@batch_app.command
def sample(
    folder: Path,
    out: Path,
    /,
    *,
    model: str,
    n: Annotated[int, Parameter(name=("-n", "--number"), help="Number of samples.")] = 16,
    outputs: Annotated[str, Parameter(help="Which, of samples, mean, median, std and variation.")] = "mean,std",
    seed: int = 0,
    how: How = DEFAULTS,
) -> None:
    """Sample all images of a folder, each output in a file of its own; what is done is skipped.

    Parameters
    ----------
    folder
        Folder of images.
    out
        Folder for the results; made when it is not there.
    model
        A model file of the VAE family, or a name that `napari-recon models` lists.
    seed
        The same seed gives the same samples.
    """
    names = tuple(name.strip() for name in outputs.split(","))
    _run("sample", folder, out, model, how, n=n, outputs=names, seed=seed)


def _run(verb: str, folder: Path, out: Path, model: str, how: BatchOptions, **options: Any) -> None:
    from napari_recon.batch import Entry, batch, summary
    from napari_recon.io._header import finite

    shared = asdict(how)
    report = shared.pop("report")
    if report is not None:
        if report.suffix.lower() != ".json":  # an image, say, would be replaced
            raise ReconError(f"{report} cannot be the report.", "Give a name that ends in .json.")
        if out in report.parents:
            report.parent.mkdir(parents=True, exist_ok=True)  # as the folder of results is
        check_writable(report)
    entries: list[Entry] = []
    stopped = False
    try:
        with stop_on_interrupt() as cancel, Progress() as progress:
            events: dict[str, Any] = {"on_progress": progress, "on_entry": entries.append, "cancel": cancel}
            batch(verb, folder, out, model, **events, **shared, **options)
    except (Cancelled, KeyboardInterrupt):
        stopped = True
    found = {**summary(entries), "stopped": stopped}
    try:
        print_json(found)
    finally:  # also when stdout cannot be written
        if report is not None:
            with replacing(report) as temporary:
                temporary.write_text(json.dumps(finite(found), indent=2) + "\n", encoding="utf-8")
    if stopped:
        raise Cancelled(f"Stopped after {len(entries)} images. Run it again to go on.")
    failed = [e for e in entries if e.status == "failed"]
    if failed:
        lines = "\n".join(f"  {e.input}: {e.error}" for e in failed)
        step = "Correct their files or the options, and run it again."
        if len(failed) < len(entries):
            step = f"The others are done. {step}"
        raise ReconError(f"{len(failed)} of {len(entries)} images failed:\n{lines}\n", step)
