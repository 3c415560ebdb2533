"""The live layer: seconds until a plane is there, and how long scrolling blocks the event loop.

``python benchmarks/live_layer.py [--side 512] [--device auto] [--model universal]``. The first part needs no napari;
the second opens one, with a display or under xvfb-run, and is left out where there is none.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from _common import report
from numpy.typing import NDArray

PLANES = 12
PATIENCE = 300
SCROLLING = 10.0  # seconds


def stack(side: int) -> NDArray[np.uint16]:
    """Make a movie of waves with the noise of a camera."""
    rng = np.random.default_rng(0)
    t, y, x = np.mgrid[:PLANES, :side, :side]
    return rng.poisson(300 + 200 * np.sin(y / 17 + t) * np.cos(x / 23)).astype(np.uint16)


def wait(condition: Callable[[], bool], seconds: float = PATIENCE, pause: Callable[[], Any] = lambda: None) -> float:
    start = time.perf_counter()
    while not condition() and time.perf_counter() - start < seconds:
        pause()
        time.sleep(0.001)
    return time.perf_counter() - start


def core(image: NDArray[np.uint16], model: str, device: str) -> dict[str, Any]:
    """Time planes without a window."""
    from napari_recon import CancelToken, lazily
    from napari_recon.inference.live import LiveResult

    verb = "upscale" if "upscale" in model else "denoise"
    limit = 6 * image[0].nbytes * (4 if verb == "upscale" else 1)
    live = LiveResult(lazily(verb, image, model, axes="TYX", keep_dtype=True, device=device, limit=limit))
    cancel = CancelToken()
    thread = threading.Thread(target=live.serve, args=(lambda: None, cancel))
    live.look_at({"T": slice(0, 1)})
    thread.start()
    row: dict[str, Any] = {"what": "without a window", "first plane (s)": wait(live.done)}
    times = []
    for t in (6, 11, 3):  # not where it has looked ahead
        live.look_at({"T": slice(t, t + 1)})
        times.append(wait(live.done))
    row["a plane far away (s)"] = float(np.median(times))
    most = 0
    for t in range(PLANES):
        live.look_at({"T": slice(t, t + 1)})
        wait(live.done)
        most = max(most, live.complete.nbytes_kept)
    cancel.cancel()
    thread.join()
    row["cache / limit"] = most / limit
    start = time.perf_counter()
    for t in range(PLANES):
        live[t]
    row["indexing (ms)"] = 1000 * (time.perf_counter() - start) / PLANES
    return row


def window(image: NDArray[np.uint16], model: str) -> dict[str, Any]:
    """Scroll through a live layer in napari."""
    import napari
    from qtpy.QtWidgets import QApplication
    from responsiveness import Gaps

    from napari_recon.plugin._session import session

    def events() -> None:
        QApplication.processEvents()

    def scroll() -> float:
        gaps.take()
        end, steps = time.monotonic() + SCROLLING, 0
        while time.monotonic() < end:
            viewer.dims.set_current_step(0, steps % PLANES)
            steps += 1
            wait(lambda: False, 0.1, events)
        return gaps.take()["largest"]

    viewer = napari.Viewer()
    viewer.add_image(image, name="cells")
    name = "Upscale" if "upscale" in model else "Denoise"
    _, panel = viewer.window.add_plugin_dock_widget("napari-recon", name)
    wait(lambda: bool(session().devices), pause=events)
    wait(lambda: False, 3, events)
    start = time.perf_counter()
    panel.live_layer.button.click()
    switched = time.perf_counter() - start
    wait(panel.live_layer.done, pause=events)
    row: dict[str, Any] = {"what": "in napari", "first plane (s)": time.perf_counter() - start}
    gaps = Gaps()
    wait(lambda: False, 0.5, events)
    row["longest block while scrolling (ms)"] = scroll()
    row["longest block when switched on (ms)"] = 1000 * switched
    panel.live_layer.off()
    wait(lambda: False, 3, events)
    row["the same without a live layer (ms)"] = scroll()
    viewer.close()
    wait(lambda: False, 0.5, events)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model", default="universal", help="universal, upscale-x2 or upscale-x4")
    options = parser.parse_args()
    image = stack(options.side)
    rows = [core(image, options.model, options.device)]
    if find_spec("napari") is not None:
        with tempfile.TemporaryDirectory() as home:
            os.environ["NAPARI_RECON_HOME"] = home
            rows.append(window(image, options.model))
    report("live_layer", [{"side": options.side, "model": options.model, **row} for row in rows])


if __name__ == "__main__":
    main()
