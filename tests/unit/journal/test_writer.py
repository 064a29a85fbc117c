"""The journal has the outcome of every reject, and its troubles never delay or stop the line."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from monitor.journal.writer import KILLED, JournalWriter
from monitor.settings import JournalSettings, JournalVerdicts
from monitor.verdict import Event, Reason, Verdict

UTC_NS = 1_795_000_000_000_000_000
DAY_NS = 86_400 * 1_000_000_000
DEFAULTS = JournalSettings()


def reject(frame: int = 1) -> Event:
    return Event(
        prefix="plant1/line1",
        camera="top",
        session="s1",
        frame=frame,
        part=None,
        verdict=Verdict.REJECT,
        reason=Reason.NONE,
        score=0.02,
        threshold=0.01,
        recipe="bottle-top",
        recipe_sha="abc",
        captured_utc_ns=UTC_NS,
        decided_utc_ns=UTC_NS + 1_000_000,
        expires_utc_ns=UTC_NS + 10**9,
        snapshot=None,
    )


def rows(
    file: Path, query: str = "SELECT event_id, outcome, ack_result FROM verdicts"
) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return list(connection.execute(query))


def tables(file: Path) -> bool:
    """Whether the journal has its tables."""
    return file.exists() and rows(file, "SELECT name FROM sqlite_master") != []


def noted(file: Path) -> int:
    return len(rows(file)) if tables(file) else 0


def gaps(file: Path) -> list[tuple[object, ...]]:
    return rows(file, "SELECT lost, why FROM gaps")


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.02)


@contextmanager
def journal(file: Path, settings: JournalSettings = DEFAULTS, **options: object) -> Iterator[JournalWriter]:
    made = JournalWriter(file, settings, **options)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "journal.sqlite"


@pytest.mark.timing
def test_a_reject_is_on_disk_within_a_second(file: Path) -> None:
    with journal(file) as made:
        wait_for(lambda: tables(file))
        made.put(reject(), "published")
        started = time.monotonic()
        wait_for(lambda: noted(file) == 1)
        assert time.monotonic() - started < 1.0


def test_the_last_outcome_of_an_event_stands_in_one_row(file: Path) -> None:
    with journal(file) as made:
        made.put(reject(), "published")
        made.put(reject(), "acknowledged", "actuated")
        made.put(
            replace(reject(2), verdict=Verdict.UNINSPECTED, reason=Reason.DEADLINE, score=None), "expired"
        )
        assert made.close()
    assert rows(file) == [
        (reject().event_id, "acknowledged", "actuated"),
        (reject(2).event_id, "expired", None),
    ]
    assert rows(file, "SELECT verdict, reason, score, captured_utc FROM verdicts ORDER BY frame")[1] == (
        "uninspected",
        "deadline",
        None,
        "2026-11-18T11:06:40.000Z",
    )


def test_passes_are_noted_only_where_all_verdicts_are_wanted(file: Path) -> None:
    with journal(file) as made:
        made.put(replace(reject(), verdict=Verdict.PASS), "published")
        assert made.close()
    assert rows(file) == []
    with journal(file, JournalSettings(verdicts=JournalVerdicts.ALL)) as made:
        made.put(replace(reject(), verdict=Verdict.PASS), "published", latency_ms=31.5)
        assert made.close()
    assert rows(file, "SELECT verdict, latency_ms FROM verdicts") == [("pass", 31.5)]


def test_close_writes_what_waits_within_its_bound(file: Path) -> None:
    with journal(file) as made:
        for frame in range(1, 3001):
            made.put(reject(frame), "published")
        started = time.monotonic()
        assert made.close(timeout_s=5.0)
        assert time.monotonic() - started < 5.0
    assert rows(file, "SELECT count(*) FROM verdicts") == [(3000,)]


@pytest.mark.timing
def test_a_locked_journal_delays_nobody_and_goes_on_afterwards(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with journal(file, held=5) as made:
        wait_for(lambda: tables(file))
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            made.put(reject(1), "published")
            wait_for(lambda: made.problem is not None)
            slowest = 0.0
            for frame in range(2, 102):
                started = time.monotonic()
                made.put(reject(frame), "published")
                slowest = max(slowest, time.monotonic() - started)
            assert slowest < 0.1
            assert made.problem is not None
            assert "locked" in made.problem
            assert made.lost == 95
            other.execute("ROLLBACK")
        wait_for(lambda: made.problem is None and made.lost == 0)
        wait_for(lambda: noted(file) == 6)
    assert [lost for lost, _ in gaps(file)] == [95]
    assert len([line for line in caplog.messages if "locked by" in line]) == 1
    assert len([line for line in caplog.messages if "works again" in line]) == 1


@pytest.mark.timing
def test_closing_a_locked_journal_ends_within_its_bound(file: Path) -> None:
    with journal(file) as made:
        wait_for(lambda: tables(file))
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            made.put(reject(), "published")
            started = time.monotonic()
            assert not made.close(timeout_s=0.5)
            assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("damage", ["not a database at all, but long enough to be looked at" * 40, "header"])
def test_a_damaged_journal_is_moved_aside_and_a_new_one_begun(
    file: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    file.parent.mkdir()
    if damage == "header":
        with journal(file) as made:
            made.put(reject(), "published")
        content = bytearray(file.read_bytes())
        content[100 : len(content)] = b"\xa5" * (len(content) - 100)
        file.write_bytes(content)
    else:
        file.write_text(damage)
    with journal(file) as made:
        made.put(reject(7), "published")
        wait_for(lambda: len(list(file.parent.glob("journal.sqlite.corrupt-*"))) == 1)
        wait_for(lambda: tables(file))
        wait_for(lambda: noted(file) == 1)
        assert made.problem is None
    assert "damaged" in str(gaps(file)[0][1])
    assert len([line for line in caplog.messages if "damaged" in line]) == 1


def test_a_journal_deleted_by_hand_is_begun_anew(file: Path) -> None:
    with journal(file) as made:
        made.put(reject(1), "published")
        wait_for(lambda: noted(file) == 1)
        for part in file.parent.glob("journal.sqlite*"):
            part.unlink()
        made.put(reject(2), "published")
        wait_for(lambda: noted(file) == 1)
    assert "deleted" in str(gaps(file)[0][1])


def test_a_run_that_was_killed_shows_as_a_gap(file: Path) -> None:
    with journal(file) as made:
        made.put(reject(), "published")
        assert made.close()
    assert gaps(file) == []
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE runs SET closed_utc = NULL")
    with journal(file) as made:
        assert made.close()
    assert [why for _, why in gaps(file)] == [KILLED]


def test_a_full_disk_is_a_problem_and_not_a_crash(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], check=False)
    if mounted.returncode != 0:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        file = place / "journal.sqlite"
        with journal(file) as made:
            made.put(reject(1), "published")
            wait_for(lambda: tables(file))
            wait_for(lambda: noted(file) == 1)
            filler = place / "filler"
            with pytest.raises(OSError, match="No space"):
                filler.write_bytes(bytes(300_000))
            for frame in range(2, 500):
                made.put(reject(frame), "published")
            wait_for(lambda: made.problem is not None)
            assert made.problem is not None
            filler.unlink()
            wait_for(lambda: made.problem is None)
            assert made.close()
            assert rows(file, "SELECT count(*) FROM verdicts WHERE frame <= 2") == [(2,)]
    finally:
        subprocess.run(["umount", place], check=True)
    assert len([line for line in caplog.messages if "rejects go on without it" in line]) == 1


def test_a_folder_that_cannot_be_made_is_a_problem_and_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    with journal(tmp_path / "data" / "journal.sqlite") as made:
        made.put(reject(), "published")
        wait_for(lambda: made.problem is not None)


def test_old_rows_are_pruned(file: Path) -> None:
    now = UTC_NS
    with journal(file, utc_ns=lambda: now - 400 * DAY_NS) as made:
        for frame in range(1, 11):
            made.put(reject(frame), "published")
        assert made.close()
    with journal(file, utc_ns=lambda: now) as made:
        for frame in range(11, 31):
            made.put(reject(frame), "published")
        assert made.close()
    assert rows(file, "SELECT min(frame), count(*) FROM verdicts") == [(11, 20)]


def test_where_there_is_too_much_the_oldest_go_and_passes_before_all_others(file: Path) -> None:
    passed = replace(reject(), verdict=Verdict.PASS)
    settings = JournalSettings(verdicts=JournalVerdicts.ALL)
    with journal(file, settings) as made:
        for frame in range(1, 6001):
            made.put(replace(passed if frame % 20 else reject(), frame=frame), "published")
        assert made.close(timeout_s=20.0)
    whole = file.stat().st_size
    with journal(file, settings.model_copy(update={"max_gb": whole * 0.5e-9})) as made:
        wait_for(lambda: rows(file, "SELECT count(*) < 1000 FROM verdicts WHERE verdict = 'pass'") == [(1,)])
        assert made.close()
    assert rows(file, "SELECT count(*) FROM verdicts WHERE verdict = 'reject'") == [(300,)]
    with journal(file, settings.model_copy(update={"max_gb": 1e-9})) as made:
        wait_for(lambda: rows(file, "SELECT count(*) FROM verdicts") == [(0,)])
        assert made.close()


def test_a_newer_programs_journal_is_left_alone_and_said(file: Path) -> None:
    with journal(file) as made:
        assert made.close()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with journal(file) as made:
        made.put(reject(), "published")
        wait_for(lambda: made.problem is not None)
        assert made.problem is not None
        assert "update this one, or move the file away" in made.problem
    assert rows(file) == []


def test_what_is_put_again_yields_to_what_is_final_already(file: Path) -> None:
    with journal(file) as made:
        made.put(reject(1), "decided")
        made.put(reject(2), "published")
        made.put(reject(3), "unacknowledged", "failed")
        made.put(reject(4), "published")
        made.put(reject(6), "unheard")
        made.put(reject(7), "unheard")
        made.put(reject(1), "expired", again=True)
        made.put(reject(2), "acknowledged", again=True)
        made.put(reject(3), "acknowledged", again=True)
        made.put(reject(4), "unknown", again=True)
        made.put(reject(5), "unknown", again=True)
        made.put(reject(6), "unacknowledged", again=True)
        made.put(reject(7), "published", again=True)
        assert made.close()
    assert rows(file, "SELECT frame, outcome FROM verdicts ORDER BY frame") == [
        (1, "expired"),
        (2, "acknowledged"),
        (3, "unacknowledged"),
        (4, "published"),
        (5, "unknown"),
        (6, "unacknowledged"),
        (7, "unheard"),
    ]


def test_who_comes_back_in_the_same_session_goes_on_without_a_gap(file: Path) -> None:
    with journal(file, session="s1") as made:
        assert made.close()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE runs SET closed_utc = NULL, seen_utc = '2026-11-18T11:00:00.000Z'")
    with journal(file, session="s1", killed=True) as made:
        made.put(reject(), "unknown", again=True)
        assert made.close()
    with journal(file, session="s2") as made:
        assert made.close()
    assert gaps(file) == []
    assert rows(file, "SELECT session, killed, closed_utc < '2026-11-18T11:00:01' FROM runs") == [
        ("s1", 1, 1),
        ("s2", 0, 0),
    ]


def test_superseded_frames_of_a_live_view_are_one_row_an_episode(file: Path) -> None:
    superseded = replace(reject(), verdict=Verdict.UNINSPECTED, reason=Reason.SUPERSEDED, score=None)
    with journal(file) as made:
        for frame in range(1, 101):
            made.put(replace(superseded, frame=frame), "not published")
        made.put(replace(superseded, camera="side"), "not published")
        assert made.close()
    assert rows(file, "SELECT camera, frame FROM verdicts ORDER BY rowid") == [("top", 1), ("side", 1)]
