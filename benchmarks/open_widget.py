"""Time to open each panel in a napari that already runs.

The first row of a panel includes its imports. Run it with a display, or under xvfb-run.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

PANELS = ("Denoise", "Sample", "Train")
LIMIT = 0.7  # seconds


def measure(name: str) -> dict[str, float]:
    """Open one panel twice, in a napari of its own."""
    import napari
    from qtpy.QtWidgets import QApplication

    viewer = napari.Viewer()
    viewer.open_sample("napari-recon", "nucleus")
    end = time.monotonic() + 3
    while time.monotonic() < end:
        QApplication.processEvents()
    seconds = {}
    for row in ("first", "again"):
        start = time.perf_counter()
        dock, _ = viewer.window.add_plugin_dock_widget("napari-recon", name)
        QApplication.processEvents()
        seconds[row] = round(time.perf_counter() - start, 3)
        viewer.window.remove_dock_widget(dock)
        QApplication.processEvents()
    viewer.close()
    QApplication.processEvents()
    return seconds


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
        return
    rows = {}
    with tempfile.TemporaryDirectory() as home:
        for name in PANELS:
            line = [sys.executable, __file__, name]
            environment = os.environ | {"NAPARI_RECON_HOME": home}
            done = subprocess.run(line, capture_output=True, text=True, check=True, env=environment)
            rows[name] = json.loads(done.stdout.splitlines()[-1])
    print(f"seconds to open a panel; at most {LIMIT}")
    for name, row in rows.items():
        print(f"{name:10} first {row['first']:.2f}   again {row['again']:.2f}")
    from _common import report  # not by the processes that are measured: it imports torch

    report("open_widget", [{"panel": name, **row} for name, row in rows.items()])


if __name__ == "__main__":
    main()
