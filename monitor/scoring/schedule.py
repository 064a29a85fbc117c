"""The rule for which frame is scored next: the most urgent part, and a live view only when no part waits.

It knows nothing of rings, networks or torch: pure functions over the frames that wait, and a clock reading.
On a frame's way it stands between the ring and the scorer; `monitor.scoring.worker` carries out each plan.

In this module a frame's *deadline* is its `decide_by_ns`, after which the publisher no longer waits for a
score. A *turn* is one call of the scorer, with frames of one recipe. A *run* is a turn in two *lanes*, each
with half of the CPU: it begins with two parts, and whenever a lane is free it takes the next part, until none
waits or single turns are better. A lane usually takes less than twice the time of a turn with one part, since
it waits for no other lane.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

from monitor.line_state.frame import Frame
from monitor.scoring.views import LiveViews
from monitor.settings import CameraSettings, Mode
from monitor.verdict import Reason

_LANES = 2
"""The lanes of a run, which begins as soon as so many parts wait. It ends the first part later than a single
turn would; but a run that began later would find too little time left for that part in a lane."""


@dataclass(frozen=True, slots=True)
class WaitingFrame:
    """A frame that waits for its score, with its camera."""

    camera: CameraSettings
    frame: Frame


@dataclass(frozen=True, slots=True)
class Plan:
    """The next turn, and the waiting frames that are never scored. All other frames go on waiting."""

    batch: tuple[WaitingFrame, ...] = ()
    """The frames of the next turn: of one recipe, earliest deadline first. Where lanes were offered, two
    frames begin a run."""
    uninspected: tuple[tuple[WaitingFrame, Reason], ...] = ()
    """The frames that are closed as uninspected at once, each with its reason."""
    overdue: tuple[WaitingFrame, ...] = ()
    """The frames that can no longer be scored in time. The publisher closes them at their deadline."""


def plan(
    waiting: Sequence[WaitingFrame],
    now_ns: int,
    recipes: Mapping[str, str],
    max_batch: int,
    estimate_ns: int = 0,
    recent: Mapping[str, int] = MappingProxyType({}),
    lane_ns: int = 0,
    views: LiveViews | None = None,
) -> Plan:
    """Return which frames are scored in the next turn, and which are never scored.

    `recipes`: by camera, the sha of the recipe in force; a camera without a recipe is absent.
    `max_batch`: the most frames of a turn that is not a run.
    `estimate_ns`: the time of a turn of up to `max_batch` parts.
    `recent`: by camera, how many of the last scored parts were this camera's.
    `lane_ns`: the time of a part in a lane; 0 where no run may begin.
    `views`: the times of the live views; None on a line without one.

    Parts come first: the earliest deadline, whatever the camera. When not all deadlines can be met, frames of
    the camera that has the largest number in `recent` are displaced, so that a fast camera can't starve a
    slow one. A live view (`latest`) has a turn only when no part waits, and then alone, so that a part which
    arrives meanwhile waits for one frame. Of each live view only the newest frame is scored.
    """
    view_ns = views.estimates_ns() if views is not None else {}
    found = _sort_out(waiting, now_ns, recipes, estimate_ns, view_ns)
    batch: Sequence[WaitingFrame] = ()
    if found.parts:
        turns = partial(_turns_ns, max_batch, estimate_ns)
        fitting, rest = _split_by_time(found.parts, now_ns, recipes, turns, recent)
        alike = len({recipes[work.camera.name] for work in found.parts}) == 1
        if lane_ns and alike and len(fitting) >= _LANES:
            overloaded = _is_overloaded(found, rest)
            begin = _choose_lanes(found.parts, fitting, now_ns, recipes, lane_ns, 0, recent, overloaded)
            batch = begin[:_LANES] if len(begin) >= _LANES else ()
        if not batch:
            recipe = recipes[fitting[0].camera.name]
            batch = [work for work in fitting + rest if recipes[work.camera.name] == recipe][:max_batch]
    elif views is not None:
        name_of_next = views.choose([work.camera.name for work in found.live], now_ns)
        batch = [work for work in found.live if work.camera.name == name_of_next]
    return Plan(tuple(batch), tuple(found.uninspected), tuple(found.overdue))


@dataclass(frozen=True, slots=True)
class Run:
    """A run that goes on, with a lane that is free now."""

    sha: str
    """The recipe of its parts."""
    lane_ns: int
    """The time of a part in a lane."""
    other_ns: int
    """The time until the other lane is free."""


def plan_lane(
    run: Run,
    waiting: Sequence[WaitingFrame],
    now_ns: int,
    recipes: Mapping[str, str],
    estimate_ns: int,
    recent: Mapping[str, int],
    view_ns: Mapping[str, int] = MappingProxyType({}),
) -> Plan:
    """Return the next part of a run; without one the run ends.

    `waiting` is without the parts in a lane. The run ends where single turns are better after it, and for a
    part of another recipe. The rest is as in `plan`.
    """
    found = _sort_out(waiting, now_ns, recipes, estimate_ns, view_ns)
    batch: Sequence[WaitingFrame] = ()
    if found.parts and all(recipes[work.camera.name] == run.sha for work in found.parts):
        lane_ns, other_ns = run.lane_ns, min(run.lane_ns, max(0, run.other_ns))
        turns = partial(_turns_ns, 1, estimate_ns)
        fitting, rest = _split_by_time(found.parts, now_ns + other_ns, recipes, turns, recent)
        overloaded = _is_overloaded(found, rest)
        batch = _choose_lanes(found.parts, fitting, now_ns, recipes, lane_ns, other_ns, recent, overloaded)
    return Plan(tuple(batch[:1]), tuple(found.uninspected), tuple(found.overdue))


def allowed_lane_ns(lane_ns: int, allowed_ns: Mapping[str, int], recent: Mapping[str, int]) -> int:
    """Return `lane_ns`, or 0 where no run may begin or go on because of a camera's deadline.

    A part that comes during a run waits for a lane, then it has its own turn. So a run needs the time for two
    turns in a lane before the deadline of each camera (`allowed_ns`), except the one with most of the parts.
    """
    busiest = max(recent, key=lambda name: recent[name], default="")
    others = (allowed for name, allowed in allowed_ns.items() if name != busiest)
    return lane_ns if 2 * lane_ns <= min(others, default=2 * lane_ns) else 0


@dataclass(slots=True)
class _Sorted:
    """Waiting frames by what can become of them."""

    parts: list[WaitingFrame] = field(default_factory=list)
    """Each can be scored in time if it is next."""
    live: list[WaitingFrame] = field(default_factory=list)
    uninspected: list[tuple[WaitingFrame, Reason]] = field(default_factory=list)
    overdue: list[WaitingFrame] = field(default_factory=list)


def _is_overloaded(found: _Sorted, rest: Sequence[WaitingFrame]) -> bool:
    """Return whether parts can't be scored in time: those in `rest`, or those whose time is already over."""
    return bool(rest) or any(work.camera.mode is Mode.EVERY_PART for work in found.overdue)


