"""A thread that loads recipes while the scoring loop scores frames.

It knows nothing of cameras or requests. The thread has a low priority, so that the recipe in force still
judges parts within their deadlines. Every error on the thread is handed to the scoring loop.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping

from monitor.errors import LineMonitorError
from monitor.inference.scorer import Scorer

_NICENESS = 10
Loaded = Mapping[str, Scorer]
"""By camera, the scorer that is to judge its parts."""


class RecipeLoader:
    """The thread and its outcome. There is one load at a time."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._outcome: list[Loaded | BaseException] = []

    @property
    def busy(self) -> bool:
        """Whether a load has begun and its outcome has not been taken."""
        return self._thread is not None

    def begin(self, load: Callable[[], Loaded]) -> None:
        """Start a load. Raises RuntimeError while another one is busy."""
        if self.busy:
            raise RuntimeError("another recipe is being loaded")
        self._outcome = []
        # A daemon thread, so that a disk that hangs does not keep the process from ending.
        self._thread = threading.Thread(target=self._run, args=(load, self._outcome), daemon=True)
        self._thread.start()

    def take(self) -> Loaded | LineMonitorError | None:
        """Return the outcome of the load, once; None while it has not ended. Raises an unexpected error
        itself."""
        if self._thread is None or self._thread.is_alive():
            return None
        self._thread = None
        (outcome,) = self._outcome
        if isinstance(outcome, BaseException) and not isinstance(outcome, LineMonitorError):
            raise outcome
        return outcome

    @staticmethod
    def _run(load: Callable[[], Loaded], outcome: list[Loaded | BaseException]) -> None:
        try:
            # Linux has a niceness for each thread (setpriority(2)); threads that it starts inherit it.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
            outcome.append(load())
        except BaseException as error:  # noqa: BLE001 - `take` raises it in the scoring loop
            outcome.append(error)
