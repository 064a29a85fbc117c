"""A missed reject stands on every page with camera, time and picture; a reset covers only what was seen."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from monitor.line_state import reset_request
from monitor.line_state.board import Board, Field
from monitor.line_state.latch_file import Latch
from monitor.line_state.latched_parts import LatchedPart, LatchedParts, write_parts
from monitor.line_state.worker_process import PUBLISH, worker_names
from monitor.review.application import build
from monitor.review.event_stream import STATE_AGE_S
from monitor.settings import ReviewSettings, Settings

LOCAL = {"Host": "localhost"}
FIRST = LatchedPart("top", 7, "2026-11-23T18:00:00.123Z", "2026-11-23/top/180000123_top_7_1.5e-05.jpg")
SECOND = LatchedPart("top", 9, "2026-11-23T18:00:01.000Z")


@pytest.fixture
def board(tmp_path: Path, settings: Settings) -> Iterator[Board]:
    Board.create(tmp_path / "board", worker_names(settings))
    opened = Board(tmp_path / "board", worker_names(settings))
    yield opened
    opened.close()


@pytest.fixture
def zoned(settings: Settings) -> Settings:
    return settings.model_copy(update={"review": ReviewSettings(time_zone="Europe/Berlin")})


def latch(board: Board, *parts: LatchedPart, beyond: int = 0) -> None:
    write_parts(board, LatchedParts(parts, beyond > 0, beyond))
    board.write(PUBLISH, Field.LATCH, Latch.MISSED_REJECT)


def values(page: FlaskClient) -> dict[str, str]:
    text = page.get("/reset", headers=LOCAL).get_data(as_text=True)
    return {name: value for name, value in re.findall(r'name="(token|seen)" value="(\w+)"', text)}


def test_a_missed_reject_is_on_every_page_with_its_camera_its_time_and_its_picture(
    tmp_path: Path, board: Board, zoned: Settings
) -> None:
    built = build(zoned, tmp_path)
    page = built.wsgi.test_client()
    assert "Reject missed" not in page.get("/live", headers=LOCAL).get_data(as_text=True)
    latch(board, FIRST, SECOND, beyond=11)
    time.sleep(STATE_AGE_S)
    # The bar asks for no picture that is not written yet.
    assert "thumbnail" not in page.get("/state", headers=LOCAL).get_data(as_text=True)
    picture = zoned.line.data / "snapshots" / str(FIRST.snapshot)
    picture.parent.mkdir(parents=True)
    picture.touch()
    built.index.step()
    for path in ("/", "/live", "/today", "/help", "/state"):
        text = re.sub(r"\s+", " ", page.get(path, headers=LOCAL).get_data(as_text=True))
        assert "Reject missed" in text
        assert "camera <b>top</b>, 2026-11-23 19:00:00 CET" in text
        assert 'href="/part/2026-11-23/top/180000123_top_7_1.5e-05"' in text
        assert 'src="/part/2026-11-23/top/180000123_top_7_1.5e-05/thumbnail.jpg"' in text
        assert 'href="/reset"' in text
        assert "13 rejects were missed. Look for these 13 parts" in text
        assert 'href="/today?day=2026-11-23#missed">and 11 more: Today lists them' in text
    text = page.get("/reset", headers=LOCAL).get_data(as_text=True)
    assert "no picture" in text
    # There is no journal here: what is not listed is counted before the button, and needs no shell.
    assert "2 of 13 parts are listed here" in text
    assert "<code>" not in text


def test_a_reset_is_asked_for_in_a_name_and_never_covers_what_was_not_seen(
    tmp_path: Path, board: Board, settings: Settings
) -> None:
    page = build(settings, tmp_path, board).wsgi.test_client()
    latch(board, FIRST)
    seen = values(page)
    assert page.post("/reset", data=seen, headers=LOCAL).status_code == 400
    latch(board, FIRST, beyond=1)
    text = page.get("/reset", headers=LOCAL).get_data(as_text=True)
    assert "All 2 parts are found: reset the line" in text
    refused = page.post("/reset", data={**seen, "by": "anna"}, headers=LOCAL)
    assert (refused.status_code, reset_request.take(board)) == (409, None)
    # Nobody takes the request here: the page says so, and the publisher finds it when it is back.
    answer = page.post("/reset", data={**values(page), "by": "anna"}, headers=LOCAL)
    assert answer.status_code == 503
    assert reset_request.take(board) == "anna"


def test_a_page_without_the_line_resets_nothing(tmp_path: Path, board: Board, settings: Settings) -> None:
    latch(board, FIRST)
    page = build(settings, tmp_path).wsgi.test_client()
    assert "can't reset the line" in page.get("/reset", headers=LOCAL).get_data(as_text=True)
    assert page.post("/reset", data={"by": "anna", "token": "x"}, headers=LOCAL).status_code in (403, 409)
    assert reset_request.take(board) is None
