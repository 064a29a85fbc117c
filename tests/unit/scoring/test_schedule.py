"""The most urgent frame is scored first, no camera is starved, and every refused frame has its reason."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.line_state.frame import Frame, PixelFormat
from monitor.scoring.schedule import TurnTime, WaitingFrame, plan
from monitor.settings import CameraSettings
from monitor.verdict import Reason

ALL = dict.fromkeys(("top", "side", "live"), "a" * 64)


def camera(name: str, **more: object) -> CameraSettings:
    values: dict[str, object] = {"name": name, "source": "simulated://plate", "recipe": "plate", **more}
    return CameraSettings(**values)  # type: ignore[arg-type]


TOP, SIDE, LIVE = camera("top"), camera("side"), camera("live", mode="latest")


def work(of: CameraSettings, number: int, decide_by: int) -> WaitingFrame:
    return WaitingFrame(
        of, Frame(number, 0, 0, decide_by, decide_by, decide_by, -1, -1, 0, PixelFormat.Mono8, 1, 1)
    )


def names(works: tuple[WaitingFrame, ...]) -> list[tuple[str, int]]:
    return [(one.camera.name, one.frame.number) for one in works]


def test_the_earliest_deadline_comes_first_across_cameras() -> None:
    waiting = [work(TOP, 1, 500), work(TOP, 2, 300), work(SIDE, 9, 400)]
    assert names(plan(waiting, 0, ALL, 2).batch) == [("top", 2), ("side", 9)]


def test_a_slow_camera_is_scored_beside_a_fast_one_that_always_waits() -> None:
    waiting = [work(TOP, n, 1000 + n) for n in range(2, 50)] + [work(SIDE, 1, 1001)]
    assert names(plan(waiting, 0, ALL, 1).batch) == [("side", 1)]


def test_a_batch_is_of_one_recipe() -> None:
    waiting = [work(TOP, 1, 100), work(SIDE, 1, 101), work(TOP, 2, 102)]
    assert names(plan(waiting, 0, ALL, 16).batch) == [("top", 1), ("side", 1), ("top", 2)]
    newer = {**ALL, "side": "b" * 64}
    assert names(plan(waiting, 0, newer, 16).batch) == [("top", 1), ("top", 2)]


def test_overdue_frames_are_not_scored() -> None:
    todo = plan([work(TOP, 1, 100), work(TOP, 2, 101)], 100, ALL, 16)
    assert names(todo.overdue) == [("top", 1)]
    assert names(todo.batch) == [("top", 2)]


def test_of_a_live_view_only_the_newest_frame_is_scored() -> None:
    todo = plan([work(LIVE, 5, 100), work(LIVE, 7, 300), work(LIVE, 6, 200)], 0, ALL, 16)
    assert names(todo.batch) == [("live", 7)]
    assert {(one.frame.number, reason) for one, reason in todo.uninspected} == {
        (5, Reason.SUPERSEDED),
        (6, Reason.SUPERSEDED),
    }


def test_frames_of_a_camera_without_a_recipe_are_refused_as_no_recipe() -> None:
    todo = plan([work(TOP, 1, 100), work(SIDE, 1, 100)], 0, {"side": "a" * 64}, 16)
    assert [(one.camera.name, reason) for one, reason in todo.uninspected] == [("top", Reason.NO_RECIPE)]
    assert names(todo.batch) == [("side", 1)]


def test_without_waiting_frames_the_plan_is_empty() -> None:
    todo = plan([], 0, ALL, 16)
    assert (todo.batch, todo.uninspected, todo.overdue) == ((), (), ())


def test_a_frame_that_cant_be_scored_in_time_is_not_begun() -> None:
    waiting = [work(TOP, 1, 100), work(TOP, 2, 130)]
    todo = plan(waiting, 90, ALL, 16, estimate_ns=20)
    assert names(todo.overdue) == [("top", 1)]
    assert names(todo.batch) == [("top", 2)]


def test_an_overloaded_scorer_judges_what_it_can_instead_of_nothing() -> None:
    turn_time, now, judged = TurnTime(), 0, 0
    cost, period, patience = 30, 10, 100
    waiting: list[WaitingFrame] = []
    for number in range(1, 600):
        arrival = number * period
        waiting.append(work(TOP, number, arrival + patience))
        while now < arrival:
            todo = plan(waiting, now, ALL, 1, turn_time.estimate_ns)
            waiting = [one for one in waiting if one not in todo.overdue]
            if not todo.batch:
                now = arrival
                break
            (one,) = todo.batch
            waiting.remove(one)
            now += cost
            turn_time.add(cost)
            judged += now <= one.frame.decide_by_ns
    assert judged > 0.9 * 600 * period / cost


def shares(
    cameras: list[tuple[CameraSettings, int, int]],
    cost: int,
    until: int,
    pair_cost: int = 0,
    *,
    batch: int = 1,
    recipe_each: bool = False,
) -> dict[str, float]:
    """Simulate a scorer. Return the share of each camera's frames that it judges in time.

    Each camera comes with its period and the time that its frames may take. A turn of up to `batch` frames
    takes `cost`, a pair takes `pair_cost`. `recipe_each` gives each camera a recipe of its own.
    """
    arrivals = sorted(
        (turn * period, of.name, turn, patience, of)
        for of, period, patience in cameras
        for turn in range(1, until // period)
    )
    in_force = {of.name: of.name if recipe_each else "a" * 64 for of, _, _ in cameras}
    total, judged = Counter(name for _, name, *_ in arrivals), Counter[str]()
    waiting: list[WaitingFrame] = []
    lately: deque[str] = deque(maxlen=100)
    now, coming = 0, deque(arrivals)
    while coming or waiting:
        while coming and coming[0][0] <= now:
            at, _, number, patience, of = coming.popleft()
            waiting.append(work(of, number, at + patience))
        todo = plan(waiting, now, in_force, batch, cost, Counter(lately), pair_cost)
        done = {id(one) for one in (*todo.batch, *todo.overdue, *(one for one, _ in todo.uninspected))}
        waiting = [one for one in waiting if id(one) not in done]
        now += pair_cost if pair_cost and len(todo.batch) > 1 else cost if todo.batch else 0
        for one in todo.batch:
            lately.append(one.camera.name)
            judged[one.camera.name] += now <= one.frame.decide_by_ns
        if not todo.batch:
            now = max(now + 1, coming[0][0] if coming else now)
    return {name: judged[name] / total[name] for name in total}


MODES = st.sampled_from(["every-part", "latest"])
CROWDS: dict[str, st.SearchStrategy[Any]] = {
    "fast": st.lists(st.tuples(MODES, st.integers(3, 40), st.integers(35, 1500)), min_size=1, max_size=3),
    "mode": MODES,
    "patience": st.integers(100, 2000),
    "phase": st.integers(0, 29),
}
"""A slow camera among fast ones: each one's mode, period and how long its frames may take."""


