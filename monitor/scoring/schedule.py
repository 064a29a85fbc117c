"""The rule for which frame is scored next: the most urgent part, and a live view only when no part waits.

It knows nothing of rings, networks or torch: pure functions over the frames that wait, and a clock reading.
On a frame's way it stands between the ring and the scorer; `monitor.scoring.worker` carries out each plan.

In this module a frame's *deadline* is its `decide_by_ns`, after which the publisher no longer waits for a
score. A *turn* is one call of the scorer, with frames of one recipe. A *pair* is a turn of two frames that
the scorer computes in parallel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from types import MappingProxyType

from monitor.line_state.frame import Frame
from monitor.scoring.views import LiveViews
from monitor.settings import CameraSettings, Mode
from monitor.verdict import Reason

_PAIR_FROM = 4
"""The fewest frames that can all be scored in time for which a pair is considered: running two in parallel
finishes both earlier, but delays the first."""


@dataclass(frozen=True, slots=True)
class WaitingFrame:
    """A frame that waits for its score, with its camera."""

    camera: CameraSettings
    frame: Frame


@dataclass(frozen=True, slots=True)
class Plan:
    """The next turn, and the waiting frames that are never scored. All other frames go on waiting."""

    batch: tuple[WaitingFrame, ...] = ()
    """The frames of the next turn: of one recipe, earliest deadline first."""
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
    pair_ns: int = 0,
    views: LiveViews | None = None,
) -> Plan:
    """Return which frames are scored in the next turn, and which are never scored.

    `recipes`: by camera, the sha of the recipe in force; a camera without a recipe is absent.
    `max_batch`: the most frames of a turn that is not a pair.
    `estimate_ns`: the time of a turn of up to `max_batch` parts.
    `recent`: by camera, how many of the last scored parts were this camera's.
    `pair_ns`: the time of a pair; 0 where the scorer makes none.
    `views`: the times of the live views; None on a line without one.

    Parts come first: the earliest deadline, whatever the camera. When not all deadlines can be met, frames of
    the camera that has the largest number in `recent` are displaced, so that a fast camera can't starve a
    slow one. A live view (`latest`) has a turn only when no part waits, and then alone, so that a part which
    arrives meanwhile waits for one frame. Of each live view only the newest frame is scored.
    """
    newest = {work.camera.name: work.frame.number for work in sorted(waiting, key=lambda w: w.frame.number)}
    view_ns = views.estimates_ns() if views is not None else {}
    uninspected, overdue = [], []
    parts, live = list[WaitingFrame](), list[WaitingFrame]()
    for work in waiting:
        name, is_view = work.camera.name, work.camera.mode is Mode.LATEST
        if is_view and work.frame.number != newest[name]:
            uninspected.append((work, Reason.SUPERSEDED))
        elif now_ns + (view_ns.get(name, 0) if is_view else estimate_ns) >= work.frame.decide_by_ns:
            overdue.append(work)
        elif name not in recipes:
            uninspected.append((work, Reason.NO_RECIPE))
        else:
            (live if is_view else parts).append(work)
    batch: Sequence[WaitingFrame] = ()
    if parts:
        batch = _choose_parts(parts, now_ns, recipes, max_batch, estimate_ns, recent, pair_ns)
    elif views is not None:
        name_of_next = views.choose([work.camera.name for work in live], now_ns)
        batch = [work for work in live if work.camera.name == name_of_next]
    return Plan(tuple(batch), tuple(uninspected), tuple(overdue))


def _choose_parts(
    parts: list[WaitingFrame],
    now_ns: int,
    recipes: Mapping[str, str],
    max_batch: int,
    estimate_ns: int,
    recent: Mapping[str, int],
    pair_ns: int,
) -> Sequence[WaitingFrame]:
    """Return the parts of the next turn; each of the given parts can be scored in time if it is next."""
    parts.sort(key=lambda work: (work.frame.decide_by_ns, recent.get(work.camera.name, 0)))
    fitting, rest = _split_by_time(parts, now_ns, recipes, max_batch, estimate_ns, recent)
    if pair_ns and len(fitting) >= _PAIR_FROM:
        pair = _choose_pair(fitting, bool(rest), now_ns, pair_ns, recent)
        if len({recipes[work.camera.name] for work in pair}) == 1:
            return pair
    recipe = recipes[fitting[0].camera.name]
    return [work for work in fitting + rest if recipes[work.camera.name] == recipe][:max_batch]


def _split_by_time(
    ready: Sequence[WaitingFrame],
    now_ns: int,
    recipes: Mapping[str, str],
    max_batch: int,
    estimate_ns: int,
    recent: Mapping[str, int],
) -> tuple[list[WaitingFrame], list[WaitingFrame]]:
    """Return the frames that can all be scored in time, one turn after the other, and the rest.

    `ready` is in the order of deadlines. This is Moore's algorithm (1968), except that it displaces the last
    frame of the camera that has the largest number in `recent`, where Moore displaces the longest job. With
    one recipe the number of fitting frames is the largest possible, since each turn takes the same time. A
    turn has frames of one recipe only, so several frames of another recipe may have to be displaced before a
    whole turn is free for a frame; otherwise that frame is displaced itself.
    """
    fitting: list[WaitingFrame] = []
    rest: list[WaitingFrame] = []
    of_recipe = Counter[str]()
    """How many of the fitting frames are of each recipe."""
    for work in ready:
        candidates, displaced = [*fitting, work], list[WaitingFrame]()
        of_recipe[recipes[work.camera.name]] += 1
        while now_ns + _most_turns(of_recipe, max_batch) * estimate_ns >= work.frame.decide_by_ns:
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


def _choose_pair(
    fitting: Sequence[WaitingFrame], overloaded: bool, now_ns: int, pair_ns: int, recent: Mapping[str, int]
) -> list[WaitingFrame]:
    """Return the two frames of the next turn, or no frame where a turn without a pair is better.

    `fitting` is in the order of deadlines, and each frame in it meets its deadline in this order. So a pair
    consists of two frames next to each other: a frame taken from further back could make those before it
    late. A frame is urgent when a pair would end after its deadline; then there is no pair. The exception:
    where not all frames can be scored in time (`overloaded`), urgent frames are skipped in this turn if their
    cameras have the largest number in `recent`. Otherwise an overloaded scorer would score each frame alone
    just before its deadline, and never a pair.
    """
    urgent = list(takewhile(lambda work: now_ns + pair_ns >= work.frame.decide_by_ns, fitting))
    most = max(recent.get(work.camera.name, 0) for work in fitting)
    all_of_the_most_scored = all(recent.get(work.camera.name, 0) == most for work in urgent)
    if urgent and not (overloaded and all_of_the_most_scored):
        return []
    pair = fitting[len(urgent) : len(urgent) + 2]
    return list(pair) if len(pair) == 2 else []


def _most_turns(of_recipe: Mapping[str, int], max_batch: int) -> int:
    """Return an upper bound for the number of turns until all frames are scored; `of_recipe` counts the
    frames of each recipe."""
    return sum(-(-count // max_batch) for count in of_recipe.values())
