"""What an engineer carries to a line PC, made by the project's own script, and a later version of it."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
import zipfile
from pathlib import Path

from tests.real import handbook

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = Path(sysconfig.get_path("purelib"))
"""What stands for a machine that came with its own torch: installing it anew takes minutes and 6 GB."""


def make(place: Path) -> Path:
    """As the handbook says, but without the dependencies' gigabytes, into that new folder."""
    command = handbook.block("bundle", {"/media/stick/line-monitor": f"{place} --own-only"})
    subprocess.run(["bash", "-ec", command], cwd=ROOT, check=True, capture_output=True, timeout=170)
    return place


def later(bundle: Path, place: Path, version: str) -> Path:
    """A bundle of a version yet to come: its program tells it, and its shipped settings have a line more."""
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
