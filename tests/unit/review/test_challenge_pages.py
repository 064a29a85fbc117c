"""The page leads through the challenge by one step at a time, and a failure lists what is in doubt."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

from monitor.line_state import challenge_board, challenge_request
from monitor.line_state.board import Board, CameraState, Field, WorkerState
from monitor.line_state.challenge_request import Act
from monitor.line_state.challenge_run import (
    Attempt,
    CameraMark,
    Cause,
    ChallengeState,
    Failure,
    Hold,
    Phase,
    Success,
)
from monitor.line_state.worker_process import PUBLISH, SCORING, capture_name, worker_names
from monitor.review.application import build
from monitor.review.event_stream import STATE_AGE_S
from monitor.settings import ChallengeSettings, Settings

LOCAL = {"Host": "localhost"}
WEST = "Etc/GMT+12"
"""12 hours behind UTC."""
NOW_NS = 1_795_000_000_000_000_000


@pytest.fixture
def challenged(settings: Settings) -> Settings:
    known = {"camera": "top", "verified_by": "J. Smith", "verified": "2026-11-01", "expires": "2126-01-31"}
    parts = [
        {"id": "good-1", "expected": "pass", **known},
        {"id": "bad-1", "expected": "reject", "description": "scratch of 2 mm", **known},
    ]
    settings.line.data.mkdir()
    rules = ChallengeSettings.model_validate({"part": parts})
    zoned = settings.review.model_copy(update={"time_zone": "Europe/Berlin"})
    return settings.model_copy(update={"challenge": rules, "review": zoned})


@pytest.fixture
def board(tmp_path: Path, settings: Settings) -> Iterator[Board]:
    Board.create(tmp_path / "board", worker_names(settings))
    opened = Board(tmp_path / "board", worker_names(settings))
    opened.write(PUBLISH, Field.CHALLENGE_HOLD, 1)
    for name in (SCORING, capture_name("top")):
        opened.write(name, Field.EVER_RAN, 1)
        opened.write(name, Field.STATE, WorkerState.RUNNING)
        opened.write(name, Field.ALIVE_UNTIL_NS, time.monotonic_ns() + 60_000_000_000)
    opened.write(capture_name("top"), Field.CAMERA_STATE, CameraState.UP)
    yield opened
    opened.close()


def put(settings: Settings, board: Board, state: ChallengeState) -> None:
    (settings.line.data / "challenge.json").write_bytes(msgspec.json.encode(state))
    challenge_board.write_state(board, state)


def attempt(part: str, wrong: str | None = None) -> Attempt:
    return Attempt(
        part=part,
        camera="top",
        expected="reject",
        verdict="pass",
        reason=None,
        frame=12,
        captured_utc="2026-11-30T10:00:00.000Z",
        snapshot=None,
        by="anna",
        wrong=wrong,
    )


def test_a_step_names_part_camera_and_verdict_and_is_done_once_in_a_name(
    tmp_path: Path, challenged: Settings, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.review.publisher_request.PATIENCE_S", 0.1)
    due = ChallengeState(sequence=5, phase=Phase.DUE, place=1, attempts=(attempt("good-1"),))
    put(challenged, board, due)
    page = build(challenged, tmp_path, board).wsgi.test_client()
    text = page.get("/challenge", headers=LOCAL).get_data(as_text=True)
    assert "Challenge due" in text
    assert "Step 2 of 2" in text
    assert "Next: part bad-1" in text
    assert "<b>reject</b>" in text
    assert "scratch of 2 mm" in text
    found = re.findall(r'name="(token|seen|act|part)" value="([\w-]+)"', text)
    form = {**dict(found), "by": "anna"}
    assert (form["seen"], form["act"], form["part"]) == ("5", "arm", "bad-1")
    for wrong, status in (
        ({"by": ""}, 400),
        ({"seen": "4"}, 409),
        ({"part": "good-1"}, 409),
        ({"act": "x"}, 400),
    ):
        assert page.post("/challenge", data={**form, **wrong}, headers=LOCAL).status_code == status
    assert challenge_request.take(board, time.monotonic_ns()) is None
    # Nobody takes the request here: the page says so.
    assert page.post("/challenge", data=form, headers=LOCAL).status_code == 503
    request = challenge_request.take(board, time.monotonic_ns())
    assert request is not None
    assert (request.act, request.part, request.by) == (Act.ARM, "bad-1", "anna")


def test_the_page_goes_on_while_the_disk_is_behind(
    tmp_path: Path, challenged: Settings, board: Board
) -> None:
    wrong = attempt("bad-1", "it got pass, not reject")
    put(challenged, board, ChallengeState(sequence=5, due_utc="d", attempts=(attempt("good-1"),)))
    now = ChallengeState(sequence=7, due_utc="d", place=1, attempts=(wrong,))
    challenge_board.write_state(board, now)
    page = build(challenged, tmp_path, board).wsgi.test_client()
    text = page.get("/challenge", headers=LOCAL).get_data(as_text=True)
    assert "Once more: part bad-1" in text
    assert 'name="seen" value="7"' in text
    assert "<td>good-1</td>" in text
    success = Success(utc="2026-11-30T06:00:00.000Z", utc_ns=NOW_NS, by="otto", parts=(), marks=())
    failure = Failure(utc="2026-11-30T10:00:00.000Z", marks=(), part="bad-1", wrong="w", since=None)
    put(challenged, board, ChallengeState(sequence=5, success=success))
    failed = ChallengeState(
        sequence=7, phase=Phase.FAILED, attempts=(wrong,), success=success, failure=failure
    )
    challenge_board.write_state(board, failed)
    text = page.get("/challenge", headers=LOCAL).get_data(as_text=True)
    assert "has failed" in text
    assert "also those that are not listed here" in text


def test_a_disk_that_hangs_holds_up_one_page_and_no_other(
    tmp_path: Path, challenged: Settings, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(challenged, board, ChallengeState(sequence=5))
    wsgi = build(challenged, tmp_path, board).wsgi
    hangs, goes_on = threading.Event(), threading.Event()

    def hang(file: Path) -> None:
        hangs.set()
        goes_on.wait(10)

    monkeypatch.setattr("monitor.review.challenge_pages.read_challenge", hang)
    held = threading.Thread(target=lambda: wsgi.test_client().get("/challenge", headers=LOCAL))
    held.start()
    assert hangs.wait(10)
    text = wsgi.test_client().get("/challenge", headers=LOCAL).get_data(as_text=True)
    assert "Next: part good-1" in text
    goes_on.set()
    held.join()


def test_a_challenge_that_is_not_due_is_asked_for_twice(
    tmp_path: Path, challenged: Settings, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.review.publisher_request.PATIENCE_S", 0.1)
    success = Success(utc="2026-11-30T06:00:00.000Z", utc_ns=NOW_NS, by="otto", parts=(), marks=())
    put(challenged, board, ChallengeState(sequence=5, phase=Phase.PASSED, success=success))
    page = build(challenged, tmp_path, board).wsgi.test_client()
    text, form = page.get("/challenge", headers=LOCAL).get_data(as_text=True), {"by": "anna"}
    form |= dict(re.findall(r'name="(token|seen|act)" value="([\w-]+)"', text))
    text = page.post("/challenge", data=form, headers=LOCAL).get_data(as_text=True)
    assert challenge_request.take(board, time.monotonic_ns()) is None
    form = dict(re.findall(r'name="(token|seen|act|by|sure)" value="([\w-]+)"', text))
    assert form["sure"] == "1"
    page.post("/challenge", data=form, headers=LOCAL)
    request = challenge_request.take(board, time.monotonic_ns())
    assert request is not None
    assert (request.act, request.by) == (Act.BEGIN, "anna")
    # A failure that followed would be lost with the power.
    (challenged.line.data / "challenge.json").unlink()
    assert page.post("/challenge", data=form, headers=LOCAL).status_code == 409


def test_a_begun_challenge_cant_be_begun_again(tmp_path: Path, challenged: Settings, board: Board) -> None:
    put(challenged, board, ChallengeState(sequence=5, place=1))
    page = build(challenged, tmp_path, board).wsgi.test_client()
    text = page.get("/challenge", headers=LOCAL).get_data(as_text=True)
    token = re.findall(r'name="token" value="([\w-]+)"', text)[0]
    form = {"token": token, "seen": "5", "act": "begin", "by": "mallory"}
    assert page.post("/challenge", data=form, headers=LOCAL).status_code == 409


def test_an_expired_part_has_no_button_but_the_reason(
    tmp_path: Path, challenged: Settings, board: Board
) -> None:
    old = challenged.challenge.part[0].model_copy(update={"expires": challenged.challenge.part[0].verified})
    rules = challenged.challenge.model_copy(update={"part": (old, challenged.challenge.part[1])})
    expired = challenged.model_copy(update={"challenge": rules})
    put(expired, board, ChallengeState(sequence=1))
    page = build(expired, tmp_path, board).wsgi.test_client()
    text = page.get("/challenge", headers=LOCAL).get_data(as_text=True)
    assert "challenge part good-1 has expired" in text
    assert 'id="arm"' not in text


@pytest.mark.parametrize(("zone", "is_expired"), [(WEST, False), ("Etc/GMT-14", True)])
def test_a_part_may_be_used_until_its_day_ends_at_the_plant(
    zone: str, is_expired: bool, tmp_path: Path, challenged: Settings, board: Board
) -> None:
    # The day in the east is always a later one, and the day of UTC is one of both.
    today = datetime.now(ZoneInfo(WEST)).date()
    parts = tuple(part.model_copy(update={"expires": today}) for part in challenged.challenge.part)
    rules = challenged.challenge.model_copy(update={"part": parts})
    review = challenged.review.model_copy(update={"time_zone": zone})
    plant = challenged.model_copy(update={"challenge": rules, "review": review})
    put(plant, board, ChallengeState(sequence=1))
    text = (
        build(plant, tmp_path, board)
        .wsgi.test_client()
        .get("/challenge", headers=LOCAL)
        .get_data(as_text=True)
    )
    assert ("have expired" in text) is is_expired


def test_a_failure_lists_the_parts_since_the_last_success(
    tmp_path: Path, challenged: Settings, board: Board
) -> None:
    success = Success(
        utc="2026-11-30T06:00:00.000Z",
        utc_ns=NOW_NS,
        by="otto",
        parts=(),
        marks=(CameraMark("top", "s-1", 10, 8, 0, 0),),
    )
    failure = Failure(
        utc="2026-11-30T10:00:00.000Z",
        marks=(CameraMark("top", "s-1", 500, 450, 6, 2),),
        part="bad-1",
        wrong="it got pass, not reject",
        since=success,
    )
    wrong = attempt("bad-1", "it got pass, not reject")
    failed = ChallengeState(
        sequence=9,
        phase=Phase.FAILED,
        cause=Cause.CLOCK,
        attempts=(wrong, wrong),
        success=success,
        failure=failure,
    )
    put(challenged, board, failed)
    page = build(challenged, tmp_path, board).wsgi.test_client()
    text = page.get("/challenge", headers=LOCAL).get_data(as_text=True)
    board.write(PUBLISH, Field.CHALLENGE_HOLD, Hold.FAILED)
    time.sleep(STATE_AGE_S)
    assert "Challenge failed" in page.get("/state", headers=LOCAL).get_data(as_text=True)
    assert "The challenge has failed" in text
    # What to do with the parts is said first, and the button comes after the lists.
    hold = "Hold the 442 parts that passed since 2026-11-30 07:00:00 CET"
    words = (
        hold,
        "none may leave before quality has decided",
        "failed twice; the last time it got pass",
        "11 to 500",
    )
    places = [text.index(found) for found in (*words, 'name="act" value="begin"')]
    assert places == sorted(places)
    assert "Take it off the line" in text
    assert "s-1" not in text
    # A part that passes two cameras is not counted as two parts.
    side = CameraMark("side", "s-1", 440, 430, 6, 2)
    more = msgspec.structs.replace(failure, marks=(*failure.marks, side))
    put(challenged, board, msgspec.structs.replace(failed, sequence=10, failure=more))
    text = page.get("/challenge", headers=LOCAL).get_data(as_text=True)
    assert "Hold the parts that passed since" in text
    assert "(442 under camera top, 430 under camera side)" in text
    # A later success does not hide which parts were in doubt.
    put(challenged, board, msgspec.structs.replace(failed, sequence=11, phase=Phase.PASSED))
    text = page.get("/challenge", headers=LOCAL).get_data(as_text=True)
    assert "The last failure" in text
    assert "11 to 500" in text


def test_a_failure_without_a_known_success_or_journal_holds_every_part(
    tmp_path: Path, challenged: Settings, board: Board
) -> None:
    marks = (CameraMark("top", "s-1", 500, 450, 6, 2),)
    failure = Failure(
        utc="2026-11-30T10:00:00.000Z", marks=marks, part="bad-1", wrong="it got pass", since=None
    )
    wrong = attempt("bad-1", "it got pass")
    failed = ChallengeState(sequence=2, phase=Phase.FAILED, attempts=(wrong, wrong), failure=failure)
    put(challenged, board, failed)
    page = build(challenged, tmp_path, board).wsgi.test_client()
    text = page.get("/challenge", headers=LOCAL).get_data(as_text=True)
    assert "Hold every part that passed before 2026-11-30 11:00:00 CET" in text
    assert "also those that are not listed here" in text


@pytest.mark.parametrize(("verdict", "says"), [("pass", True), ("uninspected", False)])
def test_a_bad_part_that_passed_is_got_back_before_it_is_shown_once_more(
    verdict: str, says: bool, tmp_path: Path, challenged: Settings, board: Board
) -> None:
    wrong = msgspec.structs.replace(attempt("bad-1", f"it got {verdict}, not reject"), verdict=verdict)
    put(challenged, board, ChallengeState(sequence=3, place=1, by="otto", attempts=(wrong,)))
    page = build(challenged, tmp_path, board).wsgi.test_client()
    text = page.get("/challenge", headers=LOCAL).get_data(as_text=True)
    assert ("Get part bad-1 back first: it went on as good" in text) is says
    # The name is that of the person who is here now.
    assert "otto" not in text


def test_a_line_without_challenge_parts_shows_no_challenge(tmp_path: Path, settings: Settings) -> None:
    page = build(settings, tmp_path).wsgi.test_client()
    assert 'href="/challenge"' not in page.get("/", headers=LOCAL).get_data(as_text=True)
    assert "No challenge parts" in page.get("/challenge", headers=LOCAL).get_data(as_text=True)
