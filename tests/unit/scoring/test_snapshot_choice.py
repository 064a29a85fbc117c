"""Every reject of a part gets a snapshot; of a defect that stays in a live view only the first frame does."""

from __future__ import annotations

import pytest

from monitor.scoring.snapshot_choice import SnapshotChoice
from monitor.settings import CameraSettings, Mode
from monitor.verdict import Verdict

PASS, REJECT, UNINSPECTED = Verdict.PASS, Verdict.REJECT, Verdict.UNINSPECTED


S = 1_000_000_000


def choices(
    choice: SnapshotChoice, camera: CameraSettings, *verdicts: Verdict, began: int = 0, every: int = S
) -> list[bool]:
    """The choices for frames that come every `every` nanoseconds."""
    return [choice.wants(camera, verdict, began + n * every) for n, verdict in enumerate(verdicts)]


def camera(mode: Mode, name: str = "top") -> CameraSettings:
    return CameraSettings(name=name, source="simulated://plate", recipe="plate", mode=mode)


def test_every_rejected_part_gets_a_snapshot_and_an_uninspected_one_none() -> None:
    verdicts = (REJECT, REJECT, UNINSPECTED, PASS, REJECT)
    kept = choices(SnapshotChoice(0), camera(Mode.EVERY_PART), *verdicts)
    assert kept == [True, True, False, False, True]


def test_a_defect_in_a_live_view_gets_one_snapshot_until_it_has_left() -> None:
    choice, live = SnapshotChoice(0), camera(Mode.LATEST)
    assert choices(choice, live, REJECT, REJECT, UNINSPECTED, REJECT) == [True, False, False, False]
    assert choices(choice, live, PASS, REJECT, REJECT, began=4 * S) == [False, True, False]
    choice.see_empty_place("top")
    assert choices(choice, live, REJECT, began=7 * S) == [True]


def test_a_live_view_that_changes_with_every_frame_leaves_room_for_the_snapshots_of_parts() -> None:
    flickering = (REJECT, PASS) * 50
    choice, live = SnapshotChoice(1), camera(Mode.LATEST)
    assert sum(choices(choice, live, *flickering, every=S // 25)) == 4, "4 s"
    assert sum(choices(choice, camera(Mode.EVERY_PART), *flickering, every=S // 25)) == 100


@pytest.mark.parametrize("before", [[REJECT, PASS], [REJECT, UNINSPECTED, PASS], [PASS]])
def test_a_new_defect_in_a_live_view_gets_its_snapshot_once_the_view_may_have_one(
    before: list[Verdict],
) -> None:
    """A snapshot stands less than a second before the defect, which stays for 4 s."""
    choice, live, every = SnapshotChoice(1), camera(Mode.LATEST), S // 10
    assert choices(choice, live, *before, every=every)[0]
    began = len(before) * every
    kept = choices(choice, live, *[REJECT] * 40, began=began, every=every)
    assert [n * every + began for n, one in enumerate(kept) if one] == [S]


def test_a_new_defect_after_an_empty_place_gets_its_snapshot_too() -> None:
    choice, live = SnapshotChoice(0), camera(Mode.LATEST)
    assert choice.wants(live, REJECT, 0)
    choice.see_empty_place("top")
    assert choices(choice, live, *[REJECT] * 5, began=S // 2, every=S // 4) == [
        False,
        False,
        True,
        False,
        False,
    ]


def test_a_defect_whose_snapshot_could_not_be_sent_gets_the_next_one() -> None:
    choice, live = SnapshotChoice(0), camera(Mode.LATEST)
    assert choice.wants(live, REJECT, 0)
    choice.see_unsent("top")
    assert choices(choice, live, REJECT, REJECT, began=S) == [True, False]


def test_every_nth_passed_frame_of_each_camera_gets_a_snapshot() -> None:
    choice = SnapshotChoice(2)
    top, side = camera(Mode.EVERY_PART), camera(Mode.EVERY_PART, "side")
    assert choices(choice, top, PASS, REJECT, PASS, PASS, PASS) == [False, True, True, False, True]
    assert choices(choice, side, PASS, PASS) == [False, True]
