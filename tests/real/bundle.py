"""The folder that an engineer carries to a line PC, made by the project's script, and a later version."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
import zipfile
from importlib.metadata import distribution
from pathlib import Path

from tests.real import handbook

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = Path(sysconfig.get_path("purelib"))
"""The present environment's packages, in place of a machine with its own torch: installing torch takes
minutes and 6 GB."""


def make(place: Path) -> Path:
    """Make the bundle in a new folder as in the handbook, but without the large dependencies."""
    command = handbook.block("bundle", {"/media/stick/line-monitor": f"{place} --own-only"})
    subprocess.run(["bash", "-ec", command], cwd=ROOT, check=True, capture_output=True, timeout=170)
    return place


def without(name: str, place: Path) -> Path:
    """Link all packages but one in a new folder, like a machine that lacks one dependency."""
    place.mkdir()
    missing = {file.parts[0] for file in distribution(name).files or ()}
    for entry in PACKAGES.iterdir():
        if entry.name not in missing:
            (place / entry.name).symlink_to(entry)
    return place


def make_wheel(name: str, place: Path) -> Path:
    """Make a wheel of an installed pure-Python package in the folder `place`."""
    found = distribution(name)
    wheel = place / f"{name.replace('-', '_')}-{found.version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        for file in found.files or ():
            if file.suffix != ".pyc":
                made.writestr(str(file), file.read_binary())
    return wheel


def later(bundle: Path, place: Path, version: str) -> Path:
    """Make a bundle of a later version: its program has a new version number and its shipped settings a new
    line."""
    shutil.copytree(bundle, place)
    (wheel,) = (place / "wheels").glob("line_monitor-*.whl")
    old = wheel.name.split("-")[1]
    newer = wheel.with_name(wheel.name.replace(old, version))
    with zipfile.ZipFile(wheel) as given, zipfile.ZipFile(newer, "w") as made:
        for item in given.infolist():
            content = given.read(item)
            if ".dist-info/" in item.filename:
                content = content.replace(old.encode(), version.encode())
            made.writestr(item.filename.replace(f"-{old}.dist-info", f"-{version}.dist-info"), content)
    wheel.unlink()
    with (place / "config/line.toml").open("a", encoding="utf-8") as shipped:
        shipped.write("# A setting that this version brings.\n")
    return place
