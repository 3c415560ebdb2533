"""The command line: `napari-recon VERB ...`. Results as JSON on stdout, progress on stderr."""

import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any

from cyclopts import App, CycloptsError

from napari_recon._version import __version__
from napari_recon.cli import library, restoration, sampling
from napari_recon.cli._stdout import Stdout
from napari_recon.cli.batching import batch_app
from napari_recon.cli.completing import complete
from napari_recon.cli.training import train_app
from napari_recon.cli.upscaling import upscale
from napari_recon.errors import Cancelled, ReconError

app = App(
    name="napari-recon",
    help="Restore microscopy images: denoise, sample, upscale, complete, and train the models that do it.",
    version=__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
app.command(train_app)
app.command(batch_app)
for command in (
    restoration.denoise,
    restoration.evaluate,
    restoration.noise,
    upscale,
    complete,
    sampling.sample,
    sampling.generate,
    sampling.encode,
    sampling.decode,
    library.info,
    library.models,
    library.demo,
):
    app.command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 0, 1 (a mistake the user can mend), 2 (wrong usage) or 130 (stopped)."""
    # tifffile logs what it dislikes about a file; the error that follows says it once.
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    sys.exit(_guarded(lambda: app(arguments, exit_on_error=False, print_error=False)))


def _guarded(run: Callable[[], Any]) -> int:
    stdout: Any = Stdout(sys.stdout) if sys.stdout else None  # which programs without a console have not
    try:
        with redirect_stdout(stdout):
            run()
            print(end="", flush=True)
    except CycloptsError as error:
        print(f"napari-recon: {error} See --help.", file=sys.stderr)
        return 2
    except ReconError as error:
        print(f"napari-recon: {error}", file=sys.stderr)
        return 1
    except (Cancelled, KeyboardInterrupt) as error:
        print(f"napari-recon: {str(error) or 'Stopped.'}", file=sys.stderr)
        return 130  # 128 and the number of the signal, as shells have it
    return 0
