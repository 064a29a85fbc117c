"""The pages with the line's status say since when they count, and which parts a person must look for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from monitor.line_state.board import Board, Field
from monitor.line_state.latch_file import Latch
from monitor.line_state.latched_parts import LatchedPart, LatchedParts, write_parts
from monitor.line_state.worker_process import PUBLISH, worker_names
from monitor.review.application import build
from monitor.settings import Settings


def test_what_is_counted_since_the_start_is_not_called_the_days(
    tmp_path: Path, put_frame: Callable[[int, int], None], settings: Settings
) -> None:
    Board.create(tmp_path / "board", worker_names(settings))
    for number in range(1, 4):
        put_frame(number, 7)
    page = build(settings, tmp_path).wsgi.test_client()
    for path in ("/today", "/live"):
        text = page.get(path, headers={"Host": "localhost"}).get_data(as_text=True)
        heads = re.findall(r'<th class="group" colspan="4">([^<]*)</th>', text)
        assert heads == ["Since the service was started"]
        _, _, counted = text.partition(heads[0])
        assert re.findall(r'<td class="number">(\d+)</td>', counted)[0] == "3"
    today = page.get("/today", headers={"Host": "localhost"}).get_data(as_text=True)
    assert "Passed and uninspected parts are not counted by day" in today.partition(heads[0])[0]


def test_a_missed_reject_is_shown_with_its_camera_its_time_and_a_link_to_its_picture(
    tmp_path: Path, settings: Settings
) -> None:
    Board.create(tmp_path / "board", worker_names(settings))
    board = Board(tmp_path / "board", worker_names(settings))
    page = build(settings, tmp_path).wsgi.test_client()
    picture = LatchedPart("top", 7, "2026-11-23T18:00:00.123Z", "2026-11-23/top/180000123_top_7_1.5e-05.jpg")
    write_parts(board, LatchedParts((picture, LatchedPart("top", 9, "2026-11-23T18:00:01.000Z")), more=True))
    assert "frame 7" not in page.get("/live", headers={"Host": "localhost"}).get_data(as_text=True)
    board.write(PUBLISH, Field.LATCH, Latch.MISSED_REJECT)
    for path in ("/live", "/today"):
        text = page.get(path, headers={"Host": "localhost"}).get_data(as_text=True)
        told = re.sub(r"\s+", " ", text.partition("look for the part")[2])
        assert "camera <b>top</b>, 2026-11-23 18:00:00.123 UTC, frame 7: <a href=" in told
        assert 'href="/part/2026-11-23/top/180000123_top_7_1.5e-05">picture</a>' in told
        assert "18:00:01.000 UTC, frame 9: no picture" in told
        assert "and more: <code>line-monitor journal</code>" in told
    board.close()
