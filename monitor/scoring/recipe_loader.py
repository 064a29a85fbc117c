"""Loads a recipe on a thread of its own, beside a scoring loop that must not wait for it.

The thread gives way to everything else on the machine: until it is done, parts are judged by the recipe in
force, within their deadlines. What goes wrong on it comes out in the loop: it must never lose an error.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from monitor.errors import LineMonitorError
from monitor.inference.scorer import Scorer

_NICENESS = 10


class Loader:
    """One load at a time."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._outcome: list[Scorer | BaseException] = []

    @property
    def busy(self) -> bool:
        """Whether a load was begun and its outcome has not been taken."""
        return self._thread is not None

    def begin(self, load: Callable[[], Scorer]) -> None:
        """Starts a load. Raises RuntimeError while there is another."""
        if self.busy:
            raise RuntimeError("a recipe is being loaded already")
        self._outcome = []
        # A daemon: a disk that hangs must not keep the process.
        self._thread = threading.Thread(target=self._run, args=(load, self._outcome), daemon=True)
        self._thread.start()

    def take(self) -> Scorer | LineMonitorError | None:
        """What became of the load, once; None while it goes on. Raises whatever else it raised."""
        if self._thread is None or self._thread.is_alive():
            return None
        self._thread = None
        (outcome,) = self._outcome
        if isinstance(outcome, Scorer | LineMonitorError):
            return outcome
        raise outcome

    @staticmethod
    def _run(load: Callable[[], Scorer], outcome: list[Scorer | BaseException]) -> None:
        try:
            # Linux keeps a niceness for each thread (setpriority(2)); threads it starts inherit it.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
            outcome.append(load())
        except BaseException as error:  # noqa: BLE001 - `take` raises it where the loop hears it
            outcome.append(error)
