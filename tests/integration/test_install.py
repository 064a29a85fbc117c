"""Install, upgrade, remove: no file of the user is lost, and no file of the program is left."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from tests.real import bundle, handbook

INSTALL = "deploy/install.sh"
pytestmark = pytest.mark.timeout(400)


def install(tree: Path, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        ["bash", str(tree / INSTALL), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert not check or result.returncode == 0, result.stderr
    return result


def contents(folder: Path) -> dict[str, tuple[int, bytes | None]]:
    """Every path in the folder, with its time of change and, for files, its content."""
    return {
        path.relative_to(folder).as_posix(): (
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() and not path.is_symlink() else None,
        )
        for path in folder.rglob("*")
    }


def version(root: Path) -> str:
    """The version that the staged program prints, run outside the source tree."""
    probe = "from importlib.metadata import version; print(version('line-monitor'))"
    return subprocess.run(
        [root / "opt/line-monitor/venv/bin/python", "-P", "-c", probe],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_install_twice_bring_up_to_date_and_remove(carried: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    packages = ("--packages", bundle.PACKAGES)
    staged = handbook.block("stage", {"/tmp/stage": f"{root} --packages {bundle.PACKAGES}"})
    subprocess.run(["bash", "-ec", staged], cwd=carried, check=True, capture_output=True, timeout=150)
    program = root / "opt/line-monitor/venv/bin/line-monitor"
    assert program.read_text().startswith("#!/opt/line-monitor/venv/bin/python\n"), (
        "staged for its last place"
    )
    assert (root / "usr/local/bin/line-monitor").is_symlink()
    assert (root / "usr/local/lib/systemd/system/line-monitor.service").is_file()
    settings = root / "etc/line-monitor/line.toml"
    assert settings.read_text() == (carried / "config/line.toml").read_text()
    assert settings.stat().st_mode & 0o007 == 0, "camera passwords are not for everybody"

    # A change that the user made.
    settings.write_text('[line]\nname = "mine"\n')
    drop_in = root / "etc/systemd/system/line-monitor.service.d/mine.conf"
    recipe = root / "var/lib/line-monitor/recipes/plate/recipe.json"
    for file in (drop_in, recipe):
        file.parent.mkdir(parents=True)
        file.write_text("mine")
    before = contents(root)
    again = install(carried, "--root", root, *packages)
    assert "up to date" in again.stderr
    unit = "usr/local/lib/systemd/system"
    rewritten = {
        name for name, was in contents(root).items() if was != before.get(name) and not name.startswith(unit)
    }
    assert {name for name in rewritten if "venv" in name and "__pycache__" not in name} == set()
    assert not (root / "etc/line-monitor/line.toml.new").exists(), "nothing new came"

    old = (root / "opt/line-monitor/venv").readlink()
    newer = bundle.later(carried, tmp_path / "newer", "9.9.9")
    install(newer, "--root", root, *packages)
    assert version(root) == "9.9.9"
    assert not (root / "opt/line-monitor" / old).exists(), "no old program is left"
    assert "this version brings" in (root / "etc/line-monitor/line.toml.new").read_text()
    mine = {settings: '[line]\nname = "mine"\n', drop_in: "mine", recipe: "mine"}
    assert {file: file.read_text() for file in mine} == mine

    removed = install(newer, "--root", root, "--uninstall")
    assert f"kept: {root}/var/lib/line-monitor" in removed.stderr
    files = {path for path in root.rglob("*") if not path.is_dir() or path.is_symlink()}
    assert files == set(mine)
    assert {file: file.read_text() for file in mine} == mine
    install(newer, "--root", root, "--uninstall", "--purge")
    assert {path for path in root.rglob("*") if path.is_file()} == {drop_in}


@pytest.mark.slow
def test_a_machine_without_a_network_installs_from_the_folder_that_was_carried_to_it(
    carried: Path, tmp_path: Path
) -> None:
    """The environment uses torch and other packages of this machine. Missing packages come from the folder of
    wheels."""
    cut_off = ("unshare", "--net")
    if subprocess.run([*cut_off, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespace to be had here: that takes root")
    folder = tmp_path / "carried"
    shutil.copytree(carried, folder)
    bundle.make_wheel("paho-mqtt", folder / "wheels")
    lent = bundle.without("paho-mqtt", tmp_path / "lent")
    root = tmp_path / "root"
    # Only the loopback device exists, and it is down.
    script = 'test "$(grep -c : /proc/net/dev)" = 1; exec bash "$@"'
    options = ("--root", root, "--wheels", folder / "wheels", "--packages", lent)
    done = subprocess.run(
        [*cut_off, "bash", "-ec", script, "sh", folder / INSTALL, *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    own = root / "opt/line-monitor/venv/lib"
    assert [path.parent.name for path in own.rglob("paho/__init__.py")] == ["paho"]
    assert version(root) == metadata.version("line-monitor")


def test_a_program_that_can_not_be_installed_leaves_the_old_one_in_force(
    carried: Path, tmp_path: Path
) -> None:
    """A failed upgrade of a running line, tested in a staging folder, which avoids a first installation of
    minutes."""
    root = tmp_path / "root"
    old = root / "opt/line-monitor/venv-000000000000"
    (old / "bin").mkdir(parents=True)
    (old / "mine").write_text("old")
    (old.parent / "venv").symlink_to(old.name)
    broken = tmp_path / "broken"
    bundle.later(carried, broken, "9.9.9")
    # Without --packages torch is missing: it is not in the folder, and a network must not be used.
    result = install(broken, "--root", root, check=False)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        "install.sh: pip failed (see above); the old program stays in force"
    )
    assert (root / "opt/line-monitor/venv").readlink() == Path(old.name)
    assert (old / "mine").read_text() == "old"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--rot", "x"), 2, "unknown argument --rot"),
        (("--root",), 2, "--root needs a value"),
        (("--purge", "--root", "{}"), 2, "--purge goes with --uninstall"),
        (("--root", "{}", "--wheels", "{}/nowhere"), 1, "no folder .*nowhere: make it with deploy/bundle.sh"),
        (("--root", "{}", "--wheels", "{}"), 1, "no line_monitor-.*whl in .*: make the folder with"),
        (("--root", "{}", "--python", "{}/no-python"), 1, "no-python is no Python 3.11"),
    ],
)
def test_wrong_usage_is_one_line_with_the_fix_and_changes_nothing(
    arguments: tuple[str, ...], code: int, words: str, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    result = install(bundle.ROOT, *(argument.format(root) for argument in arguments), check=False)
    assert result.returncode == code, result.stderr
    told = [line for line in result.stderr.splitlines() if line.startswith("install.sh: ")]
    assert len(told) == 1, result.stderr
    assert re.search(words, told[0])
    assert not [path for path in root.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "root", ["/", "//", "/../", "a folder", "quote'd", "tab\there", "dollar$HOME", "a;b", "a#b", "ü"]
)
def test_a_root_that_can_not_be_one_is_refused_before_anything_is_written(root: str, tmp_path: Path) -> None:
    # If the argument is not refused, the test must not write to this machine.
    frozen = ("unshare", "--mount", "bash", "-ec", 'mount -o remount,bind,ro /; exec "$@"', "sh")
    if subprocess.run([*frozen, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace to be had here: that takes root")
    result = subprocess.run(
        [*frozen, "bash", bundle.ROOT / INSTALL, "--root", root, "--packages", bundle.PACKAGES],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 1
    assert re.fullmatch(r"install\.sh: --root /.*: (leave it out|name a folder of).*\n", result.stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_made_with_the_python_that_was_named_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    result = subprocess.run(
        ["bash", bundle.ROOT / "deploy/bundle.sh", target, "--own-only", "--python", "/nonexistent"],
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert result.returncode == 1
    assert result.stderr == "bundle.sh: /nonexistent is no Python 3.11 or newer with venv\n"
    assert not target.exists()


def test_the_shipped_unit_is_hardened() -> None:
    unit = bundle.ROOT / "deploy/line-monitor.service"
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    exposure = float(said.split("line-monitor.service: ")[1].split()[0])
    print(f"exposure {exposure}")
    assert exposure <= 2.0
