"""Too many rejects in a row, or too large a share of rejects, latches the line."""

from __future__ import annotations

from pathlib import Path

from monitor.line_state.board import Field
from monitor.line_state.latch_file import Latch
from monitor.line_state.worker_process import PUBLISH
from tests.unit.publish.scene import Scene


def test_too_many_rejects_in_a_row_latch(tmp_path: Path) -> None:
    scene = Scene(tmp_path, stop_after_rejects=3)
    assert scene.judge_parts("rrprr") == Latch.NONE
    assert scene.judge_parts("prurur") == Latch.REJECT_RUN, "an uninspected part does not count"
    assert scene.status() == (False, "reject_run")
    scene.reset()
    assert scene.judge_parts("rr") == Latch.NONE, "rejects before the reset no longer count"
    assert scene.judge_parts("r") == Latch.REJECT_RUN
    scene.reset()
    assert scene.judge_parts("reere") == Latch.NONE
    assert scene.judge_parts("er") == Latch.REJECT_RUN, "a frame without a part does not count"
    scene.end()


def test_too_large_a_share_of_rejects_latches(tmp_path: Path) -> None:
    scene = Scene(tmp_path, stop_reject_rate=0.3, stop_reject_window=10)
    assert scene.judge_parts("rprprppppp" + "rprprppppp") == Latch.NONE
    assert scene.judge_parts("r") == Latch.NONE, "the oldest reject has left the window"
    assert scene.judge_parts("r") == Latch.REJECT_RATE
    assert scene.status() == (False, "reject_rate")
    scene.end()


def test_rejects_in_a_row_are_counted_over_the_publishers_death(tmp_path: Path) -> None:
    scene = Scene(tmp_path, stop_after_rejects=4)
    scene.judge_parts("rrrr")
    scene.reset()
    scene.judge_parts("rreere")
    scene.board.write(PUBLISH, Field.EVER_RAN, 1)
    scene.end()
    scene.publisher, scene.link = scene.start()
    assert scene.latch() == Latch.NONE
    assert scene.judge_parts("r") == Latch.REJECT_RUN
    scene.end()