@settings(max_examples=30, deadline=None)
@given(**CROWDS, pair_cost=st.sampled_from([0, 54, 60]))
def test_a_slow_camera_is_judged_however_fast_the_others_are(
    fast: list[tuple[str, int, int]], mode: str, patience: int, phase: int, pair_cost: int
) -> None:
    cost, period = 30, 300 + phase
    cameras = [(camera(f"fast{i}", mode=kind), every, may) for i, (kind, every, may) in enumerate(fast)]
    share = shares([*cameras, (camera("slow", mode=mode), period, patience)], cost, 6_000, pair_cost)
    assert share["slow"] >= 0.85


@settings(max_examples=30, deadline=None)
@given(**CROWDS, batch=st.sampled_from([2, 16]))
def test_a_slow_camera_with_its_own_recipe_is_judged_in_batches_too(
    fast: list[tuple[str, int, int]], mode: str, patience: int, phase: int, batch: int
) -> None:
    cost, period = 30, 300 + phase
    cameras = [(camera(f"fast{i}", mode=kind), every, may) for i, (kind, every, may) in enumerate(fast)]
    slow = (camera("slow", mode=mode), period, patience)
    assert shares([*cameras, slow], cost, 6_000, batch=batch, recipe_each=True)["slow"] >= 0.85


