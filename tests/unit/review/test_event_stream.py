"""Open pages hear of a change within a second, by streams that are bounded in number and time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask
from pydantic import SecretStr

from monitor.line_state.board import Board
from monitor.line_state.ring import FinalVerdict, Ring, ScorerVerdict
from monitor.line_state.worker_process import worker_names
from monitor.review.access import hash_password
from monitor.review.application import Application, build
from monitor.review.event_stream import LIFETIME_S, MOST_STREAMS, PICTURE_WAIT_S, EventStream
from monitor.review.line_view import LineView
from monitor.review.shifts import PlantClock
from monitor.review.snapshot_files import SnapshotFiles
from monitor.review.snapshot_index import SnapshotIndex
from monitor.settings import Settings
from monitor.verdict import Reason, Verdict
from tests.real.snapshot_set import write_snapshot

LOCAL = {"Host": "localhost"}


@pytest.fixture
def application(tmp_path: Path, settings: Settings) -> Iterator[Application]:
    Board.create(tmp_path / "board", worker_names(settings))
    built = build(settings, tmp_path)
    yield built
    built.events.stop()


def read_until(stream: Iterator[bytes], wanted: str, most: int = 30) -> str:
    text = ""
    for _, chunk in zip(range(most), stream, strict=False):
        text += chunk.decode()
        if wanted in text:
            return text
    raise AssertionError(f"no {wanted!r} in {text}")


def test_a_reject_is_told_before_its_picture_is_there(
    ring: Ring, put_frame: Callable[[int, int], None], application: Application
) -> None:
    answer = application.wsgi.test_client().get("/events", headers=LOCAL)
    stream = answer.iter_encoded()
    read_until(stream, "No reject yet")
    put_frame(1, 7)
    ring.write_closed(1, FinalVerdict(Verdict.REJECT, Reason.NONE, False, False, 1, 1))
    told = read_until(stream, "Newest reject")
    assert "camera top" in told
    assert "event: beat" in told
    answer.close()


def test_the_thumbnail_before_stays_until_the_newest_is_written_and_not_for_ever(
    ring: Ring, put_frame: Callable[[int, int], None], settings: Settings, tmp_path: Path
) -> None:
    Board.create(tmp_path / "board", worker_names(settings))
    snapshots = settings.line.data / "snapshots"
    before = write_snapshot(snapshots, datetime(2026, 11, 24, tzinfo=UTC), 1)
    view, index, now = LineView(settings, tmp_path), SnapshotIndex(SnapshotFiles(snapshots)), [0.0]
    events = EventStream(
        Flask("monitor.review"),
        view,
        index,
        PlantClock("UTC", ("06:00",)),
        needs_password=False,
        clock=lambda: now[0],
        # The frames of this ring have the time since the machine was started.
        utc=lambda: datetime.fromtimestamp(time.monotonic() + now[0], UTC),
    )
    index.step()
    put_frame(1, 7)
    ring.write_scored(1, ScorerVerdict(Verdict.REJECT, Reason.NONE, 2.0, 1.0, 1, 1, "", True))
    ring.write_closed(1, FinalVerdict(Verdict.REJECT, Reason.NONE, True, True, 1, 1))
    newest = events.read().newest
    assert newest is not None
    assert (newest.picture, newest.is_before) == (before, True)
    now[0] = PICTURE_WAIT_S + 5
    newest = events.read().newest
    assert newest is not None
    assert newest.picture is None


def test_one_stream_too_many_is_refused_and_a_closed_one_makes_room(application: Application) -> None:
    clients = [application.wsgi.test_client() for _ in range(MOST_STREAMS + 1)]
    answers = [client.get("/events", headers=LOCAL) for client in clients]
    assert [answer.status_code for answer in answers] == [200] * MOST_STREAMS + [503]
    # The browser went away before the first event.
    answers[0].close()
    again = clients[0].get("/events", headers=LOCAL)
    assert again.status_code == 200
    for answer in (*answers[1:], again):
        answer.close()


def test_a_stream_ends_after_its_lifetime(tmp_path: Path, settings: Settings) -> None:
    now = [0.0]
    app = Flask("monitor.review", root_path=str(Path(__file__).parents[3] / "monitor/review"))
    index = SnapshotIndex(SnapshotFiles(tmp_path))
    events = EventStream(
        app,
        LineView(settings, tmp_path),
        index,
        PlantClock("UTC", ("06:00",)),
        needs_password=False,
        clock=lambda: now[0],
        utc=lambda: datetime(2026, 11, 24, tzinfo=UTC),
    )
    app.add_url_rule("/part", "part")
    stream = app.test_client().get("/events").iter_encoded()
    next(stream)
    now[0] = LIFETIME_S + 1
    assert list(stream) == []
    events.stop()


def test_without_the_password_nothing_of_the_line_is_told(tmp_path: Path, settings: Settings) -> None:
    hashed = SecretStr(hash_password("gloves and all"))
    locked = settings.model_copy(
        update={"review": settings.review.model_copy(update={"password_hash": hashed})}
    )
    page = build(locked, tmp_path).wsgi.test_client()
    for path in ("/events", "/state"):
        assert page.get(path, headers=LOCAL).status_code == 401
    assert "line-state" not in page.get("/login", headers=LOCAL).get_data(as_text=True)
