"""The page that leads a person through the challenge: one part after the other, each by one large step.

It knows nothing of how a part's frame is found: the publisher decides that, on a request by the board. Where
the challenge stands is read from the board, what came before from disk, so that a full disk stops no step. A
step must never be done for a page that shows an older one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from flask import Flask, abort, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from monitor import paths
from monitor.line_state import challenge_request, challenge_run
from monitor.line_state.board import Board
from monitor.line_state.challenge_file import read_challenge
from monitor.line_state.challenge_request import Act
from monitor.line_state.challenge_run import ChallengeError, ChallengeState, Failure, Moment, Phase
from monitor.review.challenge_failure import PartsInDoubt, find_parts_in_doubt
from monitor.review.challenge_words import explain_wrong, find_remedy, is_unjudged
from monitor.review.line_view import LineView
from monitor.review.publisher_request import PATIENCE_S, require_name, wait_until_taken
from monitor.settings import ChallengePartSettings, Mode, Settings

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
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._rules, self._view, self._board = settings.challenge, view, board
        self._time_zone = settings.review.time_zone
        self._views = {camera.name for camera in settings.camera if camera.mode is Mode.LATEST}
        self._file, self._journal = paths.challenge(settings), paths.journal(settings)
        self._sleep, self._utc_ns, self._clock = sleep, utc_ns, clock
        self._one_at_a_time = threading.Lock()
        """The board holds one request."""
        self._reading = threading.Lock()
        self._kept: ChallengeState | None = None
        """What was read from disk last."""
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
            explain_wrong=explain_wrong,
            find_remedy=find_remedy,
            is_unjudged=is_unjudged,
            phases=Phase,
            acts=Act,
            parts=self._rules.part,
            part=part,
            before=before,
            expired=challenge_run.explain_expired(self._rules, self._moment().day),
            in_doubt=self._find_in_doubt(state.failure) if state is not None and state.failure else None,
            due_utc=challenge_run.find_due_utc(state, self._rules) if state is not None else None,
            lying=self._find_lying(state),
            can_withdraw=state is not None and challenge_run.can_withdraw(state),
            can_act=self._board is not None and self._view.is_running(),
        )

    def _find_lying(self, state: ChallengeState | None) -> ChallengePartSettings | None:
        """The part that was shown last and may still lie under its camera."""
        if state is None or not 0 < state.lying <= len(self._rules.part):
            return None
        return self._rules.part[state.lying - 1]

    def _moment(self) -> Moment:
        return Moment(0, self._utc_ns(), self._time_zone)

    def _find_in_doubt(self, failure: Failure) -> PartsInDoubt:
        """The parts in doubt, read at most every five seconds however many pages show them."""
        if self._known is None or self._known[0] != failure or self._utc_ns() > self._known[1]:
            found = find_parts_in_doubt(self._journal, failure, self._views)
            self._known = failure, self._utc_ns() + _DOUBT_AGE_NS, found
        return self._known[2]

    def _read(self) -> ChallengeState | None:
        """Where the challenge stands: on the board while the line runs, with the history on disk."""
        kept, brief = self._read_file(), self._view.challenge_state()
        if brief is None or (kept is not None and kept.is_same(brief)):
            return kept
        return challenge_run.merge(kept, brief)

    def _read_file(self) -> ChallengeState | None:
        """The state on disk. One thread at a time reads it: where the disk hangs, the others go on with what
        was there before."""
        if self._reading.acquire(blocking=False):
            try:
                self._kept = _read_or_none(self._file)
            finally:
                self._reading.release()
        return self._kept

    def _do(self) -> AnyResponse:
        if self._board is None:
            abort(
                HTTPStatus.CONFLICT, "This page is served without the line, so it can't challenge the line."
            )
        if not self._rules.part:
            abort(HTTPStatus.CONFLICT, "The settings name no challenge parts.")
        by = require_name()
        if not self._one_at_a_time.acquire(timeout=PATIENCE_S):
            abort(HTTPStatus.CONFLICT, "Another step is on its way. Look at the page again.")
        try:
            return self._ask(self._board, by)
        finally:
            self._one_at_a_time.release()

    def _ask(self, board: Board, by: str) -> AnyResponse:
        """Asks the publisher and waits until it has taken the request."""
        state = self._read()
        if state is None or request.form.get("seen", "") != str(state.sequence):
            abort(HTTPStatus.CONFLICT, "Another step is next by now. Look at the page again.")
        act = self._check(state)
        is_free = act is Act.BEGIN and state.phase is Phase.PASSED
        if is_free and self._kept != state:
            abort(HTTPStatus.CONFLICT, "The data folder can't be written: mend the disk, then begin.")
        if is_free and "sure" not in request.form:
            # A touch of the button by mistake must not stop the line.
            return make_response(render_template("challenge_begin.html", state=state, by=by, act=act))
        part = request.form["part"] if act is Act.ARM else ""
        number = challenge_request.ask(board, act, by, self._clock(), part)
        wait_until_taken(
            lambda: challenge_request.is_taken(board, number),
            self._sleep,
            "Look at the page before you lay a part under the camera.",
        )
        return redirect(url_for("challenge"), HTTPStatus.SEE_OTHER)

    def _check(self, state: ChallengeState) -> Act:
        """What the form asks for, where it can be done now."""
        try:
            act = Act(request.form.get("act", ""))
        except ValueError:
            abort(HTTPStatus.BAD_REQUEST, "The form asks for no step of the challenge.")
        moment = self._moment()
        try:
            if act is Act.ARM:
                challenge_run.arm(state, self._rules, request.form.get("part", ""), "", moment)
            elif act is Act.BEGIN:
                challenge_run.begin(state, self._rules, "", moment)
            elif act is Act.WITHDRAW:
                challenge_run.withdraw(state)
        except ChallengeError as error:
            abort(HTTPStatus.CONFLICT, f"{error}.")
        return act


def _read_or_none(file: Path) -> ChallengeState | None:
    """None also for a file that can't be read: the publisher then makes it anew and says so."""
    try:
        return read_challenge(file)
    except ChallengeError:
        return None
