"""Time from opening the Denoise panel to a denoised 512 x 512 layer, and where it goes.

A napari of its own for each run, in which nothing of torch is loaded yet; Denoise is pressed as soon as the panel is
open. Run it with a display, or under xvfb-run: ``python benchmarks/first_result.py [--runs 3] [--wait 0]``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SIDE = 512
LIMIT = 4.0  # seconds on two cores


def noisy() -> np.ndarray[Any, Any]:
    """Make soft spots with the noise of a camera."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    clean = 300 + 200 * np.sin(y / 17) * np.cos(x / 23)
    return rng.poisson(clean).astype(np.uint16)


def process_events(seconds: float, condition: Callable[[], bool] = lambda: False) -> None:
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while time.monotonic() < end and not condition():
        QApplication.processEvents()
        time.sleep(0.001)


def time_calls(owner: Any, name: str, spent: dict[str, float], key: str) -> None:
    """Add up the seconds that a function takes."""
    function = getattr(owner, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[key] = spent.get(key, 0.0) + time.perf_counter() - start

    setattr(owner, name, timed)


def measure(wait: float) -> dict[str, float]:
    """Open the panel, press the button after `wait` seconds, and wait for the layer."""
    import napari

    viewer = napari.Viewer()
    viewer.add_image(noisy(), name="cells")
    process_events(3)
    assert "torch" not in sys.modules
    spent: dict[str, float] = {}
    start, used = time.perf_counter(), time.process_time()
    _, panel = viewer.window.add_plugin_dock_widget("napari-recon", "Denoise")
    process_events(0.01)
    spent["panel open"] = time.perf_counter() - start
    from napari_recon.plugin._session import session

    def found() -> None:
        spent["torch there, since opening"] = time.perf_counter() - start
        from napari_recon.inference import runner

        time_calls(runner, "measure", spent, "noise, in the run")
        time_calls(runner.TileRunner, "_forward", spent, "network")

    session().devices_found.connect(found)
    process_events(wait)
    pressed = time.perf_counter()
    panel.controls.run()
    process_events(120, lambda: "cells [denoised]" in viewer.layers)
    done = time.perf_counter()
    process_events(0.01)
    spent["display"] = time.perf_counter() - done
    spent["since opening"] = done - start
    spent["since pressed"] = done - pressed
    spent["of a processor"] = time.process_time() - used  # the same on a busy machine
    process_events(0.5)
    viewer.close()
    process_events(0.5)
    return {key: round(value, 3) for key, value in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--wait", type=float, default=0.0, help="seconds between opening and pressing")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(measure(options.wait)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as home:
        line = [sys.executable, __file__, "--once", "--wait", str(options.wait)]
        environment = os.environ | {"NAPARI_RECON_HOME": home}
        for _ in range(options.runs):
            done = subprocess.run(line, capture_output=True, text=True, check=True, env=environment)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    from _common import report  # imports torch, which the processes above must not have had

    rows.sort(key=lambda row: row["since opening"])
    report("first_result", rows)
    print(f"seconds; at most {LIMIT} since opening")


if __name__ == "__main__":
    main()
