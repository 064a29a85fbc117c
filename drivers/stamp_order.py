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
    clock that is set back does so once."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque(maxlen=_RECENT)
        self._late: deque[int] = deque(maxlen=_MEMORY)
        """For each of the last images the number of images before it with a later stamp; 0 for those that
        only continue such a step back."""
        self._rose = False

    def arrange(self, stamp_ns: int) -> int:
        """The stamp that the image would have if the stamps so far came in order."""
        late = sum(earlier > stamp_ns for earlier in list(self._recent)[-_DEEPEST - 1 :])
        self._rose |= not late
        self._late.append(late if self._rose and late <= _DEEPEST else 0)
        if late:
            self._rose = False
        self._recent.append(stamp_ns)
        depth = max(self._late) if sum(map(bool, self._late)) >= 2 else 0
        return sorted(self._recent)[-1 - min(depth, len(self._recent) - 1)] if depth else stamp_ns
