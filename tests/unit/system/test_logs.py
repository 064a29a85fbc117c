"""The log: one line per event, with its level for journald, and a limit for repeated messages."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from monitor.system.logs import RateLimit, format_line, is_journal

PROGRAM = """
import logging, os, sys
status = os.fstat(2)
if sys.argv[1] == "journal":
    os.environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
from monitor.system import logs
logs.configure()
log = logging.getLogger("scoring")
log.info("up")
log.warning("camera top: %s", "two\\nlines")
log.error("broken")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("a fault")
raise RuntimeError("not expected")
"""


def logged(where: str) -> list[str]:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, where], capture_output=True, text=True, check=False, timeout=30
    )
    assert result.returncode == 1
    return result.stderr.splitlines()


def test_journald_gets_one_line_an_event_with_its_level() -> None:
    lines = logged("journal")
    assert lines[:3] == [
        "<6>INFO scoring: up",
        "<4>WARNING scoring: camera top: two | lines",
        "<3>ERROR scoring: broken",
    ]
    assert len(lines) == 5
    assert lines[3].startswith("<3>ERROR scoring: a fault | Traceback")
    assert lines[3].endswith("ZeroDivisionError: division by zero")
    assert lines[4].startswith("<2>CRITICAL line-monitor: ended by a fault | ")
    assert lines[4].endswith("RuntimeError: not expected")


def test_people_get_a_time_and_no_level_numbers() -> None:
    lines = logged("terminal")
    assert not any(line.startswith("<") for line in lines)
    first = next(line for line in lines if line.endswith(" INFO scoring: up"))
    assert first[:8].count(":") == 2
    assert "RuntimeError: not expected" in lines, "on a terminal a traceback keeps its lines"


def test_a_pipe_beside_the_journal_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that a service starts with another output inherits $JOURNAL_STREAM."""
    with (tmp_path / "other").open("wb") as other, (tmp_path / "journal").open("wb") as journal:
        status = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert is_journal(journal.fileno())
        assert not is_journal(other.fileno())
        monkeypatch.delenv("JOURNAL_STREAM")
        assert not is_journal(journal.fileno())


def test_a_message_that_repeats_is_held_back_and_counted() -> None:
    now = [0]
    limit = RateLimit(lambda: now[0])

    def passed(text: str) -> str | None:
        record = logging.LogRecord("capture-top", logging.WARNING, "", 0, text, None, None)
        return format_line(record, for_journal=False).decode() if limit.filter(record) else None

    assert sum(passed("no slot") is not None for _ in range(1000)) == 5
    assert passed("something else") == "something else\n"
    now[0] += 61_000_000_000
    assert passed("no slot") == "no slot (995 more like this in the last minute)\n"


def test_messages_that_differ_in_a_part_s_details_are_held_back_as_one() -> None:
    limit = RateLimit(lambda: 0)

    def passes(frame: int, repeats: str) -> bool:
        record = logging.LogRecord("publish", logging.ERROR, "", 0, "missed frame %d", (frame,), None)
        record.repeats = repeats
        return bool(limit.filter(record))

    assert [passes(frame, "top") for frame in range(7)] == [True] * 5 + [False] * 2
    assert passes(8, "side")


def test_lines_are_written_before_a_process_ends_without_its_clean_up() -> None:
    program = (
        "import logging, os; from monitor.system import logs; logs.configure(); "
        "[logging.getLogger('scoring').info('line %d', i) for i in range(50)]; logs.wait(); os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, check=True)
    assert len(done.stderr.splitlines()) == 50
