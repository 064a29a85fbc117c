"""What people removed before a teaching is counted by person and reason; what they brought back is not."""

from __future__ import annotations

from monitor.audit.entry import EMPTY, Change, Entry, Kind, follow
from monitor.review.removed_images import RemovedImages, count_removed


def entries(*acts: str | tuple[str, str]) -> list[Entry]:
    """One entry a minute, by erik unless said otherwise."""
    found, head = [], EMPTY
    for minute, act in enumerate(acts):
        who, what = act if isinstance(act, tuple) else ("erik", act)
        utc = f"2026-11-30T14:{minute:02}:00.000Z"
        change = Change(Kind.TRAINING, who, "recipe.screw.teaching", None, what, "", utc, via="page")
        found.append(follow(head, change))
        head = found[-1].head
    return found


def test_images_removed_on_the_page_are_counted_by_person_and_reason() -> None:
    record = entries(
        "200 images of camera top are collected as good parts",
        "removed: image good/a.png",
        "removed: 37 images, copy",
        ("edda", "removed: 156 images, copy"),
        "removed: 3 images, blurred",
        "removed: image defect/b.png",
        "removed: 2 known defects, copy",
        "teaching of memory is started from 168 good images, sha256 of their names 0, with 0 known defects",
        "removed: image good/c.png",
        "teaching of memory is started from 167 good images, sha256 of their names 0, with 0 known defects",
    )
    erik = RemovedImages("erik", (("singly", 1), ("near copies", 37), ("blurred", 3)))
    edda = RemovedImages("edda", (("near copies", 156),))
    assert count_removed(record, 168, "2026-11-30T14:07:54Z") == [erik, edda]
    # The version that was taught first keeps its count.
    assert count_removed(record, 168, "2026-11-30T14:30:00Z") == [erik, edda]


def test_what_was_brought_back_does_not_count() -> None:
    record = entries(
        "removed: 3 images, blurred",
        "removed: 37 images, copy",
        "brought back: 37 images that were removed last",
        "teaching of both is started from 50 good images, sha256 of their names 0, with 0 known defects",
    )
    assert count_removed(record, 50, "2026-11-30T15:00:00Z") == [RemovedImages("erik", (("blurred", 3),))]


def test_a_training_that_is_not_in_the_record_has_no_count() -> None:
    record = entries(
        "removed: 3 images, blurred",
        "teaching of both is started from 50 good images, sha256 of their names 0, with 0 known defects",
    )
    assert count_removed(record, 51, "2026-11-30T15:00:00Z") is None
    assert count_removed(record, 50, "2026-11-30T14:00:30Z") is None


def test_a_known_defect_that_was_brought_back_leaves_the_count_of_good_images() -> None:
    record = entries(
        "removed: image good/a.png",
        "removed: image defects/b.png",
        "brought back: 1 images that were removed last",
        "removed: 2 known defects, copy",
        "brought back: 2 images that were removed last",
        "teaching of both is started from 50 good images, sha256 of their names 0, with 3 known defects",
    )
    assert count_removed(record, 50, "2026-11-30T15:00:00Z") == [RemovedImages("erik", (("singly", 1),))]
