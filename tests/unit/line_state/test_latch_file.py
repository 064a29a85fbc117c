"""The latch on disk: it counts as written only once the file holds the newest one."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pytest

from monitor.line_state.latch_file import Latch, LatchFile, read_latch, write_latch


def test_a_latch_lifted_during_its_writing_is_not_taken_for_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, began, may_end = tmp_path / "latch.json", threading.Event(), threading.Event()

    def slow_disk(*args: object) -> None:
        began.set()
        assert may_end.wait(10)
        write_latch(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("monitor.line_state.latch_file.write_latch", slow_disk)
    latch_file = LatchFile(file, logging.getLogger(__name__))
    latch_file.put(Latch.NONE)
    until = time.monotonic() + 10
    while not latch_file.is_written:
        assert time.monotonic() < until
        time.sleep(0.001)
    latch_file.put(Latch.MISSED_REJECT)
    assert began.wait(10)
    latch_file.put(Latch.NONE)
    assert not latch_file.is_written
    may_end.set()
    assert latch_file.close(10)
    assert read_latch(file) is Latch.NONE
