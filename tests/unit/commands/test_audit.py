"""`line-monitor audit`: shows the record and says in plain words whether it is whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.audit.entry import Change, Kind
from monitor.audit.trail import AuditTrail
from monitor.cli import main

UTC = "2026-11-24T06:00:00.000Z"


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "line.toml"
    file.write_text(f'[line]\ndata = "{tmp_path}"\n')
    trail = AuditTrail(tmp_path / "audit.jsonl", "plant1/line1")
    for label in ("defect", "overkill"):
        trail.append(Change(Kind.LABEL, "otto", "snapshots/a", None, label, "", UTC, via="page"))
    trail.append(Change(Kind.PROMOTION, "quinn", "recipe.a", "a@1", "a@2", "approved", UTC, signed=True))
    return str(file)


def test_the_list_shows_who_changed_what(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", config, "audit", "--kind", "promotion"]) == 0
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["entry", "time", "who"]
    assert row.split() == [
        "4",
        UTC,
        "quinn,",
        "signed",
        "promotion",
        "recipe.a",
        "a@1",
        "->",
        "a@2",
        "approved",
    ]


def test_verify_finds_a_changed_byte_and_a_dropped_entry(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trail = AuditTrail(tmp_path / "audit.jsonl")
    head, whole = trail.head(), trail.file.read_bytes()
    verify = ["--config", config, "audit", "verify", "--against", str(head)]
    assert main(verify) == 0
    assert "the record is whole: 4 entries" in capsys.readouterr().out
    trail.file.write_bytes(whole.replace(b"overkill", b"defect  "))
    assert main(verify) == 1
    assert "ALTERED  line 3: its hash is not that of its content" in capsys.readouterr().out
    trail.file.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    assert main(verify) == 1
    assert "1 entry was cut off at the end" in capsys.readouterr().out
    assert main(verify[:-2]) == 0
