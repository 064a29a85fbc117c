"""The parts for which the line is latched are named: the first ones, each once, on the board and on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.line_state.board import Board
from monitor.line_state.latch_file import Latch, read_latch_and_parts, write_latch
from monitor.line_state.latched_parts import (
    MOST,
    NO_PARTS,
    LatchedPart,
    LatchedParts,
    read_parts,
    write_parts,
)
from monitor.line_state.worker_process import PUBLISH
from monitor.settings import ReviewSettings

TOP = LatchedPart("top", 7, "2026-11-23T18:00:00.123Z", "2026-11-23/top/180000123_top_7_1.5.jpg")


def test_a_part_is_named_by_camera_time_and_picture() -> None:
    assert TOP.describe() == (
        "camera top, frame 7, captured 2026-11-23T18:00:00.123Z, "
        "snapshots/2026-11-23/top/180000123_top_7_1.5.jpg"
    )
    assert LatchedPart("top", 7, "2026-11-23T18:00:00.123Z").describe().endswith(", no picture")


def test_a_part_with_a_picture_has_a_link_to_the_page() -> None:
    link = "https://line-pc.example/part/2026-11-23/top/180000123_top_7_1.5"
    parts = NO_PARTS.add(TOP).add(LatchedPart("top", 8, "2026-11-23T18:00:00.200Z"))
    payload = parts.payload("https://line-pc.example")
    assert [part["link"] for part in payload["parts"]] == [link, None]  # type: ignore[attr-defined]
    assert TOP.describe("https://line-pc.example").endswith(f"Z, {link}")
    assert TOP.link(None) is None


@pytest.mark.parametrize(
    ("review", "address"),
    [
        ({}, "http://127.0.0.1:8080"),
        ({"host": "::1", "port": 80}, "http://[::1]:80"),
        ({"host": "0.0.0.0"}, None),
        ({"port": 0}, None),
        ({"public_url": "https://line-pc.example/line1/"}, "https://line-pc.example/line1"),
        ({"host": "0.0.0.0", "public_url": "https://line-pc.example"}, "https://line-pc.example"),
        ({"port": 0, "public_url": "https://line-pc.example"}, None),
    ],
)
def test_links_lead_to_where_the_page_is_served(review: dict[str, object], address: str | None) -> None:
    assert ReviewSettings(**review).address == address  # type: ignore[arg-type]


def test_the_first_parts_are_named_each_once_and_that_there_are_more() -> None:
    parts = NO_PARTS
    for number in range(MOST + 3):
        for _ in range(2 if number < MOST else 1):
            parts = parts.add(LatchedPart("top", number, "2026-11-23T18:00:00.123Z"))
        assert (parts.more, parts.count) == (number >= MOST, number + 1)
    assert [part.frame for part in parts.parts] == list(range(MOST))
    assert parts.describe().endswith("no picture; 3 more in the journal")


def test_parts_that_were_only_counted_are_neither_counted_twice_nor_guessed() -> None:
    older = NO_PARTS.add(TOP)
    newer = older.add(LatchedPart("top", 8, "2026-11-23T18:00:00.200Z")).add_unnamed(4)
    assert older.merge(newer) == newer.merge(older) == newer
    # An earlier version did not count them.
    assert LatchedParts((TOP,), more=True).add_unnamed(2).count is None


def test_the_most_parts_with_the_longest_names_fit_on_the_board(tmp_path: Path) -> None:
    Board.create(tmp_path / "board", (PUBLISH,))
    board = Board(tmp_path / "board", (PUBLISH,))
    assert read_parts(board) == NO_PARTS
    camera, parts = "x" * 32, NO_PARTS
    for number in range(MOST + 1):
        frame = 10**15 + number
        picture = f"2026-11-23/{camera}/180000123_{camera}_{frame}_1.234e-05.jpg"
        parts = parts.add(LatchedPart(camera, frame, "2026-11-23T18:00:00.123Z", picture))
    write_parts(board, parts)
    assert read_parts(board) == parts
    board.close()


def test_the_parts_are_on_disk_with_the_latch_and_an_earlier_versions_file_names_none(tmp_path: Path) -> None:
    file = tmp_path / "latch.json"
    write_latch(file, Latch.MISSED_REJECT, 0, NO_PARTS.add(TOP))
    assert read_latch_and_parts(file) == (Latch.MISSED_REJECT, NO_PARTS.add(TOP))
    file.write_text('{"schema": 1, "latch": "uninspected", "utc": "2026-11-23T18:00:00.123Z"}')
    assert read_latch_and_parts(file) == (Latch.UNINSPECTED, NO_PARTS)
