"""The page that leads a person through the challenge: one part after the other, each by one large step.

It knows nothing of how a part's frame is found: the publisher decides that, on a request by the board. A step
must never be done for a page that shows an older one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from flask import Flask, abort, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from monitor import paths
from monitor.line_state import challenge_request, challenge_run
from monitor.line_state.board import Board
from monitor.line_state.challenge_file import read_challenge
from monitor.line_state.challenge_request import Act
from monitor.line_state.challenge_run import ChallengeError, ChallengeState, Failure, Moment, Phase
from monitor.review.access import tidy_name
from monitor.review.challenge_failure import PartsInDoubt, find_parts_in_doubt
from monitor.review.line_view import LineView
from monitor.settings import Mode, Settings

_PATIENCE_S = 2.0
_LOOK_S = 0.05
_DOUBT_AGE_NS = 5_000_000_000


class ChallengePages:
    """Registers its addresses with the application.

    `board` is the running line's, writable; None where the page is served without the line.
    """

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        view: LineView,
        board: Board | None,
        sleep: Callable[[float], None] = time.sleep,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._rules, self._view, self._board = settings.challenge, view, board
        self._time_zone = settings.review.time_zone
        self._views = {camera.name for camera in settings.camera if camera.mode is Mode.LATEST}
        self._file, self._journal = paths.challenge(settings), paths.journal(settings)
        self._sleep, self._utc_ns = sleep, utc_ns
        self._known: tuple[Failure, int, PartsInDoubt] | None = None
        """The parts in doubt: after which failure, until when they are known, and they themselves."""
        app.jinja_env.globals["has_challenge"] = bool(self._rules.part)
        app.add_url_rule("/challenge", "challenge", self._show)
        app.add_url_rule("/challenge", "challenge_step", self._do, methods=["POST"])

    def _show(self) -> str:
        state, part, before = self._read(), None, None
        if state is not None and self._rules.part:
            # The settings may have lost parts since the state was written.
            part = self._rules.part[min(state.place, len(self._rules.part) - 1)]
            before = challenge_run.find_wrong_attempt(state, part.id)
        return render_template(
            "challenge_step.html" if request.args.get("only") == "step" else "challenge.html",
            state=state,
            phases=Phase,
            acts=Act,
            parts=self._rules.part,
            part=part,
            before=before,
            expired=challenge_run.explain_expired(self._rules, self._moment().day),
            in_doubt=self._find_in_doubt(state.failure) if state is not None and state.failure else None,
            due_utc=challenge_run.find_due_utc(state, self._rules) if state is not None else None,
            can_act=self._board is not None and self._view.is_running(),
        )

    def _moment(self) -> Moment:
        return Moment(0, self._utc_ns(), self._time_zone)

    def _find_in_doubt(self, failure: Failure) -> PartsInDoubt:
        """The parts in doubt, read at most every five seconds however many pages show them."""
        if self._known is None or self._known[0] != failure or self._utc_ns() > self._known[1]:
            found = find_parts_in_doubt(self._journal, failure, self._views)
            self._known = failure, self._utc_ns() + _DOUBT_AGE_NS, found
        return self._known[2]

    def _read(self) -> ChallengeState | None:
        """The state on disk, which follows the board within milliseconds."""
        for _ in range(int(_PATIENCE_S / _LOOK_S)):
            state = _read_or_none(self._file)
            wanted = self._view.challenge_sequence()
            if wanted is None or (state is not None and state.sequence == wanted):
                return state
            self._sleep(_LOOK_S)
        abort(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "The challenge's file can't be read or is behind the line: look at the disk of the data folder.",
        )

    def _do(self) -> AnyResponse:
        if self._board is None:
            abort(
                HTTPStatus.CONFLICT, "This page is served without the line, so it can't challenge the line."
            )
        if not self._rules.part:
            abort(HTTPStatus.CONFLICT, "The settings name no challenge parts.")
        by = g.session.by or tidy_name(request.form.get("by", ""))
        if not by:
            abort(
                HTTPStatus.BAD_REQUEST, "Write your name or initials beside the button, so that others know."
            )
        state = self._read()
        if state is None or request.form.get("seen", "") != str(state.sequence):
            abort(HTTPStatus.CONFLICT, "Another step is next by now. Look at the page again.")
        act = self._check(state)
        part = request.form["part"] if act is Act.ARM else ""
        number = challenge_request.ask(self._board, act, by, part)
        for _ in range(int(_PATIENCE_S / _LOOK_S)):
            if challenge_request.is_taken(self._board, number):
                return redirect(url_for("challenge"), HTTPStatus.SEE_OTHER)
            self._sleep(_LOOK_S)
        abort(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "The line has not answered within 2 s: its sending program may be starting again. Look at the "
            "page before you lay a part under the camera.",
        )

    def _check(self, state: ChallengeState) -> Act:
        """What the form asks for, where it can be done now."""
        try:
            act = Act(request.form.get("act", ""))
        except ValueError:
            abort(HTTPStatus.BAD_REQUEST, "The form asks for no step of the challenge.")
        if act is Act.ARM:
            moment = self._moment()
            try:
                challenge_run.arm(state, self._rules, request.form.get("part", ""), "", moment)
            except ChallengeError as error:
                abort(HTTPStatus.CONFLICT, f"{error}.")
        return act


def _read_or_none(file: Path) -> ChallengeState | None:
    """None also for a file that can't be read: the publisher then makes it anew and says so."""
    try:
        return read_challenge(file)
    except ChallengeError:
        return None
