"""The wheel contains all that the program needs, and works without the source tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("wheel")
ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("monitor", "drivers", "config", "pyproject.toml", "LICENSE", "README.md")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tree, so that no old build folder gets into it."""
    place = tmp_path_factory.mktemp("wheel")
    tree = place / "tree"
    tree.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        elif source.exists():
            shutil.copy(source, tree / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    if _has_setuptools():
        command.append("--no-build-isolation")
    subprocess.run([*command, "--wheel-dir", str(place), str(tree)], check=True)
    return next(place.glob("line_monitor-*.whl"))


def _has_setuptools() -> bool:
    """Whether setuptools is at least version 77, which supports licence expressions."""
    probe = "import setuptools, sys; sys.exit(int(setuptools.__version__.split('.')[0]) < 77)"
    return subprocess.run([sys.executable, "-c", probe], check=False, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def venv(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with the wheel. It uses the dependencies of the present environment."""
    place = tmp_path_factory.mktemp("elsewhere") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(place / "bin/python"), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", str(wheel)], check=True)
    return place


def run(venv: Path, *command: str) -> subprocess.CompletedProcess[str]:
    # This path comes after the wheel's own site-packages. A .pth file would also add this tree's editable
    # installation.
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(_own(venv)), sysconfig.get_path("purelib")]),
    }
    return subprocess.run(
        [str(venv / "bin" / command[0]), *command[1:]],
        cwd=venv,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def _own(venv: Path) -> Path:
    return next((venv / "lib").glob("python3*")) / "site-packages"


def test_the_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        str(file.relative_to(ROOT))
        for package in ("monitor", "drivers")
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    expected |= {f"monitor/config/{file.name}" for file in (ROOT / "config").glob("*.toml")}
    assert expected - held == set()


def test_the_wheel_installs_no_other_top_level_package(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"monitor", "drivers"}


def test_the_wheel_carries_its_licence(wheel: Path) -> None:
    assert any(name.endswith("licenses/LICENSE") for name in zipfile.ZipFile(wheel).namelist())


def test_the_command_answers_outside_the_source_tree(venv: Path) -> None:
    answer = run(venv, "line-monitor", "--help")
    assert answer.returncode == 0, answer.stderr
    assert "demo" in answer.stdout
    assert answer.stderr == ""


def test_the_carried_settings_are_found_outside_the_source_tree(venv: Path) -> None:
    probe = (
        "from importlib import resources\n"
        "import monitor\n"
        "print(monitor.__file__)\n"
        "print(resources.files('monitor.config').joinpath('demo.toml').read_text(encoding='utf-8'))\n"
    )
    answer = run(venv, "python", "-c", probe)
    assert answer.returncode == 0, answer.stderr
    where, _, text = answer.stdout.partition("\n")
    assert Path(where).is_relative_to(venv.resolve())
    assert 'site = "demo"' in text


def modules() -> list[str]:
    """Every module and package of the source tree by its dotted name, at any depth."""
    found = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in ("monitor", "drivers")
        for file in (ROOT / package).rglob("*.py")
        # A main module may run when it is imported.
        if file.name != "__main__.py"
    }
    # This module needs PyGObject, which is not a dependency of the wheel. The tests of GigE cameras import
    # it.
    return sorted(found - {"drivers.gige"})


def test_every_module_can_be_imported_from_the_wheel(venv: Path) -> None:
    names = modules()
    assert {"monitor", "monitor.cli", "monitor.review.server", "drivers.camera"} <= set(names)
    probe = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    answer = run(venv, "python", "-c", probe, *names)
    assert answer.returncode == 0, answer.stderr
