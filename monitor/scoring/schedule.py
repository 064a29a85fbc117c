"""The rule for which frame is scored next: the earliest deadline of all cameras comes first.

It knows nothing of rings, networks or torch: pure functions over the frames that wait, and a clock reading.
On a frame's way it stands between the ring and the scorer; `monitor.scoring.worker` carries out each plan.

Two words: a *turn* is one call of the scorer, with frames of one recipe; a *pair* is a turn of two frames
that the scorer computes in parallel.
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
"""The fewest waiting frames for a pair: a pair finishes both frames earlier, but delays the first of them."""
_PAIR_RETRY = 500
"""The number of single turns after which a pair is tried again, where pairs gained nothing before."""


@dataclass(frozen=True, slots=True)
class WaitingFrame:
    """A frame that waits for its score, with its camera."""

    camera: CameraSettings
    frame: Frame


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do next with all frames that wait."""

    batch: tuple[WaitingFrame, ...] = ()
    """The frames of the next turn: of one recipe, earliest deadline first."""
    refused: tuple[tuple[WaitingFrame, Reason], ...] = ()
    """The frames that become uninspected without a score."""
    overdue: tuple[WaitingFrame, ...] = ()
    """The frames that can't be scored in time any more. The publisher closes them at their deadline."""


class TurnTime:
    """An estimate of how long a turn takes: the median of the last few turns.

    Scoring a frame that will miss its deadline wastes the time of the next one, so an overloaded scorer needs
    the estimate to judge any frame at all. The median ignores a single slow turn. Each frame that is given
    up because of the estimate lowers the estimate, so that a turn soon tests it again.
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

        0 where the last pairs took no less time than two single turns.
        """
        if not self._pairs or not self._single_turns:
            return 2 * self.estimate_ns
        known = int(statistics.median(self._pairs))
        return max(self.estimate_ns, known) if known < 2 * statistics.median(self._single_turns) else 0

    def add(self, elapsed_ns: int, *, pair: bool = False) -> None:
        """Take in the time of a turn that has just ended."""
        if pair:
            self._pairs.append(elapsed_ns)
            self._singles_since_pair = 0
            if elapsed_ns > 2 * self.estimate_ns:
                # The scorer has become slower, and single turns may be too rare to show it.
                self._all_turns.append(elapsed_ns // 2)
        else:
            self._all_turns.append(elapsed_ns)
            self._single_turns.append(elapsed_ns)
            self._singles_since_pair += 1
            if self._singles_since_pair > _PAIR_RETRY:
                self._pairs.clear()
        self._factor = 1.0

    def lower(self) -> None:
        """Lower the estimate: a frame was given up because of it."""
        self._factor *= 0.8


def plan(
    waiting: Sequence[WaitingFrame],
    now_ns: int,
    recipes: Mapping[str, str],
    batch: int,
    estimate_ns: int = 0,
    recent: Mapping[str, int] = MappingProxyType({}),
    pair_ns: int = 0,
) -> Plan:
    """Return which frames to score in the next turn, and which never.

    `recipes`: by camera, the sha of the recipe in force; a camera without a recipe is absent.
    `estimate_ns`: the time of a turn of up to `batch` frames.
    `recent`: by camera, how many of the frames scored lately were its own.
    `pair_ns`: the time of a pair; 0 where the scorer makes none.

    The earliest deadline comes first, whatever the camera. When not all deadlines can be met, frames of the
    camera with the most recent scores are displaced, so that a fast camera can't starve a slow one. Of a live
    view (`latest`) only the newest frame is scored, and in the next turn: at its deadline a newer frame would
    have taken its place, and none would ever be scored.
    """
    newest = {work.camera.name: work.frame.number for work in sorted(waiting, key=lambda w: w.frame.number)}
    refused, overdue, ready = [], [], []
    for work in waiting:
        if work.camera.mode is Mode.LATEST and work.frame.number != newest[work.camera.name]:
            refused.append((work, Reason.SUPERSEDED))
        elif now_ns + estimate_ns >= work.frame.decide_by_ns:
            overdue.append(work)
        elif work.camera.name not in recipes:
            refused.append((work, Reason.NO_RECIPE))
        else:
            ready.append(work)
    ready.sort(key=lambda work: (_due_ns(work, now_ns, estimate_ns), recent.get(work.camera.name, 0)))
    if ready:
        fitting, rest = _fitting(ready, now_ns, recipes, batch, estimate_ns, recent)
        recipe = recipes[fitting[0].camera.name]
        ready = [work for work in fitting + rest if recipes[work.camera.name] == recipe][:batch]
        if pair_ns and len(fitting) >= _PAIR_FROM:
            pair = _pair(fitting, bool(rest), now_ns, pair_ns, recent)
            if len({recipes[work.camera.name] for work in pair}) == 1:
                ready = pair
    return Plan(tuple(ready), tuple(refused), tuple(overdue))


def _due_ns(work: WaitingFrame, now_ns: int, estimate_ns: int) -> int:
    """The time by which a frame should be scored: a part by its deadline, a live view in the next turn."""
    if work.camera.mode is Mode.LATEST:
        return now_ns + estimate_ns + 1
    return work.frame.decide_by_ns


def _fitting(
    ready: Sequence[WaitingFrame],
    now_ns: int,
    recipes: Mapping[str, str],
    batch: int,
    estimate_ns: int,
    recent: Mapping[str, int],
) -> tuple[list[WaitingFrame], list[WaitingFrame]]:
    """Return the frames that can all be scored in time, turn after turn, and the rest.

    `ready` is in the order of due times. This is Moore's algorithm (1968), except that it displaces a frame
    of the camera with the most recent scores where Moore displaces the longest job. With one recipe as many
    frames fit as is possible, since each turn takes the same time. A turn is of one recipe, so a frame may
    need several frames of another recipe displaced before a whole turn is free; else it is displaced itself.
    A part behind a live view has one turn in reserve.
    """
    fitting: list[WaitingFrame] = []
    rest: list[WaitingFrame] = []
    of_recipe = Counter[str]()
    """How many of the fitting frames are of each recipe."""
    for work in ready:
        trial, displaced = [*fitting, work], list[WaitingFrame]()
        of_recipe[recipes[work.camera.name]] += 1
        while now_ns + _turns(trial, work, of_recipe, batch) * estimate_ns >= _due_ns(
            work, now_ns, estimate_ns
        ):
            counts = Counter(one.camera.name for one in trial)
            most = max(counts, key=lambda name: (recent.get(name, 0), counts[name]))
            place = max(place for place, one in enumerate(trial) if one.camera.name == most)
            displaced.append(trial.pop(place))
            of_recipe[recipes[most]] -= 1
            if displaced[-1] is work:
                break
        if displaced and displaced[-1] is work:
            # Restore the frames that were displaced: this one is dropped itself.
            of_recipe.update(recipes[one.camera.name] for one in displaced[:-1])
            rest.append(work)
        else:
            fitting = trial
            rest += displaced
    return fitting, rest


def _pair(
    fitting: Sequence[WaitingFrame], overloaded: bool, now_ns: int, pair_ns: int, recent: Mapping[str, int]
) -> list[WaitingFrame]:
    """Return the two frames of the next turn; empty where a single frame is better.

    `fitting` is in the order of due times. Only the next two may form a pair: a third frame's deadline was
    checked for a place behind both. Where not all frames can be judged anyway (`overloaded`), frames too
    urgent for a pair are given up, if they are of the camera with the most recent scores. Otherwise each of
    them would be scored alone at its last moment, and no pair would ever be formed.
    """
    urgent = list(takewhile(lambda work: now_ns + pair_ns >= work.frame.decide_by_ns, fitting))
    most = max(recent.get(work.camera.name, 0) for work in fitting)
    all_of_the_most_scored = all(recent.get(work.camera.name, 0) == most for work in urgent)
    if fitting[0].camera.mode is Mode.LATEST or (urgent and not (overloaded and all_of_the_most_scored)):
        return []
    pair = fitting[len(urgent) : len(urgent) + 2]
    return list(pair) if len(pair) == 2 else []


def _turns(
    trial: Sequence[WaitingFrame], last: WaitingFrame, of_recipe: Mapping[str, int], batch: int
) -> int:
    """Return after how many turns the last frame is scored; `of_recipe` counts the frames of each recipe."""
    turns = sum(-(-count // batch) for count in of_recipe.values())
    if last.camera.mode is Mode.EVERY_PART and trial[0].camera.mode is Mode.LATEST:
        turns += 1
    return turns
