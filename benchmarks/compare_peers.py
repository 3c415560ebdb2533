"""Beside CAREamics, the best-known program of this kind: speed, memory, import, and time to a given quality.

python benchmarks/compare_peers.py [--quick] [--json FILE]

Both learn from one noisy image of `fmd` (a synthetic one where that is missing) with a blind-spot U-Net: depth 2, 32
features, 16 patches of 64 x 64, the rest as each has it by default. CAREamics (N2V2) gets an environment of its own,
made once and kept in the user's cache. Each job runs in its own process; the processes take turns within one run, so
that a busy machine slows all alike. Full runs predict 4096 x 4096 pixels instead of 1024 x 1024 and train to a given
PSNR.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np
from _common import CLASSICAL, DATA, fluorescence, machine, psnr, report, timed
from _turns import SIGN
from numpy.typing import NDArray

from napari_recon import api

HERE = Path(__file__).parent
SIZE = {"depth": 2, "features": 32, "batch": 16, "patch": 64}
STEPS = 10  # of a training, in one turn
TILE = 512  # for CAREamics where the whole image at once would take too much memory
PEERS_PSNR = 37.54  # of CAREamics 0.3.5 after 190 s on this image, as published with the data
MATRIX_FLOPS = 2 * 1536**3  # of one product in `_peer_ours.py`
VERSION = "from importlib.metadata import version; print(version('careamics'), 'with torch', version('torch'))"
Row = dict[str, Any]


class Worker:
    """A process that works when it is its turn."""

    def __init__(self, python: str, script: str, job: str, image: Path, **options: Any) -> None:
        flags = [f"--{k}" if v is True else f"--{k}={v}" for k, v in options.items() if v is not False]
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (as long as the process)
        self.process = subprocess.Popen(
            [python, "-u", str(HERE / script), job, str(image), *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        self.seconds: list[float] = []

    def hear(self) -> dict[str, Any]:
        """Wait for what it tells next."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(SIGN):
                told: dict[str, Any] = json.loads(line[len(SIGN) :])
                return told
        self.errors.seek(0)
        raise SystemExit(f"A process of the comparison failed:\n{self.errors.read()[-3000:]}")

    def _say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def take_turn(self) -> None:
        """Let it do one round."""
        self._say("go")
        self.seconds += self.hear()["seconds"]

    def end(self) -> float:
        """Let it go; the most memory that it took, in megabytes."""
        self._say("end")
        peak = float(self.hear()["peak_mb"])
        self.process.communicate()
        return peak

    @property
    def median(self) -> float:
        """Seconds of one step, prediction or product."""
        return statistics.median(self.seconds)


