"""Reads on a thread of its own which versions people have put in force, while the line runs.

It knows nothing of scorers or cameras. The scoring loop must not wait for a disk, so it only looks at what
the thread has read last. A file that can't be read counts as unchanged.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from pathlib import Path

from monitor.errors import LineMonitorError
from monitor.model.in_force import InForce, read_in_force

PERIOD_S = 0.5


class InForceWatch:
    """The `in_force.json` of some recipes, read again every `PERIOD_S` once `start` was called."""

    def __init__(self, recipes: Path, log: logging.Logger) -> None:
        self._recipes, self._log = recipes, log
        self._names: frozenset[str] = frozenset()
        self._found: dict[str, InForce] = {}
        self._problems: dict[str, str] = {}

    def follow(self, names: Iterable[str]) -> None:
        """Sets the recipes whose files are read from now on."""
        self._names = frozenset(names)
        # A file that is not read any more would be taken for its last content later.
        self._found = {name: found for name, found in self._found.items() if name in self._names}

    def find(self, name: str) -> InForce | None:
        """What a recipe's file said last; None while there is none, or before the first look."""
        return self._found.get(name)

    def start(self) -> None:
        # A daemon thread, so that a disk that hangs does not keep the process from ending.
        threading.Thread(target=self._run, name="in-force", daemon=True).start()

    def look(self) -> None:
        """Reads all files once."""
        for name in self._names:
            try:
                found = read_in_force(self._recipes / name)
            except LineMonitorError as error:
                if self._problems.get(name) != str(error):
                    self._problems[name] = str(error)
                    self._log.error("%s", error)
                continue
            self._problems.pop(name, None)
            if found is not None:
                self._found[name] = found

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            self.look()
            pause.wait(PERIOD_S)
