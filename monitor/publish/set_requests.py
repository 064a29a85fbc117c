"""Requests for a set of recipes from the gateway on `P/recipe/set`, and their answers on `P/recipe`.

It knows nothing of loading a recipe: the publisher and the scoring worker exchange request and answer over
the board, so that the publisher waits for no disk. Every message that is not retained gets its answer, also
after the death of either worker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from monitor.line_state import changeover
from monitor.line_state.board import Board
from monitor.line_state.changeover import ChangeoverState, RequestError
from monitor.line_state.set_request import (
    SetRequest,
    SetRequestPayload,
    SetStatus,
    find_pending_set,
    make_set_answer,
    parse_set_request,
    read_set_request,
    read_set_status,
    write_set_request,
)
from monitor.publish.retained_answers import Outlet, RetainedAnswers
from monitor.settings import Settings


class SetRequests:
    """The requests for sets of one line. `utc_ns` is the clock."""

    def __init__(
        self, settings: Settings, board: Board, log: logging.Logger, utc_ns: Callable[[], int]
    ) -> None:
        self._sets, self._board, self._log, self._utc_ns = settings.recipes.sets, board, log, utc_ns
        self.topic = f"{settings.prefix}/recipe/set"
        """No camera's topic is the same: `set` is no kind of message of a camera."""
        self._answers = RetainedAnswers(f"{settings.prefix}/recipe")
        self._status: SetStatus | None = None
        """What the scoring worker reported last."""

    def take_request(self, payload: bytes) -> None:
        """Handles a message on `P/recipe/set`. The caller ignores retained messages."""
        try:
            request = parse_set_request(payload)
            pending = find_pending_set(self._board)
            if pending is not None and pending.is_repeated_by(request):
                return
            if why := self._find_refusal(request, pending):
                raise RequestError(why, request.request_id, request.recipe_set)
        except RequestError as error:
            self._log.warning("refused a message on %s: %s", self.topic, error)
            why = changeover.shorten_reason(str(error))
            answer = make_set_answer(error.request_id, ChangeoverState.REFUSED, error.wanted, why)
            self._answers.queue(answer)
            return
        loading = ChangeoverState.LOADING
        self._answers.queue(make_set_answer(request.request_id, loading, request.recipe_set, None))
        number = changeover.next_number(read_set_request(self._board), read_set_status(self._board))
        write_set_request(self._board, SetRequest(number, request.request_id, request.recipe_set))

    def _find_refusal(self, request: SetRequestPayload, pending: SetRequest | None) -> str | None:
        """Why the request can't be handed to the scoring worker; None when it can."""
        if request.recipe_set not in self._sets:
            known = ", ".join(self._sets) or "none"
            name = changeover.shorten_name(request.recipe_set)
            return (
                f"the line has no set {name!r}; there are: {known}; restart the line after a change of "
                "recipes.sets"
            )
        if pending is not None:
            return f"set {pending.recipe_set!r} is being loaded: send the request again after its answer"
        return None

    def send_answers(self, link: Outlet, now: int) -> None:
        """Sends the answers that wait, as far as the broker has room."""
        status = read_set_status(self._board)
        if status is not None and status != self._status:
            self._status = status
            # A line without sets says nothing before it is asked: the broker's ACL may not know the topic.
            is_news = self._sets or status.recipe_set is not None
            if is_news and status.payload() != self._answers.last:
                self._answers.queue(status.payload())
        self._answers.send(link, now, self._utc_ns())
