"""The newest value is written, also after failures; one that was replaced in time is skipped."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from monitor.system.latest_write import LatestWrite


def test_a_value_that_is_replaced_while_the_disk_hangs_is_skipped(tmp_path: Path) -> None:
    written, began, may_go_on = [], threading.Event(), threading.Event()

    def write(value: int) -> None:
        began.set()
        may_go_on.wait(5)
        written.append(value)

    writer = LatestWrite(tmp_path / "file", "numbers", write, "it is lost", logging.getLogger("writer"))
    writer.put(1)
    assert began.wait(5)
    for value in (2, 3):
        writer.put(value)
    assert not writer.is_written
    may_go_on.set()
    assert writer.close(5)
    assert written == [1, 3]


def test_a_write_that_fails_is_told_in_one_line_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.system.latest_write._RETRY_S", 0.01)
    fails, done = [True, True], threading.Event()

    def write(value: int) -> None:
        if fails:
            fails.pop()
            raise OSError(28, "No space left on device")
        done.set()

    writer = LatestWrite(tmp_path / "file", "numbers", write, "it is lost", logging.getLogger("writer"))
    writer.put(1)
    assert done.wait(5)
    assert writer.close(5)
    told = [line for line in caplog.messages if "No space left" in line]
    assert told == [f"{tmp_path}/file: No space left on device: it is lost"]
