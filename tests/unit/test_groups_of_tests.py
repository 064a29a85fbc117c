"""The groups that `deploy/test.sh` runs: each test is in one of them, and their totals are right."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.conftest import PROGRAMS
from tests.totals import totals

ROOT = Path(__file__).resolve().parents[2]
BY_NAME = {"fleet"}
"""Folders whose tests run only when the folder is named."""
TESTS = """
import pytest

@pytest.fixture
def broken():
    yield
    raise OSError

def test_passes(): pass
def test_fails(): assert False
def test_skips(): pytest.skip("not here")
def test_breaks_afterwards(broken): pass
"""


def groups_of_tests() -> dict[str, tuple[str, set[str]]]:
    """The markers and the folders of each group, by its name."""
    script = (ROOT / "deploy/test.sh").read_text().replace("\\\n", " ")
    commands = re.findall(r'^[^#\n]*\bgroup (\S+) "([^"]+)"([^>\n]*)', script, re.MULTILINE)
    return {name: (markers, set(re.findall(r"\btests/(\w+)", rest))) for name, markers, rest in commands}


def test_every_test_is_in_one_group_whatever_its_markers() -> None:
    groups = [markers for markers, _ in groups_of_tests().values()]
    named = sorted(set(re.findall(r"\w+", " ".join(groups))) - {"and", "or", "not"})
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"][
        "markers"
    ]
    assert {"integration", "gige", "timing", "systemd"} == set(named)
    assert set(named) <= {re.split(r"[:(]", marker)[0] for marker in declared}
    for has in itertools.product((False, True), repeat=len(named)):
        markers = dict(zip(named, has, strict=True))
        chosen = [expression for expression in groups if eval(expression, {}, markers)]
        assert len(chosen) == 1, markers


def test_a_group_that_is_given_folders_has_all_folders_of_its_tests() -> None:
    tests = {file.relative_to(ROOT / "tests").parts[0] for file in (ROOT / "tests").rglob("test_*.py")}
    tests -= BY_NAME
    folders = {name: given for name, (_, given) in groups_of_tests().items()}
    assert folders == {"programs": set(PROGRAMS), "unit": tests - set(PROGRAMS), "timed": set()}


def test_totals_add_up_over_runs_and_a_run_without_a_result_has_failed(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    for name, choice in (("all", "test"), ("none", "no_such_test")):
        subprocess.run(
            [*command, "-k", choice, f"--junit-xml={name}.xml", "test_it.py"],
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
    (tmp_path / "torn.xml").write_text("<testsuites><test")
    assert totals([tmp_path / "all.xml"]) == "1 passed, 2 failed, 1 skipped"
    assert totals([tmp_path / "none.xml"]) == "0 passed, 0 failed, 0 skipped"
    results = [tmp_path / f"{name}.xml" for name in ("all", "none", "all", "torn", "missing")]
    assert totals(results) == "2 passed, 6 failed, 2 skipped"