def test_an_overloaded_scorer_divides_its_time_between_short_and_long_deadlines() -> None:
    """Each camera has its own recipe, so that no turn serves both."""
    both = [(camera("urgent"), 60, 80), (camera("patient"), 60, 160)]
    for batch in (1, 16):
        share = shares(both, 60, 12_000, batch=batch, recipe_each=True)
        assert min(share.values()) > 0.4, batch


def test_a_turn_is_of_one_recipe_and_the_most_scored_camera_is_displaced_for_it() -> None:
    waiting = [work(TOP, 1, 100), work(TOP, 2, 110), work(SIDE, 1, 150)]
    newer, recent = {**ALL, "side": "b" * 64}, {"top": 9}
    assert names(plan(waiting, 0, ALL, 16, 80, recent).batch) == [("top", 1), ("top", 2), ("side", 1)]
    assert names(plan(waiting, 0, newer, 16, 80, recent).batch) == [("side", 1)]
    assert names(plan(waiting, 0, newer, 16, 80, {"side": 9}).batch) == [("top", 1), ("top", 2)]
    assert names(plan(waiting, 0, newer, 16, 70, recent).batch) == [("top", 1), ("top", 2)], "there is time"


def test_frames_displaced_in_vain_are_restored() -> None:
    """`third` has the recipe of `top`: without `top` two turns remain, and `side` does not fit."""
    waiting = [work(TOP, 1, 100), work(camera("third"), 1, 101), work(SIDE, 1, 150)]
    recipes = {"top": "a" * 64, "third": "a" * 64, "side": "b" * 64}
    recent = {"top": 9, "side": 5}
    assert names(plan(waiting, 0, recipes, 2, 80, recent).batch) == [("top", 1), ("third", 1)]


def test_equal_cameras_get_equal_shares_of_an_overloaded_scorer() -> None:
    alike = [(camera(name, mode=mode), 20, 200) for name, mode in (("a", "latest"), ("b", "latest"))]
    share = shares(alike, 30, 10_000)
    assert abs(share["a"] - share["b"]) < 0.05
    parts = [(camera(name), 20, 200) for name in ("a", "b", "c")]
    share = shares(parts, 30, 10_000)
    assert max(share.values()) - min(share.values()) < 0.05


@settings(max_examples=200, deadline=None)
@given(
    dues=st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(1, 200)), min_size=1, max_size=14),
    batch=st.integers(1, 4),
)
def test_all_frames_are_judged_in_time_where_that_is_possible_whatever_their_recipes(
    dues: list[tuple[str, int]], batch: int
) -> None:
    """Possible means: by the simple rule that the recipe of the most urgent frame has the next turn."""
    cost, recipes = 20, {name: name for name in "abc"}
    waiting = [work(camera(name), number, due) for number, (name, due) in enumerate(dues, start=1)]

    def late(next_turn: Callable[[list[WaitingFrame], int], list[WaitingFrame]]) -> int:
        left, now, missed = list(waiting), 0, 0
        while left:
            turn = next_turn(left, now)
            now += cost if turn else 0
            missed += sum(one.frame.decide_by_ns <= now for one in turn) if turn else len(left)
            left = [one for one in left if one not in turn] if turn else []
        return missed

    def plain(left: list[WaitingFrame], _: int) -> list[WaitingFrame]:
        left = sorted(left, key=lambda one: one.frame.decide_by_ns)
        return [one for one in left if one.camera.name == left[0].camera.name][:batch]

    def planned(left: list[WaitingFrame], now: int) -> list[WaitingFrame]:
        return list(plan(left, now, recipes, batch, cost).batch)

    if late(plain) == 0:
        assert late(planned) == 0


def test_a_scorer_that_is_fast_enough_judges_every_part_in_time() -> None:
    cameras = [
        (camera("parts"), 100, 120),
        (camera("live", mode="latest"), 130, 1000),
        (camera("more"), 90, 300),
    ]
    ways: list[dict[str, Any]] = [{}, {"pair_cost": 54}, {"batch": 16}, {"batch": 16, "recipe_each": True}]
    for way in ways:
        share = shares(cameras, 30, 10_000, **way)
        assert share["parts"] == share["more"] == 1.0
        assert share["live"] > 0.95


