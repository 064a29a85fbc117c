"""The pages with the line's status say since when they count."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from monitor.line_state.board import Board
from monitor.line_state.worker_process import worker_names
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
