"""When the next part is expected, where parts come at equal distances.

A live view's turn that begins just before a part would make it late. It knows nothing of rings or views: it
is arithmetic over times.
"""

from __future__ import annotations

import itertools
import statistics
from collections import deque
from dataclasses import dataclass

_REMEMBERED = 6
"""The number of last parts of a camera whose distances must be equal."""
_TOLERANCE = 0.1
"""The distances of a camera's parts count as equal when none differs from their median by more than this
share of it; a part that is later than this has not kept its distance."""


@dataclass(frozen=True, slots=True)
class ExpectedPart:
    """The next part that is expected. Times are CLOCK_MONOTONIC nanoseconds."""

    at_ns: int
    given_up_ns: int
    """From this time on the part is no longer expected."""
    is_certain: bool
    """Whether the parts of all cameras come at equal distances, so that no other part comes before."""


class PartForecast:
    """The times of the last parts of each camera."""

    def __init__(self) -> None:
        self._captured: dict[str, deque[int]] = {}

    def see(self, camera: str, captured_ns: int) -> None:
        """Takes note of a part; a part that was noted before changes nothing."""
        times = self._captured.setdefault(camera, deque(maxlen=_REMEMBERED))
        if not times or captured_ns > times[-1]:
            times.append(captured_ns)

    def find_next(self, now_ns: int) -> ExpectedPart | None:
        """The next part that is expected at any camera; None while no camera's parts come at equal
        distances."""
        spans = []
        for times in self._captured.values():
            last, distance = times[-1], _equal_distance(times)
            spans.append((last + distance, last + round((1 + _TOLERANCE) * distance)))
        expected = sorted(span for span in spans if now_ns < span[1])
        if not expected:
            return None
        return ExpectedPart(*expected[0], is_certain=len(expected) == len(spans))


def _equal_distance(times: deque[int]) -> int:
    """The distance of these times in nanoseconds; 0 where they have no equal distance."""
    if len(times) < _REMEMBERED:
        return 0
    distances = [later - earlier for earlier, later in itertools.pairwise(times)]
    usual = statistics.median(distances)
    is_equal = all(abs(distance - usual) <= _TOLERANCE * usual for distance in distances)
    return round(usual) if is_equal else 0
