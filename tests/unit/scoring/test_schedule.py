"""The most urgent part is scored first, no part waits for more than one view's turn, no camera is starved by
another of its kind, and every refused frame has its reason."""

from __future__ import annotations

import random
import statistics
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.line_state.frame import Frame, PixelFormat
from monitor.scoring.schedule import Plan, Run, WaitingFrame, allowed_lane_ns, plan, plan_lane
from monitor.scoring.turn_time import TurnTime
from monitor.scoring.views import LiveViews
from monitor.settings import CameraSettings, Mode
from monitor.verdict import Reason

ALL = dict.fromkeys(("top", "side", "live"), "a" * 64)
RUN = Run("a" * 64, lane_ns=38, other_ns=0)


def camera(name: str, **more: object) -> CameraSettings:
    values: dict[str, object] = {"name": name, "source": "simulated://plate", "recipe": "plate", **more}
    return CameraSettings(**values)  # type: ignore[arg-type]


TOP, SIDE, LIVE = camera("top"), camera("side"), camera("live", mode="latest")


def work(of: CameraSettings, number: int, decide_by: int, captured: int = 0) -> WaitingFrame:
    return WaitingFrame(
        of, Frame(number, captured, 0, decide_by, decide_by, decide_by, -1, -1, 0, PixelFormat.Mono8, 1, 1)
    )


def live_views(*names: str, allowed: int | None = None) -> LiveViews:
    """Live views, on a line without parts unless `allowed` is given."""
    return LiveViews(names or ("live",), allowed)


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
    waiting = [work(LIVE, 5, 100), work(LIVE, 7, 300), work(LIVE, 6, 200)]
    todo = plan(waiting, 0, ALL, 16, views=live_views())
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


@dataclass
class Turn:
    """One turn of a simulated scorer."""

    began: int
    ended: int
    batch: tuple[WaitingFrame, ...]

    @property
    def is_view(self) -> bool:
        return self.batch[0].camera.mode is Mode.LATEST


def simulate(
    arrivals: list[WaitingFrame],
    cost: int,
    lane_cost: int = 0,
    *,
    batch: int = 1,
    recipe_each: bool = False,
    view_cost: Mapping[str, int] | None = None,
) -> list[Turn]:
    """Simulate a scorer whose turn takes `cost`, or of a view `view_cost`, for frames that arrive at their
    `captured_ns`. A part of a run takes `lane_cost` and counts as a turn of its own here."""
    coming = deque(sorted(arrivals, key=lambda one: one.frame.captured_ns))
    names = {one.camera.name for one in arrivals}
    in_force = {name: name if recipe_each else "a" * 64 for name in names}
    of_parts = [one.frame for one in arrivals if one.camera.mode is Mode.EVERY_PART]
    allowed = min((frame.decide_by_ns - frame.captured_ns for frame in of_parts), default=None)
    views = LiveViews({one.camera.name for one in arrivals if one.camera.mode is Mode.LATEST}, allowed)
    waiting: list[WaitingFrame] = []
    lately: deque[str] = deque(maxlen=100)
    now, turns = 0, []
    allowed_ns = {
        one.camera.name: one.frame.decide_by_ns - one.frame.captured_ns
        for one in arrivals
        if one.camera.mode is Mode.EVERY_PART
    }

    def see_parts() -> None:
        while coming and coming[0].frame.captured_ns <= now:
            waiting.append(coming.popleft())
        parts = [one for one in waiting if one.camera.mode is Mode.EVERY_PART]
        for one in parts:
            views.see_part(one.camera.name, one.frame.captured_ns)
        views.see_parts([one.frame for one in parts])

    def settle(todo: Plan) -> None:
        done = {id(one) for one in (*todo.batch, *todo.overdue, *(one for one, _ in todo.uninspected))}
        waiting[:] = [one for one in waiting if id(one) not in done]

    while coming or waiting:
        see_parts()
        lane_ns = allowed_lane_ns(lane_cost, allowed_ns, Counter(lately))
        todo = plan(waiting, now, in_force, batch, cost, Counter(lately), lane_ns, views)
        settle(todo)
        if not todo.batch:
            next_view = views.wait_ns({one.camera.name for one in waiting}, now)
            steps = [coming[0].frame.captured_ns] if coming else []
            now = max(
                now + 1, min([*steps, now + next_view] if next_view is not None else steps, default=now)
            )
            continue
        name, is_view = todo.batch[0].camera.name, todo.batch[0].camera.mode is Mode.LATEST
        took = (view_cost or {}).get(name, cost) if is_view else cost
        if lane_ns and len(todo.batch) > 1:
            began, in_lanes = now, [(now, one) for one in todo.batch]
            while in_lanes:
                start, one = in_lanes.pop(0)
                now = start + lane_cost
                turns.append(Turn(start, now, (one,)))
                lately.append(one.camera.name)
                if len(in_lanes) == 1:
                    see_parts()
                    sha, recent = in_force[one.camera.name], Counter(lately)
                    other = in_lanes[0][0] + lane_cost - now
                    if not (lane_ns := allowed_lane_ns(lane_cost, allowed_ns, recent)):
                        continue
                    todo = plan_lane(Run(sha, lane_ns, other), waiting, now, in_force, cost, recent)
                    settle(todo)
                    in_lanes += [(now, one) for one in todo.batch]
            views.add_part_turn(began, now)
            continue
        turns.append(Turn(now, now + took, todo.batch))
        if is_view:
            in_time = now + took <= todo.batch[0].frame.decide_by_ns
            views.add(name, now, now + took, cost, scored=True, in_time=in_time)
        else:
            views.add_part_turn(now, now + took)
            lately += [one.camera.name for one in todo.batch]
        now += took
    return turns


