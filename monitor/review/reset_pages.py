"""The page on which a person looks for the parts of a latched line, and resets it.

It knows nothing of what latches a line. A reset must never cover a part that the person has not seen: where
more has happened since the page was shown, it is refused.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from http import HTTPStatus

import msgspec
from flask import Flask, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from monitor import paths
from monitor.line_state import reset_request
from monitor.line_state.board import Board
from monitor.review.line_view import LineStatus, LineView
from monitor.review.parts_to_find import find_parts
from monitor.review.publisher_request import require_name, wait_until_taken
from monitor.settings import Settings


class ResetPages:
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
    ) -> None:
        self._view, self._board, self._sleep = view, board, sleep
        self._cameras, self._journal = settings.camera, paths.journal(settings)
        app.add_url_rule("/reset", "reset", self._show)
        app.add_url_rule("/reset", "reset_line", self._reset, methods=["POST"])

    def _show(self) -> str:
        status = self._view.status()
        return render_template(
            "reset.html",
            status=status,
            found=find_parts(self._journal, status.latch, status.latched, self._cameras),
            seen=_fingerprint(status),
            can_reset=self._board is not None,
        )

    def _reset(self) -> AnyResponse:
        if self._board is None:
            abort(HTTPStatus.CONFLICT, "This page is served without the line, so it can't reset the line.")
        board, by = self._board, require_name()
        if request.form.get("seen", "") != _fingerprint(self._view.status()):
            abort(HTTPStatus.CONFLICT, "More has happened since this page was shown. Look again, then reset.")
        number = reset_request.ask(board, by)
        wait_until_taken(
            lambda: reset_request.is_taken(board, number),
            self._sleep,
            "It does the reset as soon as it is back.",
        )
        return redirect(url_for("live"), HTTPStatus.SEE_OTHER)


def _fingerprint(status: LineStatus) -> str:
    """What the person has seen: the latch, its parts and their number."""
    content = msgspec.json.encode((status.latch.name, status.latched))
    return hashlib.sha256(content).hexdigest()[:16]
