"""Live views share the time that parts leave, and a view that would make parts late is held back."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.line_state.frame import Frame, PixelFormat
from monitor.scoring.views import LiveViews

MS, S = 1_000_000, 1_000_000_000


def part(allowed_ns: int) -> Frame:
    return Frame(1, 0, 0, allowed_ns, allowed_ns, allowed_ns, -1, -1, 0, PixelFormat.Mono8, 1, 1)


def serve(views: LiveViews, name: str, now: int, took: int, part_turn: int = 30 * MS) -> bool:
    return views.add(name, now, now + took, part_turn, scored=True, in_time=True)


@settings(max_examples=100, deadline=None)
@given(
    turns=st.lists(st.integers(5, 300), min_size=2, max_size=4),
    periods=st.lists(st.integers(1, 40), min_size=4, max_size=4),
)
def test_views_that_always_wait_get_equal_time_whatever_their_turns_and_rates(
    turns: list[int], periods: list[int]
) -> None:
    took = {f"v{i}": turn * MS for i, turn in enumerate(turns)}
    period = dict(zip(took, periods, strict=False))
    views, used = LiveViews(took, None), dict.fromkeys(took, 0)
    newest_scored = dict.fromkeys(took, -1)
    now = 0
    while now < 60 * S:
        # A view waits if it has a newer frame than the one that was scored last.
        waiting = [name for name in took if now // (period[name] * MS) > newest_scored[name]]
        name = views.choose(waiting, now)
        if name is None:
            now += MS
            continue
        newest_scored[name] = now // (period[name] * MS)
        serve(views, name, now, took[name])
        now += took[name]
        used[name] += took[name]
    hungry = {name: time for name, time in used.items() if period[name] * MS <= min(took.values())}
    if len(hungry) > 1:
        assert max(hungry.values()) - min(hungry.values()) <= 2 * max(took.values())


def test_a_view_that_was_away_gets_its_share_and_not_what_it_missed() -> None:
    views, now, turns = LiveViews(("there", "back"), None), 0, []
    for _ in range(1000):
        name = views.choose(["there"], now)
        assert name == "there"
        serve(views, name, now, 10 * MS)
        now += 10 * MS
    for _ in range(20):
        name = views.choose(["there", "back"], now)
        assert name is not None
        turns.append(name)
        serve(views, name, now, 10 * MS)
        now += 10 * MS
    assert abs(turns.count("back") - turns.count("there")) <= 2


def test_each_turn_is_followed_by_a_pause_that_is_unlike_the_one_before() -> None:
    views, now, pauses = LiveViews(("live",), 200 * MS), 0, []
    for _ in range(1000):
        serve(views, "live", now, 30 * MS)
        now += 30 * MS
        pause = views.wait_ns(["live"], now) or 0
        assert views.choose(["live"], now + pause - 1) is None
        now += pause
        assert views.choose(["live"], now) == "live"
        pauses.append(pause / (30 * MS))
    assert 0.2 <= min(pauses) < 0.21
    assert 0.59 < max(pauses) < 0.6
    assert abs(sum(pauses) / len(pauses) - 0.4) < 0.01
    assert min(abs(one - other) for one, other in itertools.pairwise(pauses)) > 0.1
    assert views.wait_ns([], now) is None, "no view waits"


def test_a_part_scored_in_a_pause_makes_it_longer_since_views_share_what_parts_leave() -> None:
    views = LiveViews(("live",), 200 * MS)
    serve(views, "live", 0, 30 * MS)
    pause = views.wait_ns(["live"], 30 * MS) or 0
    views.add_part_turn(32 * MS, 82 * MS)
    assert views.wait_ns(["live"], 82 * MS) == pause - 2 * MS
    over = 82 * MS + pause
    views.add_part_turn(over, over + 50 * MS)
    assert views.choose(["live"], over + 50 * MS) == "live", "the pause was over"


def test_on_a_line_without_parts_there_is_no_pause() -> None:
    without_parts = LiveViews(("live",), None)
    serve(without_parts, "live", 0, 30 * MS)
    assert without_parts.choose(["live"], 30 * MS) == "live"


def test_a_view_whose_turn_would_cost_a_part_its_deadline_is_held_back_longer_each_time() -> None:
    views, now, pauses = LiveViews(("large", "small"), 200 * MS), 0, []
    for _ in range(14):
        assert serve(views, "large", now, 180 * MS), "180 ms and a part's 30 ms are more than 200 ms"
        now += 180 * MS
        pauses.append((views.wait_ns(["large"], now) or 0) / S)
        assert views.choose(["large", "small"], now + S) == "small", "the other views go on"
        now += int(pauses[-1] * S)
        assert views.choose(["large"], now) == "large"
    assert pauses[:4] == [2, 4, 8, 16]
    assert pauses[-1] == 3600
    assert not serve(views, "large", now, 100 * MS)
    assert serve(views, "large", now, 180 * MS)
    assert views.wait_ns(["large"], now + 180 * MS) == 2 * S, "one turn in time, and it starts anew"


def held_back(views: LiveViews, took: int, turn: int = 30 * MS) -> int:
    """A view has three turns that are too long, each after its pause. Returns the end of the last pause."""
    now = 0
    for _ in range(3):
        views.see_parts([part(200 * MS)], 1, turn)
        assert views.choose(["large"], now) == "large"
        assert serve(views, "large", now, took, turn)
        now += took + 8 * S
    return now


def test_a_view_known_to_be_too_slow_costs_no_more_parts() -> None:
    views = LiveViews(("large", "small"), 200 * MS)
    now = held_back(views, 180 * MS)
    for _ in range(100):
        views.see_parts([part(200 * MS)], 1, 30 * MS)
        assert views.choose(["large"], now) is None
        assert views.wait_ns(["large"], now) is None
        assert views.choose(["large", "small"], now) == "small", "the other views go on"
        now += 3600 * S


def test_a_view_held_back_is_tried_again_when_the_parts_have_more_time() -> None:
    views = LiveViews(("large",), 200 * MS)
    now = held_back(views, 180 * MS)
    assert views.choose(["large"], now) is None
    for _ in range(3):
        views.see_parts([part(400 * MS)], 1, 30 * MS)
        views.see_waiting(["large"], now)
        now += 10 * S
    assert views.choose(["large"], now) == "large"
    assert not serve(views, "large", now, 180 * MS)
    assert serve(views, "large", now, 380 * MS), "the turns are counted anew"
    assert views.choose(["large"], now + 10 * S) == "large"


def test_a_view_held_back_is_tried_again_when_the_turns_of_parts_are_shorter() -> None:
    """The machine was busy from the start, so that all turns took twice as long."""
    views = LiveViews(("large",), 200 * MS)
    now = held_back(views, 160 * MS, turn=60 * MS)
    views.see_parts([part(200 * MS)], 1, 60 * MS)
    assert views.choose(["large"], now) is None
    views.see_parts([part(200 * MS)], 1, 30 * MS)
    assert views.choose(["large"], now) == "large", "80 ms are expected"


def test_a_view_with_another_recipe_is_not_held_back() -> None:
    views = LiveViews(("large",), 200 * MS)
    now = held_back(views, 180 * MS)
    assert views.choose(["large"], now) is None
    views.forget_turn_times("large")
    assert views.choose(["large"], now) == "large"


def test_a_view_that_was_slow_because_the_machine_was_busy_is_back_within_seconds() -> None:
    views, now = LiveViews(("live",), 200 * MS), 0
    assert not serve(views, "live", now, 40 * MS)
    for _ in range(20):
        now += 10 * S
        assert serve(views, "live", now, 160 * MS, part_turn=120 * MS), "everything takes four times as long"
        assert (views.wait_ns(["live"], now + 160 * MS) or 0) <= 8 * S


def test_parts_of_one_batch_are_one_turn() -> None:
    views = LiveViews(("live",), 200 * MS)
    views.see_parts([part(200 * MS)] * 16, max_batch=16)
    assert not serve(views, "live", 0, 100 * MS)
    views.see_parts([part(200 * MS)] * 50, max_batch=16)
    assert serve(views, "live", 0, 100 * MS), "four turns take 120 ms"


def test_how_long_a_turn_may_be_follows_from_the_parts_that_wait_together() -> None:
    views = LiveViews(("live",), 200 * MS)
    assert not serve(views, "live", 0, 100 * MS)
    views.see_parts([part(200 * MS)] * 4)
    assert serve(views, "live", 0, 100 * MS), "four parts take 120 ms"
    patient = LiveViews(("live",), 2000 * MS)
    patient.see_parts([part(2000 * MS)] * 4)
    assert not serve(patient, "live", 0, 1000 * MS)
    patient.see_parts([part(150 * MS)])
    assert serve(patient, "live", 0, 1000 * MS), "a deadline that was shortened counts from the next part on"


def test_a_deadline_that_was_lengthened_counts_once_the_old_parts_are_forgotten() -> None:
    views, now = LiveViews(("live",), 200 * MS), 0
    for _ in range(4):
        views.see_parts([part(2000 * MS)])
        views.see_waiting(["live"], now)
        now += 10 * S
    assert not serve(views, "live", now, 1000 * MS)


def test_what_is_known_of_parts_outlasts_a_pause_of_the_line() -> None:
    views, now = LiveViews(("live",), 2000 * MS), 0
    views.see_parts([part(200 * MS)])
    for _ in range(100):
        views.see_waiting(["live"], now)
        now += 10 * S
    assert serve(views, "live", now, 300 * MS)


def test_no_time_left_is_said_after_a_window_without_a_verdict_and_until_there_is_one() -> None:
    views, told = LiveViews(("starved", "served"), 200 * MS), []
    for tick in range(50):
        now = tick * S
        if tick % 3 == 0:
            serve(views, "served", now, 30 * MS)
        if tick == 35:
            serve(views, "starved", now, 30 * MS)
        if views.see_waiting(["starved", "served"], now):
            told.append((tick, views.without_time))
    assert told == [(10, {"starved"}), (40, frozenset())]


def test_a_view_whose_verdicts_all_come_too_late_has_no_time_either() -> None:
    views = LiveViews(("late",), 200 * MS)
    for tick in range(11):
        views.add("late", tick * S, tick * S + MS, MS, scored=True, in_time=False)
        views.see_waiting(["late"], tick * S)
    assert views.without_time == {"late"}


def test_a_view_without_frames_is_not_said_to_have_no_time() -> None:
    views = LiveViews(("lost",), 200 * MS)
    for tick in range(30):
        assert not views.see_waiting([], tick * S)
    assert not views.without_time


def test_a_frame_without_a_part_uses_time_but_says_nothing_about_a_scored_one() -> None:
    views = LiveViews(("empty", "full"), 200 * MS)
    serve(views, "full", 0, 40 * MS)
    views.add("empty", 0, MS, 30 * MS, scored=False, in_time=True)
    assert dict(views.estimates_ns()) == {"empty": 0, "full": 40 * MS}
    assert views.choose(["empty", "full"], S) == "empty"
    views.forget_turn_times("full")
    assert views.estimates_ns()["full"] == 0, "another recipe"


def expecting_parts(views: LiveViews, distance: int = 250 * MS) -> int:
    """Parts come at that distance. Returns when the next one is expected."""
    for number in range(6):
        views.see_part("top", number * distance)
    return 6 * distance


def test_no_turn_begins_just_before_a_part_but_it_is_held_back_for_one_part_only() -> None:
    views = LiveViews(("live",), 200 * MS)
    serve(views, "live", 0, 100 * MS)
    part_at = expecting_parts(views)
    near = part_at - 40 * MS
    assert views.choose(["live"], part_at - 60 * MS) == "live", "a wait of 60 ms would cost the view more"
    assert views.choose(["live"], near) is None
    assert views.wait_ns(["live"], near) == 65 * MS, "25 ms after its time the part is not expected any more"
    assert views.choose(["live"], near + 65 * MS) == "live"
    assert views.choose(["live"], near) is None
    views.see_part("top", part_at)
    assert views.choose(["live"], part_at + 240 * MS) == "live"


def test_a_turn_that_ends_before_the_next_part_needs_no_pause_before_it() -> None:
    views = LiveViews(("live",), 200 * MS)
    part_at = expecting_parts(views)
    serve(views, "live", part_at - 220 * MS, 50 * MS)
    assert views.choose(["live"], part_at - 169 * MS) == "live"
    views.see_part("side", part_at - 200 * MS)
    assert views.choose(["live"], part_at - 169 * MS) is None, "the side's next part can come at any time"