def shares(
    cameras: list[tuple[CameraSettings, int, int]], cost: int, until: int, lane_cost: int = 0, **more: Any
) -> dict[str, float]:
    """Return the share of each camera's frames that a simulated scorer judges in time.

    Each camera comes with its period and the time that its frames may take.
    """
    arrivals = [
        work(of, turn, turn * period + patience, turn * period)
        for of, period, patience in cameras
        for turn in range(1, until // period)
    ]
    judged = Counter(
        one.camera.name
        for turn in simulate(arrivals, cost, lane_cost, **more)
        for one in turn.batch
        if turn.ended <= one.frame.decide_by_ns
    )
    total = Counter(one.camera.name for one in arrivals)
    return {name: judged[name] / total[name] for name in total}


def least_share(mode: str, patience: int) -> float:
    """The share of a slow camera's frames that must be judged beside fast ones. Views leave a pause for parts
    after each turn: with three others before it, a view whose frames are old after 300 ms often waits too
    long."""
    if mode == "latest":
        return 0.75 if patience >= 300 else 0.5
    return 0.85


MODES = st.sampled_from(["every-part", "latest"])
CROWDS: dict[str, st.SearchStrategy[Any]] = {
    "fast": st.lists(st.tuples(MODES, st.integers(3, 40), st.integers(35, 1500)), min_size=1, max_size=3),
    "mode": MODES,
    "patience": st.integers(100, 2000),
    "phase": st.integers(0, 29),
}
"""A slow camera among fast ones: each one's mode, period and how long its frames may take."""


@settings(max_examples=30, deadline=None)
@given(**CROWDS, lane_cost=st.sampled_from([0, 54, 60]))
def test_a_slow_camera_is_judged_however_fast_the_others_are(
    fast: list[tuple[str, int, int]], mode: str, patience: int, phase: int, lane_cost: int
) -> None:
    cost, period = 30, 300 + phase
    # Parts take all the time that they need, so beside a slow view all are views.
    kinds = [mode if mode == "latest" else kind for kind, _, _ in fast]
    cameras = [
        (camera(f"fast{i}", mode=kind), every, may)
        for i, (kind, (_, every, may)) in enumerate(zip(kinds, fast, strict=True))
    ]
    share = shares([*cameras, (camera("slow", mode=mode), period, patience)], cost, 6_000, lane_cost)
    assert share["slow"] >= least_share(mode, patience)


@settings(max_examples=30, deadline=None)
@given(**CROWDS, batch=st.sampled_from([2, 16]))
def test_a_slow_camera_with_its_own_recipe_is_judged_in_batches_too(
    fast: list[tuple[str, int, int]], mode: str, patience: int, phase: int, batch: int
) -> None:
    cost, period = 30, 300 + phase
    # Parts take all the time that they need, so beside a slow view all are views.
    kinds = [mode if mode == "latest" else kind for kind, _, _ in fast]
    cameras = [
        (camera(f"fast{i}", mode=kind), every, may)
        for i, (kind, (_, every, may)) in enumerate(zip(kinds, fast, strict=True))
    ]
    slow = (camera("slow", mode=mode), period, patience)
    assert shares([*cameras, slow], cost, 6_000, batch=batch, recipe_each=True)["slow"] >= least_share(
        mode, patience
    )


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
    ways: list[dict[str, Any]] = [{}, {"lane_cost": 54}, {"batch": 16}, {"batch": 16, "recipe_each": True}]
    for way in ways:
        share = shares(cameras, 30, 10_000, **way)
        assert share["parts"] == share["more"] == 1.0
        assert share["live"] > 0.95


def test_an_overloaded_scorer_judges_more_frames_in_lanes() -> None:
    too_much = [(camera("a"), 40, 600), (camera("b"), 50, 600)]
    one_by_one, in_lanes = (sum(shares(too_much, 30, 20_000, lane_cost).values()) for lane_cost in (0, 48))
    assert in_lanes > 1.2 * one_by_one


@pytest.mark.parametrize("patience", [190, 250, 400])
def test_lanes_carry_what_single_turns_do_not_also_where_few_parts_can_wait(patience: int) -> None:
    nearly_too_much = [(camera("a"), 41, patience)]
    assert shares(nearly_too_much, 45, 40_000)["a"] < 0.95
    assert shares(nearly_too_much, 45, 40_000, 78)["a"] > 0.99


@pytest.mark.parametrize("phase", range(0, 300, 23))
@pytest.mark.parametrize("recipe_each", [False, True])
def test_a_part_that_comes_during_a_run_is_scored_before_its_deadline(phase: int, recipe_each: bool) -> None:
    """The camera `many` alone is more than the scorer can do; `rare` may take two turns in a lane."""
    cameras = [(camera("many"), 35, 600), (camera("rare"), 300 + phase, 165)]
    assert shares(cameras, 45, 30_000, 78, recipe_each=recipe_each)["rare"] > 0.97


def test_a_run_gives_up_no_part_that_a_single_turn_after_it_would_score() -> None:
    arrivals = [work(TOP, number, at + 80, at) for number, at in enumerate((0, 5, 10, 30), start=1)]
    in_time = [
        one.frame.number
        for turn in simulate(arrivals, 25, 45)
        for one in turn.batch
        if turn.ended <= one.frame.decide_by_ns
    ]
    assert sorted(in_time) == [1, 2, 3, 4]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), allowed=st.integers(80, 250), load=st.sampled_from([0.5, 0.7, 0.85]))
