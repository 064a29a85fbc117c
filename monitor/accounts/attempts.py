"""The limit of wrong passwords: so many a minute from one address or for one name.

It knows nothing of passwords.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

_MAX_ATTEMPTS, _ATTEMPT_WINDOW_S, _MAX_ADDRESSES = 5, 60.0, 1000


class PasswordAttempts:
    """Limits each address to five wrong passwords a minute. Safe for several threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()

    def may_try(self, address: str, most: int = _MAX_ATTEMPTS) -> bool:
        """Counts the attempt and returns whether it is allowed, as one of at most `most` in a minute; call
        `forget` after a right password."""
        now = self._clock()
        with self._lock:
            recent = [at for at in self._wrong.get(address, []) if now - at < _ATTEMPT_WINDOW_S]
            allowed = len(recent) < most
            self._wrong[address] = [*recent, now] if allowed else recent
            self._wrong.move_to_end(address)
            while len(self._wrong) > _MAX_ADDRESSES:
                self._wrong.popitem(last=False)
            return allowed

    def forget(self, address: str) -> None:
        with self._lock:
            self._wrong.pop(address, None)
