"""The limit of wrong passwords: so many a minute by one key, which is an address, a proxy or a name.

It knows nothing of passwords.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

_MAX_ATTEMPTS, _ATTEMPT_WINDOW_S, _MAX_KEYS = 5, 60.0, 1000


class PasswordAttempts:
    """Limits the wrong passwords of each key. Safe for several threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()

    def may_try(self, key: str, most: int = _MAX_ATTEMPTS) -> bool:
        """Counts the attempt and returns whether it is one of the first `most` within a minute. Call `forget`
        after a right password."""
        now = self._clock()
        with self._lock:
            recent = [at for at in self._wrong.get(key, []) if now - at < _ATTEMPT_WINDOW_S]
            allowed = len(recent) < most
            self._wrong[key] = [*recent, now] if allowed else recent
            self._wrong.move_to_end(key)
            while len(self._wrong) > _MAX_KEYS:
                self._wrong.popitem(last=False)
            return allowed

    def forget(self, key: str) -> None:
        with self._lock:
            self._wrong.pop(key, None)