def test_lanes_lose_hardly_a_part_that_single_turns_score(seed: int, allowed: int, load: float) -> None:
    """Parts come at random times; a turn of 45 and a lane of 78 are ms of a ResNet-18 on 2 cores."""
    chance, at, arrivals = random.Random(seed), 0.0, list[WaitingFrame]()
    for number in range(1, 400):
        at += chance.expovariate(load / 45)
        arrivals.append(work(TOP, number, round(at) + allowed, round(at)))

    def judged(lane_cost: int) -> int:
        turns = simulate(arrivals, 45, lane_cost)
        return sum(turn.ended <= one.frame.decide_by_ns for turn in turns for one in turn.batch)

    assert judged(78) >= 0.98 * judged(0)


def test_a_run_begins_where_parts_pile_up_and_makes_none_of_them_late() -> None:
    waiting = [work(TOP, number, 100 + number) for number in (1, 2, 3)]
    assert names(plan(waiting, 0, ALL, 1, 20, lane_ns=38).batch) == [("top", 1), ("top", 2)]
    assert names(plan(waiting, 0, ALL, 1, 20).batch) == [("top", 1)], "no lanes"
    assert names(plan(waiting[:2], 0, ALL, 1, 20, lane_ns=38).batch) == [("top", 1), ("top", 2)]
    assert names(plan(waiting[:1], 0, ALL, 1, 20, lane_ns=38).batch) == [("top", 1)], "one part waits"
    urgent = [work(TOP, 0, 35), *waiting]
    assert names(plan(urgent, 0, ALL, 1, 20, lane_ns=38).batch) == [("top", 0)], "a lane would make it late"
    last = [work(TOP, number, due) for number, due in ((1, 50), (2, 60), (3, 70))]
    assert names(plan(last, 0, ALL, 1, 20, lane_ns=38).batch) == [("top", 1)], "the third would end at 76"
    live = [work(LIVE, 1, 1000), *waiting]
    beside = plan(live, 0, ALL, 1, 20, lane_ns=38, views=live_views(allowed=100))
    assert names(beside.batch) == [("top", 1), ("top", 2)], "a view has no lane and waits for the run"


