"""One promotion is one change in a report, though the record has five entries of it."""

from __future__ import annotations

import pytest

from monitor.audit.entry import EMPTY, Change, Entry, Kind, follow
from monitor.review.entry_words import KINDS, fold_reports, name_recipe, name_subject

SERVICE = "service"


def record(*changes: tuple[Kind, str, str, str]) -> list[Entry]:
    """Entries of kind, subject, new value and way, a second apart."""
    found, head = [], EMPTY
    for second, (kind, subject, after, via) in enumerate(changes):
        utc = f"2026-11-24T06:00:{second:02}.000Z"
        found.append(follow(head, Change(kind, "quinn", subject, None, after, "", utc, via=via)))
        head = found[-1].head
    return found


def test_what_the_line_reports_of_a_change_stands_with_that_change() -> None:
    entries = record(
        (Kind.PROMOTION, "recipe.plate.in_force", "plate@2, sha256 12..., threshold", "page, from 10.0.0.7"),
        (Kind.LABEL, "snapshots/2026-11-24/top/060000000_top_7_1.5", "defect", "page, from 10.0.0.7"),
        (Kind.CHANGEOVER, "camera.top.recipe_in_force", "plate@2", SERVICE),
        (Kind.CHANGEOVER, "camera.top.recipe_in_force_sha", "1234", SERVICE),
        (Kind.IN_FORCE, "recipe.plate.sha256", "1234", SERVICE),
        (Kind.IN_FORCE, "recipe.plate.threshold", "1.5", SERVICE),
        (Kind.IN_FORCE, "recipe.disc.threshold", "0.5", SERVICE),
    )
    promotion, label, disc = fold_reports(entries)
    assert [entry.n for entry in promotion.reports] == [3, 4, 5, 6]
    assert promotion.cameras == (("top", "2026-11-24T06:00:02.000Z"),)
    assert (label.entry.n, disc.entry.n) == (2, 7)
    assert (label.reports, disc.reports) == ((), ())


@pytest.mark.parametrize(
    ("subject", "after", "recipe", "words"),
    [
        ("recipe.plate.threshold", "0.5", "plate", "threshold of recipe plate"),
        ("recipe.plate", "threshold 0.5", "plate", "recipe plate"),
        ("camera.top.recipe_in_force", "plate@2", "plate", "recipe of camera top"),
        ("camera.top.recipe", "plate", "plate", "camera.top.recipe"),
        ("plate@3", None, "plate", "plate@3"),
        ("account.otto", "operator", "", "account otto"),
        (
            "snapshots/2026-11-24/top/060102003_top_7_1.5",
            "defect",
            "",
            "part of camera top, frame 7, 2026-11-24 06:01:02 UTC",
        ),
    ],
)
def test_an_entry_is_named_in_words_and_found_by_its_recipe(
    subject: str, after: str | None, recipe: str, words: str
) -> None:
    entry = follow(EMPTY, Change(Kind.SETTING, "quinn", subject, None, after, "", "utc"))
    assert (name_recipe(entry), name_subject(entry)) == (recipe, words)


def test_every_kind_has_its_words() -> None:
    assert set(KINDS) == set(Kind)
