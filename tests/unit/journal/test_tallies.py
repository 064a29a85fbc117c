"""Passes are counted by time, over restarts and kills of the service, and no part is counted twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from monitor.journal import schema, tallies
from monitor.journal.pruning import prune
from monitor.journal.tallies import SLOT_NS, CameraTally
from monitor.line_state.counts import Counts
from monitor.verdict import Reason, rfc3339

EARLY, LATE = "2026-11-24T05:00:00.000Z", "2026-11-24T13:00:00.000Z"
START_NS = 1_795_496_400 * 1_000_000_000  # 2026-11-24 05:00 UTC


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(":memory:", isolation_level=None)
    schema.bring_up_to_date(opened)
    yield opened
    opened.close()


def counts(passed: int, rejected: int = 0, late: int = 0, missed: int = 0) -> Counts:
    uninspected = [0] * len(Reason)
    uninspected[Reason.DEADLINE] = late
    return Counts(passed + rejected + late, passed, rejected, tuple(uninspected), missed)


def between(connection: sqlite3.Connection, start: str, end: str) -> list[CameraTally]:
    rows = [list(connection.execute(*tallies.until(utc))) for utc in (end, start)]
    return tallies.subtract(*rows)


def test_a_shift_counts_what_was_judged_in_it_over_sessions_and_what_is_written_twice_once(
    connection: sqlite3.Connection,
) -> None:
    assert rfc3339(START_NS) == EARLY
    tallies.write(connection, "a", "top", START_NS - SLOT_NS, counts(100, 3))
    tallies.write(connection, "a", "top", START_NS, counts(150, 4, late=1))
    tallies.write(connection, "a", "top", START_NS, counts(180, 5, late=2, missed=1))
    # A publisher that follows a killed one, or the next start of the service, writes the same again.
    tallies.write(connection, "a", "top", START_NS, counts(150, 4, late=1))
    tallies.write(connection, "b", "top", START_NS + 2 * SLOT_NS, counts(7))
    tallies.write(connection, "b", "side", START_NS + 2 * SLOT_NS, counts(2))
    (side, top) = between(connection, EARLY, LATE)
    assert (side.camera, side.passed, side.frames) == ("side", 2, 2)
    assert (top.passed, top.rejected, top.missed, top.uninspected) == (87, 2, 1, {"deadline": 2})
    assert between(connection, LATE, "2026-11-25T00:00:00.000Z") == []


def test_deleting_old_tallies_leaves_what_later_ones_count_from(connection: sqlite3.Connection) -> None:
    for slot in range(5):
        tallies.write(connection, "a", "top", START_NS + slot * SLOT_NS, counts(10 * (slot + 1)))
    limit = rfc3339(START_NS + 3 * SLOT_NS)
    before = between(connection, limit, LATE)
    assert prune(connection, limit, 10**9)
    assert connection.execute("SELECT count(*) FROM tallies").fetchone() == (3,)
    assert between(connection, limit, LATE) == before
