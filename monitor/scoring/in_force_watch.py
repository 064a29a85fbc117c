"""Reads on a thread of its own which versions people have put in force, while the line runs.

It knows nothing of scorers or cameras. The scoring loop must not wait for a disk, so it only looks at what
the thread has read last. A file that can't be read counts as unchanged.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from monitor.errors import LineMonitorError
from monitor.line_state.recipe_set import REQUEST_FILE, SetDocument, read_set
from monitor.model.in_force import InForce, read_in_force

PERIOD_S = 0.5


class InForceWatch:
    """The `in_force.json` of some recipes and the request for a set, read again every `PERIOD_S` once `start`
    was called."""

    def __init__(self, recipes: Path, changeovers: Path, log: logging.Logger) -> None:
        self._recipes, self._log = recipes, log
        self._request = changeovers / REQUEST_FILE
        self.set_request: SetDocument | None = None
        """The set of recipes that was asked for last."""
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
            with self._logging(name):
                if (found := read_in_force(self._recipes / name)) is not None:
                    self._found[name] = found
        with self._logging(self._request.name):
            self.set_request = read_set(self._request)

    @contextlib.contextmanager
    def _logging(self, name: str) -> Iterator[None]:
        """Logs an expected error in the block once, until the block succeeds again."""
        try:
            yield
        except LineMonitorError as error:
            if self._problems.get(name) != str(error):
                self._problems[name] = str(error)
                self._log.error("%s", error)
        else:
            self._problems.pop(name, None)

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            self.look()
            pause.wait(PERIOD_S)
