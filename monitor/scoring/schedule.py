"""The rule for which frame is scored next: the earliest deadline of all cameras comes first.

It knows nothing of rings, networks or torch: pure functions over the frames that wait, and a clock reading.
On a frame's way it stands between the ring and the scorer; `monitor.scoring.worker` carries out each plan.

In this module a frame's *deadline* is its `decide_by_ns`, after which the publisher no longer waits for a
score. A *turn* is one call of the scorer, with frames of one recipe. A *pair* is a turn of two frames that
the scorer computes in parallel.
"""

from __future__ import annotations

import statistics
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from types import MappingProxyType

from monitor.line_state.frame import Frame
from monitor.settings import CameraSettings, Mode
from monitor.verdict import Reason

_PAIR_FROM = 4
"""The fewest frames that can all be scored in time for which a pair is considered: running two in parallel
finishes both earlier, but delays the first."""
_PAIR_RETRY = 500
"""The times of pairs are forgotten after more than this many single turns since the last pair. So a pair is
tried again where pairs took no less time than two single turns before."""


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


class TurnTime:
    """An estimate of how long a turn takes: the median of the last few turns.

    Scoring a frame that will miss its deadline wastes the time of the next one, so an overloaded scorer needs
    the estimate to judge any frame at all. The median ignores a single slow turn. Each plan that gives up
    frames because of the estimate lowers the estimate once, so that soon a frame is scored again and its time
    replaces the estimate.
    """

    def __init__(self, remembered: int = 5) -> None:
        self._all_turns: deque[int] = deque(maxlen=remembered)
        self._single_turns: deque[int] = deque(maxlen=remembered)
        self._pairs: deque[int] = deque(maxlen=remembered)
        self._singles_since_pair = 0
        self._factor = 1.0

    @property
    def estimate_ns(self) -> int:
        """The time of a single turn; 0 before the first turn."""
        return int(statistics.median(self._all_turns) * self._factor) if self._all_turns else 0

    @property
    def pair_ns(self) -> int:
        """The time of a pair: at least that of a single turn, and twice that before the first pair.

        0 where the last pairs took no less time than two single turns: then no pair is made.
        """
        if not self._pairs or not self._single_turns:
            return 2 * self.estimate_ns
        known = int(statistics.median(self._pairs))
        return max(self.estimate_ns, known) if known < 2 * statistics.median(self._single_turns) else 0

    def add(self, elapsed_ns: int, *, pair: bool = False) -> None:
        """Add the time of a turn that has just ended."""
        if pair:
            self._pairs.append(elapsed_ns)
            self._singles_since_pair = 0
            if elapsed_ns > 2 * self.estimate_ns:
                # The scorer has become slower, but there may be too few single turns to measure that.
                self._all_turns.append(elapsed_ns // 2)
        else:
            self._all_turns.append(elapsed_ns)
            self._single_turns.append(elapsed_ns)
            self._singles_since_pair += 1
            if self._singles_since_pair > _PAIR_RETRY:
                self._pairs.clear()
        self._factor = 1.0

    def lower(self) -> None:
        """Lower the estimate by a fifth, after a plan gave up frames because of it."""
        self._factor *= 0.8


def plan(
    waiting: Sequence[WaitingFrame],
    now_ns: int,
    recipes: Mapping[str, str],
    max_batch: int,
    estimate_ns: int = 0,
    recent: Mapping[str, int] = MappingProxyType({}),
    pair_ns: int = 0,
) -> Plan:
    """Return which frames are scored in the next turn, and which are never scored.

    `recipes`: by camera, the sha of the recipe in force; a camera without a recipe is absent.
    `max_batch`: the most frames of a turn that is not a pair.
    `estimate_ns`: the time of a turn of up to `max_batch` frames.
    `recent`: by camera, how many of the last scored frames were this camera's.
    `pair_ns`: the time of a pair; 0 where the scorer makes none.

    The earliest deadline comes first, whatever the camera. When not all deadlines can be met, frames of the
    camera that has the largest number in `recent` are displaced, so that a fast camera can't starve a slow
    one. Of a live view (`latest`) only the newest frame is scored, and it is due in the next turn: if it
    waited until its deadline, a newer frame would replace it each time, and no frame would ever be scored.
    """
    newest = {work.camera.name: work.frame.number for work in sorted(waiting, key=lambda w: w.frame.number)}
    uninspected, overdue, ready = [], [], []
    for work in waiting:
        if work.camera.mode is Mode.LATEST and work.frame.number != newest[work.camera.name]:
            uninspected.append((work, Reason.SUPERSEDED))
        elif now_ns + estimate_ns >= work.frame.decide_by_ns:
            overdue.append(work)
        elif work.camera.name not in recipes:
            uninspected.append((work, Reason.NO_RECIPE))
        else:
            ready.append(work)
    ready.sort(key=lambda work: (_due_ns(work, now_ns, estimate_ns), recent.get(work.camera.name, 0)))
    if ready:
        fitting, rest = _split_by_time(ready, now_ns, recipes, max_batch, estimate_ns, recent)
        recipe = recipes[fitting[0].camera.name]
        ready = [work for work in fitting + rest if recipes[work.camera.name] == recipe][:max_batch]
        if pair_ns and len(fitting) >= _PAIR_FROM:
            pair = _choose_pair(fitting, bool(rest), now_ns, pair_ns, recent)
            if len({recipes[work.camera.name] for work in pair}) == 1:
                ready = pair
    return Plan(tuple(ready), tuple(uninspected), tuple(overdue))


def _due_ns(work: WaitingFrame, now_ns: int, estimate_ns: int) -> int:
    """The time by which a frame is due: its deadline; for a live view, the end of the next turn."""
    if work.camera.mode is Mode.LATEST:
        return now_ns + estimate_ns + 1
    return work.frame.decide_by_ns


def _split_by_time(
    ready: Sequence[WaitingFrame],
    now_ns: int,
    recipes: Mapping[str, str],
    max_batch: int,
    estimate_ns: int,
    recent: Mapping[str, int],
) -> tuple[list[WaitingFrame], list[WaitingFrame]]:
    """Return the frames that can all be scored in time, one turn after the other, and the rest.

    `ready` is in the order of due times. This is Moore's algorithm (1968), except that it displaces the last
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
        while now_ns + _most_turns(candidates, work, of_recipe, max_batch) * estimate_ns >= _due_ns(
            work, now_ns, estimate_ns
        ):
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

    `fitting` is in the order of due times, and each frame in it meets its deadline in this order. So a pair
    consists of two frames next to each other: a frame taken from further back could make those before it
    late. A frame is urgent when a pair would end after its deadline; then there is no pair. The exception:
    where not all frames can be scored in time (`overloaded`), urgent frames are skipped in this turn if their
    cameras have the largest number in `recent`. Otherwise an overloaded scorer would score each frame alone
    just before its deadline, and never a pair.
    """
    urgent = list(takewhile(lambda work: now_ns + pair_ns >= work.frame.decide_by_ns, fitting))
    most = max(recent.get(work.camera.name, 0) for work in fitting)
    all_of_the_most_scored = all(recent.get(work.camera.name, 0) == most for work in urgent)
    if fitting[0].camera.mode is Mode.LATEST or (urgent and not (overloaded and all_of_the_most_scored)):
        return []
    pair = fitting[len(urgent) : len(urgent) + 2]
    return list(pair) if len(pair) == 2 else []


def _most_turns(
    candidates: Sequence[WaitingFrame], last: WaitingFrame, of_recipe: Mapping[str, int], max_batch: int
) -> int:
    """Return an upper bound for the number of turns until the last frame is scored.

    `of_recipe` counts the frames of each recipe. A part behind a live view gets one spare turn, since a new
    frame of that live view may be scored before the part.
    """
    turns = sum(-(-count // max_batch) for count in of_recipe.values())
    if last.camera.mode is Mode.EVERY_PART and candidates[0].camera.mode is Mode.LATEST:
        turns += 1
    return turns