def _sort_out(
    waiting: Sequence[WaitingFrame],
    now_ns: int,
    recipes: Mapping[str, str],
    part_ns: int,
    view_ns: Mapping[str, int],
) -> _Sorted:
    """Divide the waiting frames; scoring takes `part_ns` for a part and `view_ns` for each view's frame."""
    newest = {work.camera.name: work.frame.number for work in sorted(waiting, key=lambda w: w.frame.number)}
    found = _Sorted()
    for work in waiting:
        name, is_view = work.camera.name, work.camera.mode is Mode.LATEST
        if is_view and work.frame.number != newest[name]:
            found.uninspected.append((work, Reason.SUPERSEDED))
        elif now_ns + (view_ns.get(name, 0) if is_view else part_ns) >= work.frame.decide_by_ns:
            found.overdue.append(work)
        elif name not in recipes:
            found.uninspected.append((work, Reason.NO_RECIPE))
        else:
            (found.live if is_view else found.parts).append(work)
    return found


def _split_by_time(
    parts: Sequence[WaitingFrame],
    now_ns: int,
    recipes: Mapping[str, str],
    time_ns: Callable[[Mapping[str, int]], int],
    recent: Mapping[str, int],
) -> tuple[list[WaitingFrame], list[WaitingFrame]]:
    """Return the frames that can all be scored in time, in the order of their deadlines, and the rest.

    `time_ns` is the time until so many frames of each recipe are scored. This is Moore's algorithm (1968),
    except that it displaces the last frame of the camera that has the largest number in `recent`, where Moore
    displaces the longest job. With one recipe the number of fitting frames is the largest possible, since
    each takes the same time. A turn has frames of one recipe only, so several frames of another recipe may
    have to be displaced before a whole turn is free for a frame; otherwise that frame is displaced itself.
    """
    fitting: list[WaitingFrame] = []
    rest: list[WaitingFrame] = []
    of_recipe = Counter[str]()
    """How many of the fitting frames are of each recipe."""
    for work in sorted(parts, key=lambda work: (work.frame.decide_by_ns, recent.get(work.camera.name, 0))):
        candidates, displaced = [*fitting, work], list[WaitingFrame]()
        of_recipe[recipes[work.camera.name]] += 1
        while now_ns + time_ns(of_recipe) >= work.frame.decide_by_ns:
            counts = Counter(one.camera.name for one in candidates)
            most = max(counts, key=lambda name: (recent.get(name, 0), counts[name]))
            place = max(place for place, one in enumerate(candidates) if one.camera.name == most)
            displaced.append(candidates.pop(place))
            of_recipe[recipes[most]] -= 1
            if displaced[-1] is work:
                break
        if displaced and displaced[-1] is work:
            # The other displaced frames stay, because this frame is displaced itself.
            of_recipe.update(recipes[one.camera.name] for one in displaced[:-1])
            rest.append(work)
        else:
            fitting = candidates
            rest += displaced
    return fitting, rest


