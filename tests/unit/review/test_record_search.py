"""Entries are found newest first, page by page, and no search reads a long record as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.audit.entry import Change, Kind
from monitor.audit.trail import AuditTrail
from monitor.review import record_search
from monitor.review.record_filter import RecordFilter
from monitor.review.record_search import search


@pytest.fixture
def trail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AuditTrail:
    """21 entries: the first one of the record, then labels by otto and every fifth a promotion by quinn."""
    monkeypatch.setattr(record_search, "PER_PAGE", 4)
    made = AuditTrail(tmp_path / "audit.jsonl", "plant1/line1")
    for n in range(20):
        if n % 5:
            change = Change(Kind.LABEL, "otto", f"snapshots/{n}", None, "defect", "", f"utc {n}")
        else:
            after = f"plate@{n}, sha256 00"
            change = Change(
                Kind.PROMOTION, "Quinn", "recipe.plate.in_force", None, after, "approved", f"utc {n}"
            )
        made.append(change)
    return made


def test_pages_follow_each_other_without_a_gap_to_the_first_entry(trail: AuditTrail) -> None:
    seen: list[int] = []
    before: int | None = None
    while True:
        page = search(trail, RecordFilter(), before)
        seen += [entry.n for entry in page.entries if entry]
        if page.older is None:
            break
        before = page.older
        # What is added meanwhile moves no page.
        trail.append(Change(Kind.RESET, "otto", "line", None, None, "", "later"))
    assert seen == list(range(21, 0, -1))


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ({"kind": "promotion"}, [17, 12, 7, 2]),
        ({"who": "qui"}, [17, 12, 7, 2]),
        ({"recipe": "plate"}, [17, 12, 7, 2]),
        ({"recipe": "plat"}, []),
        ({"kind": "promotion", "who": "otto"}, []),
    ],
)
def test_a_filter_finds_all_that_meet_it(
    trail: AuditTrail, query: dict[str, str], numbers: list[int]
) -> None:
    assert [entry.n for entry in search(trail, RecordFilter.parse(query), None).entries if entry] == numbers


def test_a_search_without_result_ends_early_and_says_so(
    trail: AuditTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_search, "MOST_READ", 8)
    wanted = RecordFilter(kind="begin")
    first = search(trail, wanted, None)
    assert (first.entries, first.is_cut) == ((), True)
    second = search(trail, wanted, first.older)
    last = search(trail, wanted, second.older)
    assert [entry.n for entry in last.entries if entry] == [1]
    assert last.older is None


def test_an_altered_line_is_shown_as_none(trail: AuditTrail) -> None:
    trail.file.write_bytes(trail.file.read_bytes().replace(b'"utc 19"', b'"utc 20"'))
    assert search(trail, RecordFilter(), None).entries[0] is None
