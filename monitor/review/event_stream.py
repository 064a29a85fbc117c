"""The bar with the line's state at the top of every page, and the stream of events that keeps it current.

It knows nothing of rings: `line_view` reads them. Each open stream holds one thread of the server, so there
is a bound on their number and on how long one lives; a page without a stream asks for the state instead.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, g, render_template, request

from monitor.review.line_view import LineStatus, LineView
from monitor.review.shifts import PlantClock
from monitor.review.snapshot_files import Key, find_key
from monitor.review.snapshot_index import SnapshotIndex

MOST_STREAMS = 12
LIFETIME_S = 60.0
"""Seconds after which a stream ends; the browser opens it again. A browser that went away without a word
holds its thread no longer."""
STATE_AGE_S = 0.25
"""The line is looked at four times a second, however many pages are open."""
BEAT_S = 1.0
"""Seconds between two beats, by which a page knows that what it shows is current."""
PICTURE_WAIT_S = 20.0
"""Seconds after which the picture of a reject is not waited for any more: the disk may have no room."""
_RETRY_MS = 1000
_WITHOUT_STATE = frozenset({"login", "enter", "static"})


@dataclass(frozen=True, slots=True)
class NewestReject:
    """The newest reject as the bar shows it."""

    camera: str
    local: datetime
    ratio: float | None
    picture: Key | None
    """Its snapshot, or the one before until its own is written; None without one."""
    is_before: bool = False
    """Whether the picture is that of the reject before."""


@dataclass(frozen=True, slots=True)
class _Moment:
    at: float
    status: LineStatus
    newest: NewestReject | None


class EventStream:
    """Registers its addresses and the values of every page's bar with the application.

    `needs_password`: nothing is shown before the password was given. The same holds once there are accounts.
    """

    def __init__(
        self,
        app: Flask,
        view: LineView,
        index: SnapshotIndex,
        plant: PlantClock,
        *,
        needs_password: bool,
        clock: Callable[[], float] = time.monotonic,
        utc: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._app, self._view, self._index, self._plant = app, view, index, plant
        self._clock, self._utc = clock, utc
        self._needs_password = needs_password
        self._reading = threading.Lock()
        self._moment: _Moment | None = None
        self._free = threading.BoundedSemaphore(MOST_STREAMS)
        self._stopping = threading.Event()
        app.jinja_env.globals.update(plant=plant, now=utc, has_picture=index.holds)
        app.context_processor(self._template_values)
        app.add_url_rule("/state", "state", self._state)
        app.add_url_rule("/events", "events", self._events)

    def stop(self) -> None:
        """Ends all streams."""
        self._stopping.set()

    def read(self) -> _Moment:
        """The line as it is now, at most `STATE_AGE_S` old."""
        with self._reading:
            if self._moment is None or self._clock() - self._moment.at > STATE_AGE_S:
                self._moment = _Moment(self._clock(), self._view.status(), self._newest())
            return self._moment

    def _newest(self) -> NewestReject | None:
        """The newest reject of this session, else the newest one that has a snapshot."""
        if (part := self._view.newest_reject()) is not None:
            local = self._plant.parse(part.captured_utc)
            return NewestReject(part.camera, local, part.ratio, *self._choose_picture(part.snapshot, local))
        if (entry := self._index.newest_reject()) is None:
            return None
        key, details = entry.key, entry.details
        ratio = entry.score / details.threshold if details and details.threshold else None
        return NewestReject(key.camera, self._plant.of_snapshot(key.day, key.stem), ratio, key)

    def _choose_picture(self, snapshot: str | None, captured: datetime) -> tuple[Key | None, bool]:
        """The picture of the newest reject, and whether it is still the one before. A page never asks for a
        picture that is not written yet."""
        key = find_key(snapshot)
        if key is None or self._index.holds(key):
            return key, False
        if (self._utc() - captured).total_seconds() > PICTURE_WAIT_S:
            return None, False
        before = self._index.newest_reject()
        return (before.key, True) if before is not None else (None, False)

    def _template_values(self) -> dict[str, object]:
        session, is_closed = g.get("session"), self._needs_password or g.get("has_accounts", False)
        is_hidden = is_closed and not (session and session.known)
        if is_hidden or request.endpoint in _WITHOUT_STATE:
            return {"shows_state": False}
        return {"shows_state": True, **self._bar()}

    def _bar(self) -> dict[str, object]:
        moment = self.read()
        now = self._plant.local(self._utc())
        return {"line_status": moment.status, "newest_reject": moment.newest, "clock": f"{now:%H:%M:%S %Z}"}

    def _state(self) -> str:
        return render_template("state.html")

    def _events(self) -> Response:
        if not self._free.acquire(blocking=False):
            response = Response("Too many pages are open.\n", HTTPStatus.SERVICE_UNAVAILABLE)
            response.headers["Retry-After"] = "30"
            return response
        stream = self._stream(request.environ)
        response = Response(stream, mimetype="text/event-stream")
        # Also called for a browser that goes away before the first event.
        response.call_on_close(self._free.release)
        # nginx would else hold the events back.
        response.headers["X-Accel-Buffering"] = "no"
        return response

    def _stream(self, environ: dict[str, Any]) -> Iterator[str]:
        """The events for the browser of that request, which has ended when they are sent."""
        until, beat_at = self._clock() + LIFETIME_S, self._clock()
        shown, generation = "", -1
        yield f"retry: {_RETRY_MS}\n\n"
        while self._clock() < until and not self._stopping.is_set():
            bar = self._bar()
            with self._app.request_context(environ):
                fragment = render_template("state.html", **{**bar, "clock": ""})
            if fragment != shown:
                shown = fragment
                yield _message("state", fragment)
            if self._index.generation != generation:
                generation = self._index.generation
                yield _message("changed", str(generation))
            if self._clock() >= beat_at:
                beat_at = self._clock() + BEAT_S
                yield _message("beat", str(bar["clock"]))
            self._stopping.wait(STATE_AGE_S)


def _message(event: str, text: str) -> str:
    """One event of the stream, as browsers read it (WHATWG HTML, server-sent events)."""
    lines = "".join(f"data: {line}\n" for line in text.splitlines())
    return f"event: {event}\n{lines}\n"
