"""Peak memory of a run over an image of 20 GB that exists nowhere, into OME-Zarr.

It is stopped after some minutes: memory is that of a tile, and stays so. Give the minutes as argument.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import dask.array
import numpy as np
import psutil
from _common import report
from numpy.typing import NDArray

from napari_recon import CancelToken, ProgressEvent, api
from napari_recon.errors import Cancelled

PLANES = 1200  # of 2048 x 2048 float32: 20 GB


def plane(block_info: dict[None, dict[str, tuple[int, ...]]] | None = None) -> NDArray[np.float32]:
    """Noise over a pattern, another one in every chunk."""
    place = block_info[None]["chunk-location"] if block_info else (0, 0, 0)
    y, x = np.mgrid[:1024, :1024].astype(np.float32)
    clean = 100 + 50 * np.sin(x / 20) * np.cos(y / 30)
    return np.random.default_rng(place).poisson(clean)[None].astype(np.float32)


def watch_memory(stop: threading.Event, found: list[int]) -> None:
    process = psutil.Process()
    while not stop.wait(0.02):
        found.append(process.memory_info().rss)


def main(minutes: float) -> None:
    chunks = ((1,) * PLANES, (1024, 1024), (1024, 1024))
    image = dask.array.map_blocks(plane, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    token, stop, rss = CancelToken(), threading.Event(), [0]
    watcher = threading.Thread(target=watch_memory, args=(stop, rss))
    watcher.start()
    start, done = time.monotonic(), ProgressEvent("denoise", 0)

    def watch(event: ProgressEvent) -> None:
        nonlocal done
        done = event
        if time.monotonic() - start > 60 * minutes:
            token.cancel()

    with tempfile.TemporaryDirectory() as folder:
        try:
            with suppress(Cancelled):
                api.denoise(image, axes="TYX", out=Path(folder) / "a.ome.zarr", on_progress=watch, cancel=token)
        finally:
            stop.set()
            watcher.join()
    seconds = time.monotonic() - start
    row = {
        "image, GB": round(image.nbytes / 1e9, 1),
        "tiles done": done.done,
        "of": done.total,
        "minutes": round(seconds / 60, 1),
        "peak memory, GB": round(max(rss) / 1e9, 2),
        "Mpx/s": round(done.done * image.size / max(done.total, 1) / seconds / 1e6, 2),
    }
    report("memory_streaming", [row])


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 3.0)
