"""Known defects say where they come from, because those from the wall are too good."""

from __future__ import annotations

from monitor.review.defect_sources import count_sources, find_snapshot, identify_frame, name_defect
from monitor.review.snapshot_files import Key
from monitor.snapshots.labels import NO_DETAILS, SnapshotDetails

KEY = Key("2026-11-24", "top", "050100123_top_17_1.25")
COLLECTED = "20261124T050100123Z_top_000017.png"


def tell(names: list[str], details: SnapshotDetails = NO_DETAILS) -> str:
    return count_sources(names, lambda key: details, lambda recipe, sha: f"{recipe}@{sha}").text


def test_the_count_says_which_version_rejected_those_from_the_wall() -> None:
    rejected = SnapshotDetails("plate", "reject", 1.0, 1.25, None, recipe_sha="2")
    text = tell([COLLECTED, COLLECTED, name_defect(KEY), "scratch.png"], rejected)
    assert text.startswith(
        "2 from the camera, 1 labelled on the page Rejects, which plate@2 rejected, 1 put into the folder by "
        "hand: defects that it passed are not among these 1."
    )
    assert "looks too small" in text
    assert tell([COLLECTED]) == "1 from the camera."
    assert tell([]) == ""
    assert "snapshots are deleted" in tell([name_defect(KEY)])


def test_a_frame_is_known_by_either_of_its_names() -> None:
    assert find_snapshot(name_defect(KEY)) == KEY
    assert (
        identify_frame(name_defect(KEY)) == identify_frame(COLLECTED) == ("2026-11-24", "050100", "top", 17)
    )
    assert identify_frame("scratch.png") is None
