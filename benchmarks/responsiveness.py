"""Does the viewer stay usable while it trains? Largest gap of a 10 ms timer in its event loop.

Run it with a display, or under xvfb-run: ``python benchmarks/responsiveness.py [--seconds 60]``.
"""

import argparse
import os
import tempfile
import time

import numpy as np

INTERVAL = 10  # milliseconds
LIMIT = 200  # milliseconds that a user would feel


class Gaps:
    """Milliseconds between two ticks of a timer in the event loop."""

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self.gaps: list[float] = []
        self.last = time.perf_counter()
        self.timer = QTimer()
        self.timer.setTimerType(Qt.TimerType.PreciseTimer)
        self.timer.setInterval(INTERVAL)
        self.timer.timeout.connect(self._tick)
        self.timer.start()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.gaps.append(1000 * (now - self.last))
        self.last = now

    def take(self) -> dict[str, float]:
        """Return the figures since the last call."""
        gaps, self.gaps = np.array(self.gaps or [0.0]), []
        return {
            "largest": round(float(gaps.max()), 1),
            "99.9 %": round(float(np.percentile(gaps, 99.9)), 1),
            "99 %": round(float(np.percentile(gaps, 99)), 1),
            "median": round(float(np.median(gaps)), 1),
            "ticks": len(gaps),
        }


def wait(condition, seconds: float) -> None:
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while time.monotonic() < end and not condition():
        QApplication.processEvents()
        time.sleep(0.0005)


def measure(seconds: float) -> dict[str, dict[str, float]]:
    import napari

    from napari_recon.plugin._session import session

    viewer = napari.Viewer()
    viewer.open_sample("napari-recon", "nucleus")
    gaps = Gaps()
    wait(lambda: False, 3)
    gaps.take()
    rows = {}
    wait(lambda: False, 3)
    rows["idle viewer"] = gaps.take()
    _, panel = viewer.window.add_plugin_dock_widget("napari-recon", "Train")
    wait(lambda: session().devices, 60)
    rows["opening Train, torch imported behind it"] = gaps.take()
    panel.form.budget.setCurrentText("minutes")
    panel.form.amount.setValue(1000)
    wait(lambda: "GB" in panel.estimate.text(), 60)
    gaps.take()
    panel.controls.run()
    wait(lambda: panel.controls.job.last_event is not None, 60)
    rows["starting to train"] = gaps.take()
    wait(lambda: panel.controls.job is None, seconds)
    rows[f"training for {seconds:g} s"] = gaps.take()
    steps = panel.controls.job.last_event.done
    asked = time.perf_counter()
    panel.controls.stop()
    wait(lambda: panel.controls.job is None, 60)
    rows["stopping"] = gaps.take() | {"seconds to stop": round(time.perf_counter() - asked, 2), "steps": steps}
    viewer.close()
    wait(lambda: False, 0.5)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as home:
        os.environ["NAPARI_RECON_HOME"] = home
        rows = measure(seconds)
    print(f"gaps of a {INTERVAL} ms timer in milliseconds; felt above {LIMIT}")
    from _common import report  # only now, as it imports torch, which is measured too

    report("responsiveness", [{"while": name, **row} for name, row in rows.items()])


if __name__ == "__main__":
    main()
