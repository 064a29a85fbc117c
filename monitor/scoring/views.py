"""The rules for live views (`mode = "latest"`): which view is scored next, and when there is time for one.

It knows nothing of rings, networks or torch: it is arithmetic over names, times and frames. On a frame's way
it stands beside `monitor.scoring.schedule`, which asks it for a view only when no part waits.

Parts come first. A view's turn scores one frame, and a part that arrives meanwhile waits for the end of that
turn at most. After each view's turn comes a pause, on average 0.4 of the turn's time, in which the scorer is
idle or scores parts. So more than every fourth part begins at once, however much the views ask for.

Parts at equal distances wait less. A turn just before an expected part is held back for that part, but not
for a second one. Where all cameras' parts are expected, a turn that ends before the next one needs no pause.

A view whose turn takes so long that a part would miss its deadline is tried again after a pause that doubles
each time. After three such turns in a row it is tried again only when its turn is expected to be short
enough: when the parts have more time, or their own turns have become shorter.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from monitor.line_state.frame import Frame
from monitor.scoring.part_forecast import ExpectedPart, PartForecast
from monitor.scoring.turn_time import TurnTime

_S = 1_000_000_000
_LEAST_PAUSE, _PAUSE_RANGE = 0.2, 0.4
_PAUSE_STEP = (5**0.5 - 1) / 2
"""A view's turn is followed by a pause of 0.2 to 0.6 of its time. This step from one pause to the next,
modulo 1, spreads the pauses evenly over that range and repeats no pattern (the golden ratio). Equal pauses
could keep step with parts that come at equal distances, so that each of them would meet a view's turn."""
_ENDS_BEFORE = 1.2
"""A turn is expected to end before the next part when there is time for this many usual turns."""
_WORTH_HOLDING = 0.5
"""A turn is held back for a part that is expected within this share of its time. Where the part comes later
than that, holding back would cost the views more time than it spares the part."""
_FIRST_BAN_NS, _LONGEST_BAN_NS, _LONGEST_BUSY_BAN_NS = 2 * _S, 3600 * _S, 8 * _S
"""How long a view waits after a turn that was too long for the parts: the first time, at most, and at most
where the turn was long because the machine is busy, so that parts take longer too."""
_SURE = 3
"""After so many turns in a row that were too long for the parts, the next one is expected to be as long."""
_WINDOW_NS = 10 * _S
"""A view has no time left when frames of it waited in such a window and none of them was scored in time."""


@dataclass(slots=True)
class _View:
    """One live view."""

    turn_time: TurnTime = field(default_factory=TurnTime)
    used_ns: int = 0
    """The time that the view has used, on the scale on which all views are compared."""
    long_turns: int = 0
    """How many of its last turns in a row were too long for the parts."""
    too_long_ns: int = 0
    """The length of the last of them, and below that of a part's turn at that time."""
    part_turn_ns: int = 0
    banned_until_ns: int = 0
    waited: bool = False
    """Whether a frame of it has waited in the present window."""
    served: bool = False
    """Whether a frame of it was scored in time in the present window."""


@dataclass(slots=True)
class _PartsWindow:
    """What is known of the parts in one window of time."""

    most_turns: int = 0
    """The most turns that the parts of one moment needed; 0 in a window without parts."""
    allowed_ns: int = _LONGEST_BAN_NS
    """The shortest time that one of them might take from its capture to its score."""


