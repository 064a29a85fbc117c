"""Logs a lasting trouble with one line when it begins and one line when it ends.

It knows nothing of what the trouble is.
"""

from __future__ import annotations

import logging


class TroubleLog:
    """The present trouble of one thing, in words, and its log lines. For one thread that reports."""

    def __init__(
        self,
        log: logging.Logger,
        *,
        began: str = "%s",
        ended: str,
        level: int = logging.ERROR,
        log_changes: bool = True,
    ) -> None:
        """`began` is a log format with one `%s` for the trouble, `ended` the line at its end (level INFO).
        With `log_changes` a trouble that turns into another one is logged again at `level`."""
        self._log, self._began, self._ended = log, began, ended
        self._level, self._log_changes = level, log_changes
        self._trouble = ""

    @property
    def trouble(self) -> str:
        """The trouble as reported last; empty when there is none."""
        return self._trouble

    def report(self, trouble: str) -> bool:
        """Takes the present trouble, empty for none. Returns whether it differs from the last report."""
        before, self._trouble = self._trouble, trouble
        if trouble == before:
            return False
        if not trouble:
            self._log.info("%s", self._ended)
        elif not before or self._log_changes:
            self._log.log(self._level, self._began, trouble)
        return True
