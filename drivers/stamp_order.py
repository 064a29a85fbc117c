"""Puts time stamps in rising order where a stream sends them in the order of decoding (B-frames).

It knows nothing of arrivals. A stream whose stamps rise is handed on unchanged.
"""

from __future__ import annotations

from collections import deque

_RECENT = 8
_DEEPEST = 3
_MEMORY = 24


class StampOrder:
    """Stamps count as out of order when small steps back follow on new highest stamps again and again. A
    clock that is set back does so once, and stamps without any order go further back."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque(maxlen=_RECENT)
        self._late: deque[int] = deque(maxlen=_MEMORY)
        """For each of the last images the number of images before it with a later stamp."""
        self._groups: deque[bool] = deque(maxlen=_MEMORY)
        """Whether a step back begins at the image."""

    def arrange(self, stamp_ns: int) -> int:
        """The stamp that the image would have if the stamps so far came in order."""
        late = sum(earlier > stamp_ns for earlier in self._recent)
        self._groups.append(late > 0 and bool(self._late) and self._late[-1] == 0)
        self._late.append(late)
        self._recent.append(stamp_ns)
        depth = max(self._late)
        if sum(self._groups) < 2 or depth > _DEEPEST:
            return stamp_ns
        return sorted(self._recent)[-1 - min(depth, len(self._recent) - 1)]
