"""Where a source of stored images stands."""

from __future__ import annotations

from drivers.progress import Mark, Progress, Step, Unkept


def test_an_image_is_given_again_until_it_has_its_frame() -> None:
    progress = Progress()
    assert progress.mark.next_index == 0
    progress.begin(0, "a.png")
    assert progress.mark == Mark(0, "a.png", Step.DECODING)
    assert progress.mark.next_index == 0
    progress.finish()
    assert progress.mark == Mark(0, "a.png", Step.DECODED)
    assert progress.mark.next_index == 0
    progress.tell(0)
    assert progress.mark.next_index == 1


def test_only_the_image_at_hand_can_get_its_frame() -> None:
    progress = Progress()
    progress.begin(3)
    for index in (2, 4, None):
        progress.tell(index)
        assert progress.mark.next_index == 3


def test_nothing_is_kept_for_who_asks_for_nothing() -> None:
    progress = Unkept()
    progress.begin(3)
    progress.tell(3)
    assert progress.mark.next_index == 0