def _choose_lanes(
    parts: Sequence[WaitingFrame],
    fitting: Sequence[WaitingFrame],
    now_ns: int,
    recipes: Mapping[str, str],
    lane_ns: int,
    other_ns: int,
    recent: Mapping[str, int],
    overloaded: bool,
) -> Sequence[WaitingFrame]:
    """Return the parts that lanes score in time, or none where single turns are better.

    A run may make no part late: all of `fitting`, which single turns score in time, must be in time in lanes
    too. The exception: where not all parts can be scored in time (`overloaded`), a run may lose parts of the
    cameras that have the largest number in `recent`. Otherwise an overloaded scorer would score each part
    alone just before its deadline, and never in lanes.
    """
    ready = [work for work in parts if now_ns + lane_ns < work.frame.decide_by_ns]
    in_lanes, _ = _split_by_time(ready, now_ns, recipes, partial(_lanes_ns, lane_ns, other_ns), recent)
    kept = {id(work) for work in in_lanes}
    lost = [work for work in fitting if id(work) not in kept]
    most = max((recent.get(work.camera.name, 0) for work in fitting), default=0)
    if lost and not (overloaded and all(recent.get(work.camera.name, 0) == most for work in lost)):
        return []
    return in_lanes


def _turns_ns(max_batch: int, estimate_ns: int, of_recipe: Mapping[str, int]) -> int:
    """Return an upper bound for the time until all frames are scored, one turn after the other; `of_recipe`
    counts the frames of each recipe."""
    return sum(-(-count // max_batch) for count in of_recipe.values()) * estimate_ns


def _lanes_ns(lane_ns: int, other_ns: int, of_recipe: Mapping[str, int]) -> int:
    """Return the time until all frames are scored in two lanes, of which one is free now, the other in
    `other_ns`, at most `lane_ns`."""
    later, odd = divmod(sum(of_recipe.values()) - 1, 2)
    return (1 + later) * lane_ns + odd * other_ns