def peers_python() -> str:
    """Python of CAREamics' environment, which is made when it is missing."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "napari-recon"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        cache = Path(tempfile.gettempdir()) / "napari-recon"
    home = cache / "peer-careamics"
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = home / "complete"
    if not stamp.exists():
        print(f"making an environment for CAREamics in {home} (some minutes, once) ...", flush=True)
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "careamics"], check=True)
        stamp.touch()
    return str(python)


def image(folder: Path, side: int) -> Path:
    """The noisy image, mirrored to the wanted size, as a file for the workers."""
    source = DATA / "fmd" / "Confocal_BPAE_B_noisy.png"
    if source.exists():
        noisy = np.asarray(api.read_image(source).array, np.float32)
    else:
        rng = np.random.default_rng(0)
        y, x = np.mgrid[:512, :512] / 512
        noisy = rng.poisson(40 + 30 * np.sin(40 * x * y) * np.cos(25 * x)).astype(np.float32)
    path = folder / f"{side}.npy"
    np.save(path, np.pad(noisy, [(0, max(side - n, 0)) for n in noisy.shape], mode="symmetric"))
    return path


def in_turns(workers: dict[str, Worker], rounds: int) -> dict[str, float]:
    """Let the workers work in turns; peak memory of each in megabytes."""
    for worker in workers.values():
        worker.hear()
    for _ in range(rounds):
        for worker in workers.values():
            worker.take_turn()
    return {name: worker.end() for name, worker in workers.items()}


def training(python: str, path: Path, rounds: int) -> list[Row]:
    """Milliseconds of a step."""
    workers = {
        "napari-recon": Worker(sys.executable, "_peer_ours.py", "train", path, steps=STEPS, **SIZE),
        "CAREamics": Worker(python, "_peer_careamics.py", "train", path, steps=STEPS, **SIZE),
    }
    rows = _rows("training", workers, path, rounds)
    for row in rows:
        row["ms a step"] = 1000 * row["seconds"]
    return rows


def prediction(python: str, path: Path, rounds: int, side: int, tile: int) -> list[Row]:
    """Megapixels a second."""
    workers = {
        "napari-recon": Worker(sys.executable, "_peer_ours.py", "predict", path, **SIZE),
        "CAREamics": Worker(python, "_peer_careamics.py", "predict", path, tile=tile, **SIZE),
    }
    rows = _rows(f"prediction, {side} x {side}", workers, path, rounds)
    for row in rows:
        row["megapixels a second"] = side * side / 1e6 / row["seconds"]
    return rows


def _rows(what: str, workers: dict[str, Worker], path: Path, rounds: int) -> list[Row]:
    """Let ours and theirs take turns with products of matrices, which tell what the machine could do meanwhile."""
    counted = Worker(sys.executable, "_peer_ours.py", "count", path, **SIZE).hear()
    bound = Worker(sys.executable, "_peer_ours.py", "peak", path, dtype=counted["precision"])
    memory = in_turns({**workers, "peak": bound}, rounds)
    theirs = workers["CAREamics"].median
    rows: list[Row] = [
        {
            "what": what,
            "method": name,
            "seconds": worker.median,
            "ratio": theirs / worker.median,
            "peak MB": memory[name],
        }
        for name, worker in workers.items()
    ]
    rows[0] |= {"precision": counted["precision"], "GFLOP/s possible": MATRIX_FLOPS / min(bound.seconds) / 1e9}
    rows[0]["counted"] = counted
    return rows


def imports(python: str) -> list[Row]:
    """Seconds until the package is imported, and until it could train, in fresh processes."""
    lines = {
        "napari-recon, the package": (sys.executable, "import napari_recon"),
        "napari-recon, ready to train": (sys.executable, "from napari_recon import train"),
        "CAREamics": (python, "from careamics import CAREamist"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in lines}
    for _ in range(4):
        for name, (interpreter, line) in lines.items():
            run = [interpreter, "-c", line]
            _, took = timed(lambda run=run: subprocess.run(run, check=True, capture_output=True))  # type: ignore[misc]
            seconds[name].append(took)
    # The first of each reads from the disk.
    return [{"what": "import", "method": n, "seconds": statistics.median(s[1:])} for n, s in seconds.items()]


def filters(path: Path) -> list[Row]:
    """Seconds of the classical filters and of the universal denoiser on 512 x 512 pixels, in this process."""
    noisy = np.load(path)
    jobs = {name: CLASSICAL[name] for name in ("NL-means", "BM3D")}
    rows = []
    for name, run in {**jobs, "napari-recon, universal": api.denoise}.items():
        run(noisy[:128, :128])
        done, seconds = timed(lambda run=run: run(noisy))  # type: ignore[misc]
        if done is not None:
            rows.append({"what": "512 x 512", "method": name, "seconds": seconds})
    return rows


def time_to_quality() -> list[Row]:
    """Seconds that training and denoising take to reach what CAREamics reaches in 190 s; budgets are tried in turn."""
    noisy, truth = fluorescence()["B"]
    rows: list[Row] = [{"what": "time to PSNR", "method": "CAREamics (published)", "seconds": 191, "psnr": PEERS_PSNR}]
    for budget in (10, 20, 30, 45, 60, 90):

        def both(budget: int = budget) -> NDArray[Any]:
            model = api.train("autoencoder", noisy, start_from=None, minutes=budget / 60)
            return np.asarray(api.denoise(noisy, model))

        done, seconds = timed(both)
        rows.append({"what": "time to PSNR", "method": "from scratch", "seconds": seconds, "psnr": psnr(truth, done)})
        if rows[-1]["psnr"] >= PEERS_PSNR:
            break
    done, seconds = timed(lambda: api.denoise(noisy))
    rows.append({"what": "time to PSNR", "method": "universal", "seconds": seconds, "psnr": psnr(truth, done)})
    return rows


def share(row: Row, operations: float) -> None:
    """Note what part of the possible arithmetic a job does, given its operations a second."""
    row["GFLOP/s"] = operations / 1e9
    row["share of peak"] = row["GFLOP/s"] / row["GFLOP/s possible"]


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="within ten minutes on two cores")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    options = parser.parse_args()
    rounds, side, tile = (3, 1024, 0) if options.quick else (7, 4096, TILE)
    python = peers_python()
    with tempfile.TemporaryDirectory() as folder:
        small, large = image(Path(folder), 512), image(Path(folder), side)
        train_rows = training(python, small, rounds)
        predict_rows = prediction(python, large, 3, side, tile)
        rest = imports(python) + filters(small)
    first, second = train_rows[0], predict_rows[0]
    share(first, first.pop("counted")["step"] / first["seconds"])
    share(second, second.pop("counted")["pixel"] * side * side / second["seconds"])
    version = subprocess.run([python, "-c", VERSION], check=True, capture_output=True, text=True).stdout.strip()
    rows = train_rows + predict_rows + rest
    for row in rows:
        row["method"] = row["method"].replace("CAREamics", f"CAREamics {version}")
    if not options.quick and (DATA / "fmd").exists():
        rows += time_to_quality()
    report("compare_peers_quick" if options.quick else "compare_peers", rows)
    if options.json:
        figures = {"training_ratio": first["ratio"], "prediction_ratio": second["ratio"]}
        options.json.write_text(json.dumps({**figures, "machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
