"""Imports torch for the page's own scoring, once, and announces it before.

It knows nothing of recipes. The import holds all threads of the process, for seconds, on a busy machine for a
minute or more: without the announcement the supervisor would kill the page's worker as a stuck one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

LONGEST_S = 110.0
"""Seconds that the import is allowed to take."""


def import_torch() -> None:
    """Imports what the page scores with."""
    import torch

    import monitor.inference.scorer  # noqa: F401 - imported for its own imports

    torch.set_num_threads(1)


class TorchImport:
    """The import of one process. Safe for several threads: the first one imports, the others wait."""

    def __init__(self, run: Callable[[], None] = import_torch) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._is_done = False
        self.is_running = False
        self.announce: Callable[[float], None] = lambda seconds: None
        """Is called before the import with the seconds that it may take."""

    def load(self) -> None:
        """Returns once torch is imported."""
        with self._lock:
            if self._is_done:
                return
            self.is_running = True
            try:
                self.announce(LONGEST_S)
                self._run()
                self._is_done = True
            finally:
                self.is_running = False
