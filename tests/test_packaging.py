"""The installed package, editable and from its wheel: the manifest is found, every command imports."""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from npe2 import PluginManifest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "napari_recon"

IMPORT_EVERY_COMMAND = """
import sys
import napari_recon
from npe2 import PluginManager
from npe2.manifest.utils import import_python_name
assert napari_recon.__file__.startswith(sys.prefix), f"not the installed package: {napari_recon.__file__}"
manager = PluginManager()
manager.discover()
for command in manager.get_manifest("napari-recon").contributions.commands:
    assert callable(import_python_name(command.python_name)), command.id
    print(command.id)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel of the project, offline."""
    for module in ("build", "hatchling"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed, so the wheel cannot be built offline")
    folder = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """Install the wheel into a fresh environment; its folder of commands.

    The environment borrows the dependencies of the present one, all but the project itself.
    """
    home = tmp_path_factory.mktemp("fresh")
    venv.create(home, with_pip=False)
    scripts = home / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / ("python.exe" if os.name == "nt" else "python")
    paths = sysconfig.get_paths(vars={"base": str(home), "platbase": str(home)})
    Path(paths["purelib"], "borrowed.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    # --ignore-installed: else pip would see the borrowed editable install and take it away.
    pip = (sys.executable, "-m", "pip", "--python", python)
    _run(*pip, "install", "--no-index", "--no-deps", "--ignore-installed", wheel)
    return scripts


def _run(*command: object, **environment: str) -> str:
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | environment
    line = [str(part) for part in command]
    done = subprocess.run(line, capture_output=True, text=True, env=clean, cwd=Path.home(), check=False)
    assert done.returncode == 0, f"{' '.join(line)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_editable_install_has_its_entry_points():
    distribution = importlib.metadata.distribution("napari-recon")
    entries = {(e.group, e.name): e.value for e in distribution.entry_points}
    assert entries["napari.manifest", "napari-recon"] == "napari_recon:napari.yaml"
    assert entries["console_scripts", "napari-recon"] == "napari_recon.cli:main"
    assert PluginManifest.from_distribution("napari-recon").display_name == "Reconstruct"


@pytest.mark.skipif(os.name == "nt", reason="git on Windows checks links out as text")
def test_manifest_at_the_root_is_the_packaged_one():
    assert (ROOT / "napari.yaml").read_text() == (PACKAGE / "napari.yaml").read_text()


def test_wheel_holds_every_file_of_the_package(wheel):
    expected = {
        f"napari_recon/{path.relative_to(PACKAGE).as_posix()}"
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = set(zipfile.ZipFile(wheel).namelist())
    assert expected - names == set()
    assert {"napari_recon/napari.yaml", "napari_recon/py.typed"} <= names


def test_wheel_install_passes_npe2_validate(installed):
    python = shutil.which("python", path=str(installed))
    assert "valid" in _run(python, "-m", "npe2", "validate", "napari-recon")


def test_wheel_install_imports_every_command(installed):
    python = shutil.which("python", path=str(installed))
    output = _run(python, "-c", IMPORT_EVERY_COMMAND, QT_QPA_PLATFORM="offscreen")
    assert {"napari-recon.denoise", "napari-recon.train"} <= set(output.split())


def test_wheel_install_has_the_command(installed):
    program = shutil.which("napari-recon", path=str(installed))
    assert program is not None
    assert "denoise" in _run(program, "--help")
