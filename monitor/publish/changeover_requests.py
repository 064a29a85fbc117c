"""Changeover requests from the gateway: receives them, hands them to the scoring worker, sends the answers.

It knows nothing of loading a recipe: the publisher and the scoring worker exchange requests and answers over
the board. Every message on `P/+/recipe/set` gets its answer, also after the death of either worker. A message
that is not a valid request, or is for a camera that the settings do not have, is refused. An answer must
never be sent before a verdict that waits.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from monitor.journal.writer import JournalWriter
from monitor.line_state import changeover
from monitor.line_state.board import Board
from monitor.line_state.changeover import (
    ChangeoverState,
    RecipeStatus,
    Request,
    RequestError,
    RequestId,
    RequestPayload,
)
from monitor.names import InvalidNameError, join_version, split_version
from monitor.publish.mqtt_connection import LinkState
from monitor.publish.retained_answers import MOST_WAITING, Answer, Outlet, RetainedAnswers, encode_answer
from monitor.settings import CameraSettings, Settings


class _CameraAnswers:
    """The answers about one camera's recipe."""

    def __init__(self, prefix: str, camera: CameraSettings) -> None:
        self.camera = camera
        self.outgoing = RetainedAnswers(f"{prefix}/{camera.name}/recipe")
        self.status: RecipeStatus | None = None
        """The status that the scoring worker reported last."""


class ChangeoverRequests:
    """The changeover requests and answers of all cameras. `utc_ns` is the clock."""

    def __init__(
        self,
        settings: Settings,
        board: Board,
        journal: JournalWriter,
        log: logging.Logger,
        utc_ns: Callable[[], int],
    ) -> None:
        self._prefix, self._board, self._journal = settings.prefix, board, journal
        self._log, self._utc_ns = log, utc_ns
        self._answers = {camera.name: _CameraAnswers(settings.prefix, camera) for camera in settings.camera}
        self._refusals: deque[tuple[str, Answer]] = deque(maxlen=MOST_WAITING)
        """The topic and the payload of the refusals for cameras that the settings do not have."""

    def is_request(self, topic: str) -> bool:
        """Whether messages on that topic are changeover requests. `P/recipe/set` names no camera: it asks for
        a set of recipes, also where a camera is called `recipe`."""
        prefix = f"{self._prefix}/"
        return topic.startswith(prefix) and topic.removeprefix(prefix).endswith("/recipe/set")

    def take_request(self, topic: str, payload: bytes) -> None:
        """Handles a message on `P/{camera}/recipe/set`. The caller ignores retained messages."""
        name = topic.removeprefix(f"{self._prefix}/").removesuffix("/recipe/set")
        answers = self._answers.get(name)
        try:
            request = changeover.parse_request(payload)
            if answers is None:
                known = ", ".join(self._answers) or "none"
                why = f"the settings have no camera {changeover.shorten_name(name)!r}; there are: {known}"
                raise RequestError(why, request.request_id, request.recipe)
        except RequestError as error:
            self._refuse(topic, answers, error)
        else:
            self._handle(answers, request)

    def _refuse(self, topic: str, answers: _CameraAnswers | None, error: RequestError) -> None:
        """Answers a message that is no request of a camera of this line."""
        self._log.warning("refused a message on %s: %s", topic, error)
        why = changeover.shorten_reason(str(error))
        if answers is not None:
            self._queue_answer(answers, error.request_id, error.wanted, ChangeoverState.REFUSED, why)
            return
        refused = ChangeoverState.REFUSED
        payload = changeover.make_answer(error.request_id, refused, error.wanted, None, why, None)
        self._refusals.append((topic.removesuffix("/set"), payload))

    def _handle(self, answers: _CameraAnswers, request: RequestPayload) -> None:
        """Hands the request to the scoring worker, or refuses it."""
        name = answers.camera.name
        pending = changeover.find_pending(self._board, name)
        if pending is not None and pending.is_repeated_by(request):
            # The first of the two messages gets the answer.
            return
        why = None
        try:
            split_version(changeover.shorten_name(request.recipe))
        except InvalidNameError as error:
            why = str(error)
        if why is None and pending is not None:
            why = f"recipe {pending.recipe!r} is being loaded: send the request again after its answer"
        if why is not None:
            self._log.warning("camera %s: refused a changeover: %s", name, why)
            why = changeover.shorten_reason(why)
            self._queue_answer(answers, request.request_id, request.recipe, ChangeoverState.REFUSED, why)
            return
        last = changeover.read_request(self._board, name)
        status = changeover.read_recipe_status(self._board, name)
        number = changeover.next_number(last, status)
        self._queue_answer(answers, request.request_id, request.recipe, ChangeoverState.LOADING, None)
        changeover.write_request(self._board, name, Request(number, request.request_id, request.recipe))

    def _queue_answer(
        self,
        answers: _CameraAnswers,
        request_id: RequestId | None,
        recipe: str | None,
        state: ChangeoverState,
        why: str | None,
    ) -> None:
        status = changeover.read_recipe_status(self._board, answers.camera.name)
        in_force = status.in_force if status else None
        answers.outgoing.queue(changeover.make_answer(request_id, state, recipe, None, why, in_force))

    def send_answers(self, link: Outlet, now: int) -> None:
        """Sends the answers that wait, in order, as far as the broker has room. The newest is sent again on
        each new connection, and every second where the broker keeps no retained messages."""
        for answers in self._answers.values():
            status = changeover.read_recipe_status(self._board, answers.camera.name)
            if status is not None and status != answers.status:
                answers.status = status
                if status.payload() != answers.outgoing.last:
                    answers.outgoing.queue(status.payload())
                self._record(answers.camera, status)
            answers.outgoing.send(link, now, self._utc_ns())
        while self._refusals and link.state is LinkState.UP and link.room(reserved=0) > 0:
            topic, payload = self._refusals[0]
            # It is not retained: no later answer would replace it.
            if link.send(topic, encode_answer(payload, topic, link, self._utc_ns())) is None:
                return
            self._refusals.popleft()

    def _record(self, camera: CameraSettings, status: RecipeStatus) -> None:
        """Adds the recipe in force to the journal's record of changes."""
        if status.state is ChangeoverState.IN_FORCE and status.in_force is not None:
            topic = f"{self._prefix}/{camera.name}/recipe/set"
            who = status.who or ("service" if status.request_id is None else topic)
            path = f"camera.{camera.name}.recipe_in_force"
            values = {
                path: join_version(status.in_force.recipe, status.in_force.version),
                f"{path}_sha": status.in_force.sha,
            }
            self._journal.record_values(path, values, who)
