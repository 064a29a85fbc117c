"""`line-monitor journal` prints what became of every part, the gaps of the record, and who changed what."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from monitor.cli import main
from monitor.commands.journal import parse_since
from monitor.journal.reader import JournalReader
from monitor.journal.schema import _STEPS, VERSION
from monitor.journal.writer import KILLED, JournalWriter
from monitor.settings import JournalSettings
from monitor.verdict import Event, Reason, Verdict

NOW_NS = int(datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()) * 1_000_000_000
HOUR_NS = 3600 * 1_000_000_000
Command = Callable[..., int]


def event(frame: int, camera: str = "top", age_h: float = 1.0, verdict: Verdict = Verdict.REJECT) -> Event:
    captured = NOW_NS - int(age_h * HOUR_NS)
    judged = verdict is Verdict.REJECT
    return Event(
        prefix="plant1/line1",
        camera=camera,
        session="s1",
        frame=frame,
        part=frame,
        verdict=verdict,
        reason=Reason.NONE if judged else Reason.DEADLINE,
        score=0.02 if judged else None,
        threshold=0.0125 if judged else None,
        recipe="bottle-top",
        recipe_sha="ab" * 32 if judged else None,
        captured_utc_ns=captured,
        decided_utc_ns=captured + 31_000_000,
        expires_utc_ns=captured + 10**9,
        snapshot=None,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "line.toml").write_text('[line]\ndata = "data"\n')
    return tmp_path / "data" / "journal.sqlite"


@pytest.fixture
def command(file: Path) -> Command:
    config = str(file.parent.parent / "line.toml")
    return lambda *arguments: main(["--config", config, "journal", *arguments])


@pytest.fixture
def filled(file: Path) -> Path:
    made = JournalWriter(file, JournalSettings(), session="s1", utc_ns=lambda: NOW_NS)
    made.put(event(1, age_h=5), "published", latency_ms=31.44)
    made.put(event(2), "acknowledged", "actuated", latency_ms=28.0)
    made.put(event(3, camera="side", verdict=Verdict.UNINSPECTED), "expired")
    assert made.close()
    return file


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_table_says_what_became_of_each_part(
    filled: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command() == 0
    header, *rows, session = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["time", "camera", "frame", "verdict"]
    assert [row.split() for row in rows] == [
        ["2026-11-24T07:00:00.000Z", "top", "1", "reject", "0.02", "0.0125", "published", "31.4", "ms"],
        [
            *("2026-11-24T11:00:00.000Z", "top", "2", "reject", "0.02", "0.0125"),
            *("acknowledged:", "actuated", "28.0", "ms"),
        ],
        ["2026-11-24T11:00:00.000Z", "side", "3", "uninspected", "deadline", "expired"],
    ]
    assert [row.index("published" if "published" in row else "acknow") for row in rows[:2]] == [
        header.index("what became")
    ] * 2
    assert session == "2026-11-24T12:00:00.000Z  -- session s1: ended 2026-11-24T12:00:00.000Z"


def test_since_and_camera_choose_by_the_time_of_capture(
    filled: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--json", "--since", "2026-11-24T08:00:00Z", "--camera", "top") == 0
    verdicts = [row for row in json_lines(capsys.readouterr().out) if row["kind"] == "verdict"]
    assert [(row["frame"], row["part"], row["latency_ms"], row["ack_result"]) for row in verdicts] == [
        (2, 2, 28.0, "actuated")
    ]


def test_a_camera_that_has_no_row_is_named(
    filled: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--camera", "left") == 1
    assert capsys.readouterr().err.endswith("the journal has no camera called 'left'; there are: side, top\n")


def test_csv_has_verdicts_alone_on_stdout_and_the_rest_on_stderr(
    filled: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--csv") == 0
    told = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(told.out)))
    assert [(row["frame"], row["outcome"], row["score"]) for row in rows] == [
        ("1", "published", "0.02"),
        ("2", "acknowledged", "0.02"),
        ("3", "expired", ""),
    ]
    assert "session s1" in told.err


def test_more_rows_than_one_page_come_whole_and_in_order(
    file: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    made = JournalWriter(file, JournalSettings())
    for frame in range(1, 2501):
        made.put(event(frame), "published")
    assert made.close(timeout_s=10.0)
    assert command("--json") == 0
    frames = [row["frame"] for row in json_lines(capsys.readouterr().out) if row["kind"] == "verdict"]
    assert frames == list(range(1, 2501))


def test_it_is_read_while_the_line_writes_and_keeps_nobody_from_writing(
    file: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    made = JournalWriter(file, JournalSettings(), session="s1")
    try:
        for frame in range(1, 20):
            made.put(event(frame), "published")
            time.sleep(0.02)
            assert command("--json") in (0, 1), "1 only before the file is there"
            assert made.problem is None
        time.sleep(0.5)
        capsys.readouterr()
        assert command("--json") == 0
        told = json_lines(capsys.readouterr().out)
        assert sum(row["kind"] == "verdict" for row in told) == 19
        assert [row["ended_utc"] for row in told if row["kind"] == "session"] == [None]
    finally:
        assert made.close()


def test_a_killed_service_shows_with_its_gap(
    filled: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(filled)) as connection, connection:
        connection.execute("UPDATE runs SET closed_utc = NULL")
    assert JournalWriter(filled, JournalSettings(), session="s2", utc_ns=lambda: NOW_NS + HOUR_NS).close()
    assert command() == 0
    told = capsys.readouterr().out
    assert "session s1: did not end properly, last seen 2026-11-24T12:00:00.000Z" in told
    assert f"2026-11-24T12:00:00.000Z  -- gap until 2026-11-24T13:00:00.000Z: {KILLED}" in told
    assert command("--json", "--since", "2026-11-24T12:30:00Z") == 0
    gaps = [row for row in json_lines(capsys.readouterr().out) if row["kind"] == "gap"]
    assert [(gap["lost"], gap["why"]) for gap in gaps] == [(None, KILLED)]


def test_changes_name_who_what_old_and_new_and_drive_no_terminal(
    file: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    made = JournalWriter(file, JournalSettings(), utc_ns=lambda: NOW_NS)
    made.record_change("camera.top.recipe", "bottle-top", "can\x1b[2J", "plant1/line1/top/recipe/set")
    made.record_values("recipe.can", {"recipe.can.sha256": "ab" * 32}, "service")
    assert made.close()
    assert command("--changes") == 0
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split() == [
        *("2026-11-24T12:00:00.000Z", "plant1/line1/top/recipe/set", "camera.top.recipe"),
        *("bottle-top", "->", "can?[2J"),
    ]
    assert second.split()[1:] == ["service", "recipe.can.sha256", "(none)", "->", "abababababab"]
    assert command("--changes", "--json") == 0
    assert json_lines(capsys.readouterr().out)[1]["new"] == "ab" * 32
    assert command("--changes", "--csv", "--since", "2026-11-25") == 0
    assert capsys.readouterr().out == "utc,who,what,old,new\n"


def test_a_journal_that_is_not_there_is_one_line_and_none_is_made(
    file: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command() == 1
    assert (
        capsys.readouterr().err == f"line-monitor: {file}: no journal yet: it begins when the service runs\n"
    )
    assert not file.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", ""), (b"anything but a database, long enough to be looked at " * 40, "damaged")],
)
def test_an_empty_journal_is_no_failure_and_a_damaged_one_is_one_line(
    file: Path, command: Command, capsys: pytest.CaptureFixture[str], content: bytes, says: str
) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    assert command() == (1 if says else 0)
    told = capsys.readouterr()
    assert says in told.err
    assert told.err.count("\n") == (1 if says else 0)
    assert file.read_bytes() == content


def test_a_newer_programs_journal_is_not_interpreted(
    filled: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(filled)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    assert command() == 1
    assert "update this one" in capsys.readouterr().err


def test_a_locked_journal_is_one_line(
    filled: Path, command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.journal.reader._PATIENCE_S", 0.1)
    with closing(sqlite3.connect(filled, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM gaps")
        assert command() == 1
        other.execute("ROLLBACK")
    told = capsys.readouterr().err
    assert "locked by another program" in told
    assert told.count("\n") == 1


def test_who_may_only_read_can_read_a_journal_that_nobody_writes(filled: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to become somebody else")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "journal.sqlite")
        copy.write_bytes(filled.read_bytes())
        Path(folder).chmod(0o755)
        os.seteuid(65534)
        try:
            with JournalReader(copy) as reader:
                assert len(list(reader.verdicts())) == 3
        finally:
            os.seteuid(0)
        assert [path.name for path in Path(folder).iterdir()] == ["journal.sqlite"]


def test_a_reader_that_has_seen_enough_is_no_failure(filled: Path) -> None:
    made = JournalWriter(filled, JournalSettings())
    for frame in range(1, 4001):
        made.put(event(frame), "published")
    assert made.close(timeout_s=10.0)
    config = filled.parent.parent / "line.toml"
    line_monitor = f'"{sys.executable}" -m monitor.cli --config "{config}"'
    run = subprocess.run(
        f'{line_monitor} journal | head -n 2; echo "${{PIPESTATUS[0]}}"',
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.splitlines()[-1] == "0"
    assert run.stderr == ""


def test_since_takes_dates_times_and_ages() -> None:
    assert parse_since("2026-11-24", NOW_NS) == "2026-11-24T00:00:00.000Z"
    assert parse_since("2026-11-24T06:00", NOW_NS) == "2026-11-24T06:00:00.000Z"
    assert parse_since("2026-11-24T06:00:00.5+02:00", NOW_NS) == "2026-11-24T04:00:00.500Z"
    assert parse_since("90m", NOW_NS) == "2026-11-24T10:30:00.000Z"
    assert parse_since("8h", NOW_NS) == "2026-11-24T04:00:00.000Z"
    assert parse_since("7d", NOW_NS) == "2026-11-17T12:00:00.000Z"
    assert parse_since("99999999w", NOW_NS) == "1970-01-01T00:00:00.000Z"


@pytest.mark.parametrize("text", ["", "yesterday", "8", "-3h", "2026-13-01", "nan", "0001-01-01T00:00+02:00"])
def test_what_is_no_time_is_told_with_examples(
    filled: Path, command: Command, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert command(f"--since={text}") == 1
    told = capsys.readouterr().err
    assert "is not a time: use one like 2026-11-24" in told
    assert told.count("\n") == 1


def test_parts_of_a_live_view_and_of_an_older_journal_are_shown_too(
    file: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    file.parent.mkdir()
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement in _STEPS[0]:
            connection.execute(statement)
        connection.execute(
            "INSERT INTO verdicts VALUES ('e', 's', 'top', 7, 'reject', NULL, 0.02, 0.01, 'bottle-top', "
            "NULL, '2026-11-20T00:00:00.000Z', '2026-11-20T00:00:00.030Z', 'published', "
            "'2026-11-20T00:00:00.040Z', NULL, NULL)"
        )
        connection.execute("INSERT INTO runs VALUES ('2026-11-19T00:00:00.000Z', NULL)")
    assert command("--json") == 0
    session, verdict = json_lines(capsys.readouterr().out)
    assert (verdict["frame"], verdict["part"], verdict["latency_ms"]) == (7, None, None)
    assert session["session"] is None
    assert command("--changes") == 0
    assert capsys.readouterr().out == "no change recorded\n"
    made = JournalWriter(file, JournalSettings())
    made.put(replace(event(8)), "published", latency_ms=9.0)
    assert made.close()
    assert command("--json") == 0
    told = json_lines(capsys.readouterr().out)
    assert [row["frame"] for row in told if row["kind"] == "verdict"] == [7, 8]
    assert [row["why"] for row in told if row["kind"] == "gap"] == [KILLED]
