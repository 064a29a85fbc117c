"""The list of packages in pyproject.toml: one that it lacks would not be in the wheel."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def packages(root: Path, elsewhere: dict[str, str]) -> set[str]:
    """Every folder of `monitor/` and `drivers/` that holds modules, and those that lie elsewhere."""
    found = {
        ".".join(file.parent.relative_to(root).parts)
        for top in ("drivers", "monitor")
        for file in (root / top).rglob("*.py")
    }
    return found | {name for name, folder in elsewhere.items() if (root / folder).is_dir()}


def test_folders_with_modules_are_packages_at_any_depth(tmp_path: Path) -> None:
    for file in ("monitor/a/b/c.py", "monitor/data/weights.bin", "drivers/camera.py", "tests/test_x.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / "settings").mkdir()
    assert packages(tmp_path, {"monitor.settings": "settings", "monitor.gone": "gone"}) == {
        "monitor.a.b",
        "drivers",
        "monitor.settings",
    }


def test_every_package_is_listed() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    listed = setuptools["packages"]
    assert len(listed) == len(set(listed))
    assert set(listed) == packages(ROOT, setuptools["package-dir"])