def test_an_overloaded_scorer_gives_up_the_most_urgent_frames_for_a_run() -> None:
    too_many = [work(TOP, number, 30 + 10 * number) for number in range(12)]
    begin = plan(too_many, 0, ALL, 1, 20, lane_ns=38).batch
    assert len(begin) == 2
    assert all(one.frame.decide_by_ns > 38 for one in begin)
    assert names(plan(too_many[:1] + too_many[-4:], 0, ALL, 1, 20, lane_ns=38).batch) == [("top", 0)]
    given_up = [work(TOP, 0, 10), *too_many[:1], *too_many[-4:]]
    assert len(plan(given_up, 0, ALL, 1, 20, lane_ns=38).batch) == 2, "one given up shows an overload too"
    of_a_slow_one = [work(SIDE, 1, 31), *too_many]
    recent = {"top": 90, "side": 10}
    assert names(plan(of_a_slow_one, 0, ALL, 1, 20, recent, lane_ns=38).batch)[0] == ("side", 1)


def test_a_run_is_of_one_recipe_and_overtakes_no_more_urgent_part_of_another() -> None:
    waiting = [work(TOP, 1, 100), work(SIDE, 1, 101), work(TOP, 2, 300), work(TOP, 3, 301)]
    of_another = {"top": "a" * 64, "side": "b" * 64}
    assert names(plan(waiting, 0, of_another, 1, 20, lane_ns=38).batch) == [("top", 1)]
    assert names(plan_lane(RUN, waiting[1:], 0, ALL, 20, {}).batch) == [("side", 1)]
    assert plan_lane(RUN, waiting[1:], 0, of_another, 20, {}).batch == (), "the run ends"


def test_a_lane_begins_no_part_that_it_would_end_too_late() -> None:
    waiting = [work(TOP, 1, 19), work(TOP, 2, 30), work(TOP, 3, 90)]
    todo = plan_lane(RUN, waiting, 0, ALL, 20, {})
    assert names(todo.batch) == [("top", 3)], "part 1 shows an overload"
    assert names(todo.overdue) == [("top", 1)]
    todo = plan_lane(RUN, waiting[1:], 0, ALL, 20, {})
    assert (todo.batch, todo.overdue) == ((), ()), "a single turn scores part 2 after the run"
    assert plan_lane(RUN, [], 0, ALL, 20, {}).batch == ()


def test_pictures_of_a_view_are_superseded_during_a_run_too() -> None:
    waiting = [work(LIVE, 1, 500), work(LIVE, 2, 600), work(TOP, 1, 100)]
    todo = plan_lane(RUN, waiting, 0, ALL, 20, {})
    assert names(todo.batch) == [("top", 1)]
    assert [(one.frame.number, reason) for one, reason in todo.uninspected] == [(1, Reason.SUPERSEDED)]


@st.composite
def mixed_lines(draw: st.DrawFn) -> tuple[list[WaitingFrame], dict[str, int]]:
    """Frames of two cameras of parts and three live views at any times, and the time of each view's turn."""
    arrivals = []
    for name, mode in (
        ("top", "every-part"),
        ("side", "every-part"),
        *((f"v{i}", "latest") for i in range(3)),
    ):
        times = draw(st.lists(st.integers(0, 1500), max_size=25, unique=True))
        patience, of = draw(st.integers(40, 800)), camera(name, mode=mode)
        arrivals += [work(of, n, at + patience, at) for n, at in enumerate(sorted(times), start=1)]
    return arrivals, {f"v{i}": draw(st.integers(1, 120)) for i in range(3)}


WAYS: list[dict[str, Any]] = [{}, {"lane_cost": 54}, {"batch": 16}, {"batch": 16, "recipe_each": True}]


@settings(max_examples=300, deadline=None)
@given(line=mixed_lines(), way=st.sampled_from(WAYS))
def test_a_part_waits_for_other_parts_and_at_most_for_the_one_view_that_has_begun(
    line: tuple[list[WaitingFrame], dict[str, int]], way: dict[str, Any]
) -> None:
    """For any arrivals and deadlines."""
    arrivals, view_cost = line
    turns = simulate(arrivals, 30, view_cost=view_cost, **way)
    begun = {id(one): turn.began for turn in turns if not turn.is_view for one in turn.batch}
    for part in arrivals:
        if part.camera.mode is Mode.LATEST or id(part) not in begun:
            continue
        arrived, began = part.frame.captured_ns, begun[id(part)]
        meanwhile = [turn for turn in turns if turn.ended > arrived and turn.began < began]
        views = [turn for turn in meanwhile if turn.is_view]
        assert len(views) <= 1
        assert all(turn.began < arrived for turn in views), "no view begins while a part waits"
        idle_from = arrived
        for turn in sorted(meanwhile, key=lambda turn: turn.began):
            assert turn.began <= idle_from, "the scorer is never idle while a part waits"
            idle_from = max(idle_from, turn.ended)
        assert began <= idle_from


