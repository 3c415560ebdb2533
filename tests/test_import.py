"""Importing the package must cost nothing: napari does it at every start, for every user."""

import subprocess
import sys
from pathlib import Path

import pytest

import napari_recon

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "lightning_fabric", "napari", "qtpy", "PySide6", "PyQt6", "numpy", "dask", "skimage")


def modules_after(statement: str) -> set[str]:
    """Run a statement in a fresh interpreter; the modules that are loaded afterwards."""
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    assert not modules_after("import napari_recon; napari_recon.__version__; dir(napari_recon)") & set(HEAVY)


@pytest.mark.parametrize("name", ["ReconError", "CancelToken", "ProgressEvent"])
def test_small_names_load_nothing_heavy(name):
    assert not modules_after(f"from napari_recon import {name}") & set(HEAVY)


def test_importing_the_api_loads_no_gui():
    gui = {"napari", "qtpy", "PySide6", "PyQt6", "superqt", "magicgui", "pyqtgraph"}
    assert not modules_after("from napari_recon import denoise, train") & gui


def test_every_public_name_exists():
    for name in napari_recon.__all__:
        assert getattr(napari_recon, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'denoize'"):
        _ = napari_recon.denoize


def test_benchmarks_run_from_a_source_checkout_with_the_numerical_packages_alone():
    missing = ["napari", "qtpy", "pydantic", "psutil", "dask", "zarr", "platformdirs"]
    code = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({missing}))
sys.path[:0] = [{str(ROOT / "src")!r}, {str(ROOT / "benchmarks")!r}]
for script in {[p.stem for p in sorted((ROOT / "benchmarks").glob("[cqs][a-z]*_*.py"))]}:
    importlib.import_module(script)
import numpy, napari_recon
model = napari_recon.train("autoencoder", numpy.eye(32), steps=1, features=4, patch_size=16)
print(napari_recon.denoise(numpy.eye(32), model).shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "(32, 32)\n", done.stderr
