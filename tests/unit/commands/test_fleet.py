"""`line-monitor fleet` without its extra, and with options that do not go together."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from monitor.cli import main

MANIFEST = '[[recipe]]\nname = "top"\nimages = "good"\n'


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "line.toml").write_text('[line]\ndata = "data"\n')
    monkeypatch.setenv("LINE_MONITOR_CONFIG", str(tmp_path / "line.toml"))
    file = tmp_path / "recipes.toml"
    file.write_text(MANIFEST)
    return file


@pytest.mark.parametrize(
    ("arguments", "package"),
    [
        (["train", "recipes.toml"], "ray"),
        (["rescore", "top", "--archive", "a", "-o", "out"], "ray"),
        (["compare", "out"], "duckdb"),
    ],
)
def test_without_the_extra_one_line_names_it(
    arguments: list[str],
    package: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("ray", "pyarrow", "duckdb"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["fleet", *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert package in line
    assert 'pip install "line-monitor[fleet]"' in line


def test_options_of_train_that_do_not_go_together_are_named_by_their_keys(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest.write_text(MANIFEST + "overlap = 8\n")
    monkeypatch.setattr("monitor.fleet.fleet_error.importlib.util.find_spec", lambda name: name)
    assert main(["fleet", "train", str(manifest)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("recipe 'top': overlap is for tiles only: give tile too")


@pytest.mark.parametrize("address", ["nowhere", "ray://127.0.0.1:1", "127.0.0.1:1"])
def test_an_address_where_nothing_answers_is_one_line_at_once(
    address: str, manifest: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("monitor.fleet.fleet_error.importlib.util.find_spec", lambda name: name)
    assert main(["fleet", "train", str(manifest), "--address", address]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert address in line