class LiveViews:
    """The live views of one line and the scoring time that each has used."""

    def __init__(self, names: Collection[str], allowed_ns: int | None) -> None:
        """`allowed_ns`: the shortest time that a part may take from its capture to its score, by the
        settings; None on a line without parts."""
        self._views = {name: _View() for name in names}
        self._has_parts = allowed_ns is not None
        self._reached_ns = 0
        """The used time of the view that was chosen last: a view that was away starts again from there."""
        self._pause_until_ns = 0
        self._pauses = 0
        self._forecast = PartForecast()
        self._held_for: ExpectedPart | None = None
        """The part for which the next view's turn was held back."""
        self._held_until_ns = 0
        self._fastest_part_ns: int | None = None
        """The shortest known turn of a part."""
        self._part_turn_ns = 0
        """How long a part's turn takes now; 0 before the first one."""
        self._window_ends_ns: int | None = None
        self._window, self._window_before = _PartsWindow(), _PartsWindow(1, allowed_ns or 0)
        self.without_time: frozenset[str] = frozenset()
        """The views for which no time was left in the last window."""

    def estimates_ns(self) -> Mapping[str, int]:
        """By view, how long a turn of it takes."""
        return {name: view.turn_time.estimate_ns for name, view in self._views.items()}

    def longest_turn_ns(self) -> int:
        """The usual time of the slowest view's turn; 0 without views."""
        return max((view.turn_time.usual_ns for view in self._views.values()), default=0)

    def see_parts(self, parts: Sequence[Frame], max_batch: int = 1, turn_ns: int = 0) -> None:
        """Take note of the parts that wait for a score at one moment; `max_batch` of them are one turn, which
        takes `turn_ns`."""
        self._part_turn_ns = turn_ns
        window = self._window
        window.most_turns = max(window.most_turns, -(-len(parts) // max_batch))
        window.allowed_ns = min([window.allowed_ns, *(one.decide_by_ns - one.captured_ns for one in parts)])

    def see_part(self, camera: str, captured_ns: int) -> None:
        """Take note of when a part was captured."""
        self._forecast.see(camera, captured_ns)

    def see_waiting(self, names: Collection[str], now_ns: int) -> bool:
        """Take note of the views of which a frame waits. Return whether `without_time` has changed."""
        for name in names:
            self._views[name].waited = True
        if self._window_ends_ns is None:
            self._window_ends_ns = now_ns + _WINDOW_NS
        if now_ns < self._window_ends_ns:
            return False
        before = self.without_time
        self.without_time = frozenset(
            name for name, view in self._views.items() if not view.served and (view.waited or name in before)
        )
        for view in self._views.values():
            view.waited = view.served = False
        if self._window.most_turns:
            self._window_before, self._window = self._window, _PartsWindow()
        self._window_ends_ns = now_ns + _WINDOW_NS
        return self.without_time != before

    def choose(self, names: Collection[str], now_ns: int) -> str | None:
        """Return which of these views has the next turn, or None while there is no time for any.

        `names` are the views of which a frame waits. The view that has used the least time is next, so that
        each gets the same share of the time, whatever its frame rate and the length of its turns.
        """
        self._held_until_ns = 0
        free = [name for name in self._hopeful(names) if now_ns >= self._views[name].banned_until_ns]
        chosen = min(free, key=lambda name: (self._place_ns(name), name), default=None)
        if chosen is None:
            return None
        part, turn_ns = self._forecast.find_next(now_ns), self._views[chosen].turn_time.estimate_ns
        ends_before = part is not None and now_ns + _ENDS_BEFORE * turn_ns <= part.at_ns
        if part is not None and part.is_certain and ends_before:
            return chosen
        is_near = part is not None and now_ns + _WORTH_HOLDING * turn_ns > part.at_ns
        if now_ns < self._pause_until_ns or (is_near and self._must_wait_for(part)):
            return None
        return chosen

    def wait_ns(self, names: Collection[str], now_ns: int) -> int | None:
        """Return the time until one of these views may have a turn; None if no view may have one at any
        known time."""
        earliest = max(self._pause_until_ns, self._held_until_ns)
        starts = [max(earliest, self._views[name].banned_until_ns) for name in self._hopeful(names)]
        return max(0, min(starts) - now_ns) if starts else None

    def add(
        self, name: str, began_ns: int, ended_ns: int, part_turn_ns: int, *, scored: bool, in_time: bool
    ) -> bool:
        """Add a view's turn that has just ended.

        `part_turn_ns`: how long a part's turn takes. `scored`: the frame went through the network. `in_time`:
        the frame has its verdict before its deadline. Return whether the turn was too long for the parts,
        which costs the view a longer pause.
        """
        view, elapsed = self._views[name], ended_ns - began_ns
        place = self._place_ns(name)
        self._reached_ns, view.used_ns = place, place + elapsed
        self._held_for = None
        view.served |= in_time
        if scored:
            view.turn_time.add(elapsed)
        if not self._has_parts:
            return False
        self._pauses += 1
        share = _LEAST_PAUSE + _PAUSE_RANGE * (self._pauses * _PAUSE_STEP % 1)
        self._pause_until_ns = ended_ns + int(elapsed * share)
        if part_turn_ns:
            self._fastest_part_ns = min(part_turn_ns, self._fastest_part_ns or part_turn_ns)
        if elapsed <= self._left_for_a_view_ns(part_turn_ns):
            view.long_turns = 0
            return False
        longest = _LONGEST_BUSY_BAN_NS if self._is_busy(elapsed, part_turn_ns) else _LONGEST_BAN_NS
        view.banned_until_ns = ended_ns + min(longest, _FIRST_BAN_NS << min(view.long_turns, 20))
        view.long_turns += 1
        view.too_long_ns, view.part_turn_ns = elapsed, part_turn_ns
        return True

    def _must_wait_for(self, part: ExpectedPart | None) -> bool:
        """Whether the next turn is held back until that part has come. It is held back for one part at
        most."""
        if self._held_for is None:
            self._held_for = part
        if part is None or part != self._held_for:
            return False
        self._held_until_ns = part.given_up_ns
        return True

    def _hopeful(self, names: Collection[str]) -> list[str]:
        """The views whose next turn is not known to be too long for the parts.

        A view's turn is expected to become shorter by the same factor as the turns of parts.
        """
        found = []
        for name in names:
            view, expected_ns = self._views[name], 0
            if view.long_turns >= _SURE and view.part_turn_ns and self._part_turn_ns:
                expected_ns = view.too_long_ns * self._part_turn_ns // view.part_turn_ns
            if not expected_ns or expected_ns <= self._left_for_a_view_ns(self._part_turn_ns):
                found.append(name)
        return found

    def _is_busy(self, elapsed_ns: int, part_turn_ns: int) -> bool:
        """Whether a view's turn was too long only because the machine is busy: it would not be if it were
        shorter by as much as the parts' turns once were."""
        fastest = self._fastest_part_ns
        if fastest is None or not part_turn_ns:
            return False
        return elapsed_ns * fastest // part_turn_ns <= self._left_for_a_view_ns(fastest)

    def add_part_turn(self, began_ns: int, ended_ns: int) -> None:
        """Add a turn of parts that has just ended. Only idle time counts as a pause of the views: their share
        is one of the time that the parts leave."""
        if began_ns < self._pause_until_ns:
            self._pause_until_ns += ended_ns - began_ns

    def forget_turn_times(self, name: str) -> None:
        """Start anew with a view that has another recipe."""
        view = self._views[name]
        view.turn_time, view.long_turns, view.banned_until_ns = TurnTime(), 0, 0

    def lower(self, name: str) -> None:
        """Lower the estimate for a view of which a frame was given up because of the estimate."""
        self._views[name].turn_time.lower()

    def _place_ns(self, name: str) -> int:
        """The view's used time, at least that of the view that was chosen last: time that a view did not ask
        for is not owed to it later."""
        return max(self._views[name].used_ns, self._reached_ns)

    def _left_for_a_view_ns(self, part_turn_ns: int) -> int:
        """The longest turn of a view after which as many parts as lately waited together still meet the
        shortest deadline of the parts."""
        windows = (self._window, self._window_before)
        most = max(window.most_turns for window in windows)
        return min(window.allowed_ns for window in windows) - most * part_turn_ns
