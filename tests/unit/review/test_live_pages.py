"""The pages with the line's status say since when they count, which camera is lost, what was not judged."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from monitor.line_state.board import Board, CameraState, Field
from monitor.line_state.ring import FinalVerdict, Ring
from monitor.line_state.worker_process import capture_name, worker_names
from monitor.review.application import build
from monitor.settings import Settings
from monitor.verdict import Reason, Verdict

LOCAL = {"Host": "localhost"}


def test_what_is_counted_since_the_start_is_not_called_the_days(
    tmp_path: Path, put_frame: Callable[[int, int], None], settings: Settings
) -> None:
    Board.create(tmp_path / "board", worker_names(settings))
    for number in range(1, 4):
        put_frame(number, 7)
    page = build(settings, tmp_path).wsgi.test_client()
    for path in ("/today", "/live"):
        text = page.get(path, headers=LOCAL).get_data(as_text=True)
        heads = re.findall(r'<th class="group" colspan="4">([^<]*)</th>', text)
        assert heads == ["Since the service was started"]
        _, _, counted = text.partition(heads[0])
        assert re.findall(r'<td class="number">(\d+)</td>', counted)[0] == "3"


def test_a_lost_camera_and_an_uninspected_part_stand_over_and_under_the_picture(
    tmp_path: Path, ring: Ring, put_frame: Callable[[int, int], None], settings: Settings
) -> None:
    Board.create(tmp_path / "board", worker_names(settings))
    board = Board(tmp_path / "board", worker_names(settings))
    put_frame(1, 7)
    ring.write_closed(1, FinalVerdict(Verdict.UNINSPECTED, Reason.DEADLINE, False, False, 1, 1))
    board.write(capture_name("top"), Field.CAMERA_STATE, CameraState.LOST)
    board.write_trouble(capture_name("top"), "no stream")
    page = build(settings, tmp_path).wsgi.test_client()
    for path in ("/live", "/live/status"):
        text = re.sub(r"\s+", " ", page.get(path, headers=LOCAL).get_data(as_text=True))
        assert '<div id="over-top" class="camera-over lost"> <p><b>Camera lost</b><br>no stream<br>' in text
        assert 'class="camera-verdict uninspected"> <b>Not judged</b> there was no time left' in text
    board.close()
