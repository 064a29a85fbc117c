"""The publisher's side of a changeover: hears requests, hands them to the scoring worker, tells the answers.

Requests and answers cross by the board, so this never waits for a recipe. What can't be a request is logged
and ignored; what is one gets an answer, also after the death of either worker. It must never send before a
verdict that waits.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from monitor.journal.writer import Journal
from monitor.line_state import changeover
from monitor.line_state.board import Board
from monitor.line_state.changeover import Asked, BadRequest, Request, Standing, State
from monitor.names import InvalidNameError, check_name
from monitor.publish.mqtt import LinkState
from monitor.settings import CameraSettings, Settings
from monitor.verdict import rfc3339

_LONGEST_PAYLOAD = 4096
_LONGEST_SHOWN = 40
"""Characters of a name that can't be one; a recipe's name has 32 at most."""
_MOST_WAITING = 20
"""Answers a camera may owe while the broker is slow or away; of more, the oldest go."""


class Outlet(Protocol):
    """The part of `monitor.publish.mqtt.Link` that this needs."""

    state: LinkState
    generation: int

    def room(self, reserved: int = 1) -> int: ...
    def send(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, ttl_ms: int | None = None
    ) -> int | None: ...


class _Window:
    """One camera's requests and answers."""

    def __init__(self, camera: CameraSettings) -> None:
        self.camera = camera
        self.waiting: deque[dict[str, Any]] = deque(maxlen=_MOST_WAITING)
        self.last: dict[str, Any] | None = None
        """The newest payload, told or waiting."""
        self.generation = 0
        """The connection that was told last."""
        self.standing: Standing | None = None

    def queue(self, payload: dict[str, Any]) -> None:
        self.waiting.append(payload)
        self.last = payload


class ChangeoverDesk:
    """All cameras' recipes as the gateway asks for them and hears of them. `utc_ns` is the clock."""

    def __init__(
        self,
        settings: Settings,
        board: Board,
        journal: Journal,
        log: logging.Logger,
        utc_ns: Callable[[], int],
    ) -> None:
        self._prefix, self._board, self._journal = settings.prefix, board, journal
        self._log, self._utc_ns = log, utc_ns
        self._windows = {camera.name: _Window(camera) for camera in settings.camera}

    @property
    def subscription(self) -> str:
        return f"{self._prefix}/+/recipe/set"

    def is_for_us(self, topic: str) -> bool:
        return topic.startswith(f"{self._prefix}/") and topic.endswith("/recipe/set")

    def hear(self, topic: str, payload: bytes) -> None:
        """Takes a message on `P/{camera}/recipe/set`, which is not a retained one."""
        window = self._windows.get(topic.removeprefix(f"{self._prefix}/").removesuffix("/recipe/set"))
        if window is None:
            self._log.warning("ignored a message on %s: the settings have no such camera", topic)
            return
        try:
            if len(payload) > _LONGEST_PAYLOAD:
                raise BadRequest(f"{len(payload)} bytes are too many")
            asked = changeover.parse(payload)
        except BadRequest as error:
            self._log.warning("ignored a malformed message on %s: %s", topic, error)
            return
        self._ask(window, asked)

    def _ask(self, window: _Window, asked: Asked) -> None:
        name = window.camera.name
        pending = self._pending(name)
        if pending is not None and (pending.request_id, pending.recipe) == (asked.request_id, asked.recipe):
            # The same message once more (QoS 1): its answer is on the way.
            return
        why = None
        shown = asked.recipe[:_LONGEST_SHOWN] + "..." * (len(asked.recipe) > _LONGEST_SHOWN)
        try:
            check_name(shown)
        except InvalidNameError as error:
            why = str(error)
        if why is None and pending is not None:
            why = f"recipe {pending.recipe!r} is being loaded: ask again when that has been answered"
        if why is not None:
            self._log.warning("camera %s: refused a changeover: %s", name, why)
            self._answer(window, asked, State.REFUSED, changeover.shortened(why))
            return
        last = changeover.asked(self._board, name)
        standing = changeover.stands(self._board, name)
        number = 1 + max(last.number if last else 0, standing.number if standing else 0)
        self._answer(window, asked, State.LOADING, None)
        changeover.ask(self._board, name, Request(number, asked.request_id, asked.recipe))

    def _pending(self, camera: str) -> Request | None:
        """The request that the scoring worker has not answered yet."""
        request, standing = changeover.asked(self._board, camera), changeover.stands(self._board, camera)
        if request is None:
            return None
        answered = standing is not None and (
            standing.number >= request.number and standing.state is not State.LOADING
        )
        return None if answered else request

    def _answer(self, window: _Window, asked: Asked, state: State, why: str | None) -> None:
        standing = changeover.stands(self._board, window.camera.name)
        in_force = standing.in_force if standing else None
        window.queue(changeover.answer(asked.request_id, state, asked.recipe, None, why, in_force))

    def tell(self, link: Outlet) -> None:
        """Sends what there is to say, in order, as far as the broker has room; anew on each connection."""
        for window in self._windows.values():
            standing = changeover.stands(self._board, window.camera.name)
            if standing is not None and standing != window.standing:
                window.standing = standing
                if standing.payload() != window.last:
                    window.queue(standing.payload())
                self._record(window.camera, standing)
            self._send(window, link)

    def _send(self, window: _Window, link: Outlet) -> None:
        if link.state is not LinkState.UP:
            return
        if window.generation != link.generation and not window.waiting and window.last is not None:
            window.queue(window.last)
        topic = f"{self._prefix}/{window.camera.name}/recipe"
        while window.waiting and link.room(reserved=0) > 0:
            payload = {**window.waiting[0], "utc": rfc3339(self._utc_ns())}
            if link.send(topic, msgspec.json.encode(payload), retain=True) is None:
                return
            window.generation = link.generation
            window.waiting.popleft()

    def _record(self, camera: CameraSettings, standing: Standing) -> None:
        if standing.state is State.IN_FORCE and standing.in_force is not None:
            who = "service" if standing.request_id is None else f"{self._prefix}/{camera.name}/recipe/set"
            path = f"camera.{camera.name}.recipe_in_force"
            values = {path: standing.in_force.recipe, f"{path}_sha": standing.in_force.sha}
            self._journal.in_force(path, values, who)
