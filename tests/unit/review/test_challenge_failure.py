"""The parts in doubt are all those since the last success, also over restarts of the service."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from monitor.journal.reader import JournalReader
from monitor.journal.tallies import SLOT_NS
from monitor.journal.writer import JournalWriter
from monitor.line_state.challenge_run import CameraMark, Failure, Success
from monitor.line_state.counts import Counts
from monitor.review.challenge_failure import find_parts_in_doubt
from monitor.settings import JournalSettings
from monitor.verdict import Event, Reason, Verdict, rfc3339

START_NS = 1_795_000_000_000_000_000 // SLOT_NS * SLOT_NS
MINUTE_NS = 60_000_000_000


def counts(frames: int, rejected: int) -> Counts:
    return Counts(frames, frames - rejected, rejected, (0,) * len(Reason), 0)


def sessions(file: Path) -> list[str | None]:
    with JournalReader(file) as reader:
        return [session.session for session in reader.sessions()]


def run_session(
    file: Path,
    name: str,
    begin_min: int,
    end_min: int,
    last: Counts,
    rejects: int = 0,
    cameras: Sequence[str] = ("top",),
) -> None:
    """One session in the journal, from minute to minute, with that many rejects at its end."""
    now = [START_NS + begin_min * MINUTE_NS]
    journal = JournalWriter(file, JournalSettings(), session=name, utc_ns=lambda: now[0])
    journal.record_tally(name, cameras[0], now[0] // SLOT_NS * SLOT_NS, counts(1, 0))
    while not file.is_file() or name not in sessions(file):
        time.sleep(0.005)
    now[0] = START_NS + end_min * MINUTE_NS
    for number in range(rejects):
        captured = START_NS + end_min * MINUTE_NS - 1_000_000 * (number + 1)
        verdict, reason = Verdict.REJECT, Reason.NONE
        times = captured, captured, captured
        scored = verdict, reason, 2.0, 1.0, "plate", None
        journal.put(Event("p/l", cameras[0], name, number + 1, None, *scored, *times, None), "published")
    for camera in cameras:
        journal.record_tally(name, camera, now[0] // SLOT_NS * SLOT_NS, last)
    journal.close()


def test_each_session_since_the_success_is_listed_with_its_frames(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    run_session(file, "before", 0, 20, counts(50, 1), rejects=1)
    run_session(file, "one", 30, 60, counts(100, 3), rejects=2)
    run_session(file, "two", 70, 90, counts(40, 0))
    success_ns = START_NS + 40 * MINUTE_NS
    success = Success(
        utc=rfc3339(success_ns),
        utc_ns=success_ns,
        by="anna",
        parts=(),
        marks=(CameraMark("top", "one", 20, 20, 0, 0),),
    )
    failure_utc = rfc3339(START_NS + 100 * MINUTE_NS)
    marks = (CameraMark("top", "three", 7, 5, 0, 0),)
    failure = Failure(utc=failure_utc, marks=marks, part="bad-1", wrong="", since=success)
    found = find_parts_in_doubt(file, failure)
    listed = [(one.session, one.first, one.last, one.passed, one.rejected) for one in found.stretches]
    assert listed == [("one", 21, 100, 77, 3), ("two", 1, 40, 40, 0), ("three", 1, 7, 5, 0)]
    assert found.stretches[0].from_utc == success.utc
    assert found.stretches[1].from_utc == rfc3339(START_NS + 70 * MINUTE_NS)
    assert len(found.rejects) == 2
    assert (found.passed, found.problem, found.is_whole) == ({"top": 122}, "", True)
    # Without the journal nobody knows how many more there are.
    assert not find_parts_in_doubt(tmp_path / "none", failure).is_whole


def test_without_a_success_every_session_and_camera_of_the_journal_is_listed(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    run_session(file, "one", 0, 20, counts(100, 3))
    run_session(file, "removed", 30, 60, counts(60, 1), cameras=("side", "view"))
    failed_ns = START_NS + 90 * MINUTE_NS
    marks = (CameraMark("top", "two", 7, 5, 0, 0),)
    failure = Failure(utc=rfc3339(failed_ns), marks=marks, part="bad-1", wrong="", since=None)
    run_session(file, "after", 95, 99, counts(1_000, 0))
    found = find_parts_in_doubt(file, failure, views={"view"})
    listed = [(one.camera, one.session, one.first, one.last, one.passed) for one in found.stretches]
    assert listed == [("top", "one", 1, 100, 97), ("top", "two", 1, 7, 5), ("side", "removed", 1, 60, 59)]
    assert found.stretches[0].from_utc == rfc3339(START_NS)
    assert found.passed == {"top": 102, "side": 59}


def test_a_camera_that_was_removed_after_the_success_is_listed_from_the_success_on(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    run_session(file, "one", 0, 60, counts(100, 3), cameras=["side"])
    success_ns = START_NS + 30 * MINUTE_NS
    known = CameraMark("side", "one", 40, 40, 0, 0), CameraMark("top", "one", 5, 5, 0, 0)
    success = Success(utc=rfc3339(success_ns), utc_ns=success_ns, by="anna", parts=(), marks=known)
    marks = (CameraMark("top", "two", 7, 7, 0, 0),)
    failure = Failure(
        utc=rfc3339(START_NS + 90 * MINUTE_NS), marks=marks, part="bad-1", wrong="", since=success
    )
    found = find_parts_in_doubt(file, failure)
    assert [(one.camera, one.first, one.last) for one in found.stretches] == [
        ("top", 1, 7),
        ("side", 41, 100),
    ]


def test_without_a_journal_the_present_session_is_listed_and_the_gap_is_stated(tmp_path: Path) -> None:
    marks = (CameraMark("top", "s", 7, 5, 1, 0),)
    failure = Failure(utc=rfc3339(START_NS), marks=marks, part="bad-1", wrong="", since=None)
    found = find_parts_in_doubt(tmp_path / "none", failure)
    assert [(one.first, one.last) for one in found.stretches] == [(1, 7)]
    assert found.since_utc is None
    assert "no journal yet" in found.problem