@settings(max_examples=300, deadline=None)
@given(line=mixed_lines(), way=st.sampled_from(WAYS[:1] + WAYS[2:3]))
def test_views_make_no_part_later_than_one_turn_of_theirs(
    line: tuple[list[WaitingFrame], dict[str, int]], way: dict[str, Any]
) -> None:
    """Compared with the same parts without views, where each part has time enough."""
    arrivals, view_cost = line
    patient = [
        work(one.camera, one.frame.number, one.frame.captured_ns + 50_000, one.frame.captured_ns)
        for one in arrivals
    ]
    parts = [one for one in patient if one.camera.mode is Mode.EVERY_PART]

    def begins(turns: list[Turn]) -> dict[int, int]:
        return {id(one): turn.began for turn in turns if not turn.is_view for one in turn.batch}

    alone, beside = (begins(simulate(frames, 30, view_cost=view_cost, **way)) for frames in (parts, patient))
    assert alone.keys() == beside.keys() == {id(part) for part in parts}
    assert all(beside[part] <= alone[part] + max(view_cost.values()) for part in alone)


def test_a_batch_of_parts_is_not_filled_up_with_a_view() -> None:
    waiting = [work(TOP, 1, 500), work(LIVE, 1, 100), work(TOP, 2, 600)]
    todo = plan(waiting, 0, ALL, 16, 10, views=live_views(allowed=100))
    assert names(todo.batch) == [("top", 1), ("top", 2)]


def test_a_turn_has_one_view_only_so_that_a_part_waits_for_one_picture() -> None:
    waiting = [work(camera(name, mode="latest"), 1, 500) for name in ("a", "b", "c")]
    in_force = dict.fromkeys("abc", "a" * 64)
    assert len(plan(waiting, 0, in_force, 16, 10, views=live_views("a", "b", "c")).batch) == 1


def test_a_view_with_a_short_deadline_goes_behind_a_part_with_a_long_one() -> None:
    waiting = [work(LIVE, 1, 60), work(TOP, 1, 60_000)]
    assert names(plan(waiting, 0, ALL, 1, 20, views=live_views(allowed=100)).batch) == [("top", 1)]


def test_a_part_that_can_no_longer_be_judged_in_time_keeps_no_view_back() -> None:
    waiting = [work(LIVE, 1, 60), work(TOP, 1, 10)]
    todo = plan(waiting, 0, ALL, 1, 20, views=live_views(allowed=100))
    assert names(todo.batch) == [("live", 1)]
    assert names(todo.overdue) == [("top", 1)]


def test_views_get_what_the_parts_leave_and_never_more() -> None:
    busy = [(camera("parts"), 40, 300), (camera("live", mode="latest"), 20, 200)]
    share = shares(busy, 30, 20_000)
    assert share["parts"] == 1.0
    assert 0.05 < share["live"] < 0.4
    full = [(camera("parts"), 30, 300), (camera("live", mode="latest"), 20, 200)]
    share = shares(full, 30, 20_000)
    assert share["parts"] == 1.0
    assert share["live"] < 0.01


@pytest.mark.parametrize(("cost", "view_cost"), [(35, 35), (60, 60), (100, 100), (35, 70)])
@pytest.mark.parametrize(
    ("period", "jitter_ms", "most"),
    [(250, 2, 0.25), (240, 2, 0.25), (130, 2, 0.25), (250, 40, 0.5), (240, 40, 0.5)],
)
def test_three_views_make_the_median_part_half_a_turn_later_at_most_and_none_more_than_one(
    cost: int, view_cost: int, period: int, jitter_ms: int, most: float
) -> None:
    """In microseconds, with views that want more than all. Parts at almost equal distances wait less than
    others, because no view's turn begins just before one."""
    jitter = random.Random(period)
    arrivals = []
    for n in range(1, 200):
        at = 1000 * (n * period + jitter.randint(-jitter_ms, jitter_ms))
        arrivals.append(work(TOP, n, at + 2_000_000, at))
    for name, per_s in (("a", 10), ("b", 15), ("c", 25)):
        times = [n * 1_000_000 // per_s for n in range(1, 200 * period * per_s // 1000)]
        arrivals += [work(camera(name, mode="latest"), n, at + 2_000_000, at) for n, at in enumerate(times)]
    turns = simulate(arrivals, 1000 * cost, view_cost=dict.fromkeys("abc", 1000 * view_cost))
    waits = [turn.began - one.frame.captured_ns for turn in turns if not turn.is_view for one in turn.batch]
    assert statistics.median(waits) <= most * 1000 * view_cost
    assert max(waits) <= 1000 * view_cost