def test_an_overloaded_scorer_judges_more_frames_in_pairs() -> None:
    too_much = [(camera("a"), 40, 600), (camera("b"), 50, 600)]
    one_by_one, in_pairs = (sum(shares(too_much, 30, 20_000, pair_cost).values()) for pair_cost in (0, 48))
    assert in_pairs > 1.2 * one_by_one


def test_a_pair_is_scored_where_many_frames_wait_and_the_first_has_time_for_it() -> None:
    waiting = [work(TOP, number, 100 + number) for number in (1, 2, 3, 4)]
    assert names(plan(waiting, 0, ALL, 1, 20, pair_ns=38).batch) == [("top", 1), ("top", 2)]
    assert names(plan(waiting, 0, ALL, 1, 20, pair_ns=0).batch) == [("top", 1)]
    assert names(plan(waiting[:3], 0, ALL, 1, 20, pair_ns=38).batch) == [("top", 1)], "few frames wait"
    urgent = [work(TOP, 0, 35), *waiting]
    assert names(plan(urgent, 0, ALL, 1, 20, pair_ns=38).batch) == [("top", 0)], "a pair would make it late"
    live = [work(camera("live", mode="latest"), 1, 1000), *waiting]
    in_force = {**ALL, "live": "a" * 64}
    assert names(plan(live, 0, in_force, 1, 20, pair_ns=38).batch) == [("live", 1)], "it is due at once"


def test_an_overloaded_scorer_gives_up_the_most_urgent_frames_for_pairs() -> None:
    too_many = [work(TOP, number, 30 + 10 * number) for number in range(12)]
    pair = plan(too_many, 0, ALL, 1, 20, pair_ns=38).batch
    assert len(pair) == 2
    assert all(one.frame.decide_by_ns > 38 for one in pair)
    assert names(plan(too_many[:1] + too_many[-4:], 0, ALL, 1, 20, pair_ns=38).batch) == [("top", 0)]
    of_a_slow_one = [work(SIDE, 1, 31), *too_many]
    recent = {"top": 90, "side": 10}
    assert names(plan(of_a_slow_one, 0, ALL, 1, 20, recent, pair_ns=38).batch)[0] == ("side", 1)


def test_a_pair_does_not_overtake_a_more_urgent_part_of_another_recipe() -> None:
    waiting = [work(TOP, 1, 100), work(SIDE, 1, 101), work(TOP, 2, 300), work(TOP, 3, 301)]
    of_another = {"top": "a" * 64, "side": "b" * 64}
    assert names(plan(waiting, 0, of_another, 1, 20, pair_ns=38).batch) == [("top", 1)]


def test_a_slower_scorer_is_noticed_by_its_pairs_too() -> None:
    turn_time = TurnTime()
    turn_time.add(20)
    assert turn_time.pair_ns == 40, "twice a single turn before the first pair"
    turn_time.add(38, pair=True)
    assert (turn_time.estimate_ns, turn_time.pair_ns) == (20, 38)
    for _ in range(5):
        turn_time.add(200, pair=True)
    assert turn_time.estimate_ns == 100
    assert turn_time.pair_ns == 0, "until single turns are as slow"


def test_pairs_slower_than_two_single_turns_are_not_made_for_a_while() -> None:
    turn_time = TurnTime()
    turn_time.add(20)
    turn_time.add(45, pair=True)
    assert turn_time.pair_ns == 0
    tries = [turn_time.pair_ns for _ in range(600) if turn_time.add(20) is None]
    assert tries[0] == 0
    assert tries[-1] == 40, "a pair is tried again"


def test_one_slow_turn_does_not_change_the_estimate() -> None:
    turn_time = TurnTime()
    for elapsed in (20, 21, 900, 20):
        turn_time.add(elapsed)
    assert turn_time.estimate_ns <= 21


def test_an_estimate_that_is_too_long_falls_until_a_frame_is_tried() -> None:
    turn_time = TurnTime()
    for _ in range(5):
        turn_time.add(900)
    tries = 0
    while turn_time.estimate_ns > 200:
        turn_time.lower()
        tries += 1
    assert tries < 10
