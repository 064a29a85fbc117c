"""A person who resets a line sees all parts of its latch, as far as the journal has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.journal.writer import JournalWriter
from monitor.line_state.latch_file import Latch
from monitor.line_state.latched_parts import MOST, NO_PARTS, LatchedPart
from monitor.review.parts_to_find import find_parts
from monitor.settings import CameraSettings, JournalSettings, Mode, OnUninspected
from monitor.verdict import Event, Reason, Verdict, rfc3339

START_NS = 1_795_000_000_000_000_000
SECOND_NS = 1_000_000_000


def camera(name: str, **more: object) -> CameraSettings:
    return CameraSettings(name=name, source="simulated://plate", recipe="plate", **more)  # type: ignore[arg-type]


CAMERAS = (
    camera("top"),
    camera("back", on_uninspected=OnUninspected.STOP),
    camera("view", mode=Mode.LATEST),
)


def event(name: str, frame: int, verdict: Verdict = Verdict.REJECT) -> Event:
    captured = START_NS + frame * SECOND_NS
    reason = Reason.DEADLINE if verdict is Verdict.UNINSPECTED else Reason.NONE
    scored = verdict, reason, 2.0, 1.0, "plate", None
    return Event("p/l", name, "s", frame, None, *scored, captured, captured, captured, None)


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("journal") / "journal.sqlite"
    writer = JournalWriter(file, JournalSettings(), utc_ns=lambda: START_NS + 100 * SECOND_NS)
    for frame in range(1, 11):
        writer.put(event("top", frame), "expired")
    writer.put(event("top", 11), "published")
    writer.put(event("top", 12, Verdict.UNINSPECTED), "unacknowledged")
    writer.put(event("back", 13, Verdict.UNINSPECTED), "expired")
    writer.put(event("view", 14), "expired")
    assert writer.close()
    return file


def test_the_journal_adds_the_parts_that_the_board_only_counts(journal: Path) -> None:
    latched = NO_PARTS
    for frame in range(3, 11):
        latched = latched.add(LatchedPart("top", frame, rfc3339(START_NS + frame * SECOND_NS)))
    found = find_parts(journal, Latch.MISSED_REJECT, latched.add_unnamed(3), CAMERAS)
    assert [part.frame for part in found.parts] == [3, 4, 5, 6, 7, 8, 9, 10, 12]
    assert (found.count, found.unlisted, found.is_counted) == (11, 2, True)
    unjudged = find_parts(journal, Latch.UNINSPECTED, latched, CAMERAS)
    assert [part.frame for part in unjudged.parts] == [3, 4, 5, 13]


def test_without_a_journal_the_others_are_counted_and_the_reason_is_told(tmp_path: Path) -> None:
    latched = NO_PARTS.add(LatchedPart("top", 1, rfc3339(START_NS))).add_unnamed(MOST)
    found = find_parts(tmp_path / "none", Latch.MISSED_REJECT, latched, CAMERAS)
    assert (len(found.parts), found.unlisted) == (1, MOST)
    assert "no journal yet" in found.problem
