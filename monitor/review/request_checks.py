"""Who comes in: the checks that every request passes before a page sees it, and the headers on every answer.

In this order: the Host header, the session, where a form comes from, the password. Must never answer a
refused request with anything but one plain line, nor let a page be framed, guessed or scripted by another.
"""

from __future__ import annotations

import threading
from http import HTTPStatus
from urllib.parse import urlsplit

from flask import Flask, Response, abort, g, redirect, render_template, request, url_for
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from monitor.review.access import (
    SESSION_S,
    Guesses,
    Session,
    Sessions,
    is_local,
    is_local_name,
    tidy_name,
    verify,
)
from monitor.settings import ReviewSettings

_OPEN = frozenset({"login", "enter", "static", "alive"})
"""What needs no password."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # `no-referrer` would take the Origin from our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
"""On every answer, whoever gives it."""


class Door:
    """Hangs itself into the application."""

    def __init__(self, app: Flask, settings: ReviewSettings, sessions: Sessions, guesses: Guesses) -> None:
        self._settings, self._sessions, self._guesses = settings, sessions, guesses
        # Browsers keep one jar for all ports of a host: several lines on one machine, each with its own page.
        self._cookie = f"line-monitor-{settings.port}"
        self._hash = settings.password_hash.get_secret_value() if settings.password_hash else None
        # Each try takes 32 MB and a tenth of a second: one at a time.
        self._trying = threading.Lock()
        app.before_request(self._check)
        app.after_request(self._finish)
        app.register_error_handler(HTTPException, self._refuse)
        app.add_url_rule("/login", "login", self._login, methods=["GET"])
        app.add_url_rule("/login", "enter", self._enter, methods=["POST"])
        app.add_url_rule("/logout", "logout", self._leave, methods=["POST"])
        app.add_url_rule("/name", "name", self._rename, methods=["POST"])
        app.context_processor(self._shown)

    def _check(self) -> AnyResponse | None:
        host = self._settings.host
        if is_local(host) and not is_local_name(request.host, host):
            abort(
                HTTPStatus.MISDIRECTED_REQUEST, f"This page answers to localhost, 127.0.0.1 and {host} only."
            )
        session = self._sessions.read(request.cookies.get(self._cookie, ""))
        if session is None or (session.known and self._hash is None):
            self._begin(known=False, by="")
        else:
            g.session = session
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            self._check_origin()
        if self._hash is None or g.session.known or request.endpoint in _OPEN:
            return None
        if request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
            return redirect(url_for("login", next=request.full_path.removesuffix("?")), HTTPStatus.SEE_OTHER)
        abort(HTTPStatus.UNAUTHORIZED, "Sign in first.")

    def _check_origin(self) -> None:
        """A form counts only from this very page: by what the browser says, and by the session's token."""
        site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
        foreign = site not in (None, "same-origin")
        if foreign or (origin is not None and _host(origin) != request.host):
            abort(HTTPStatus.FORBIDDEN, "Refused: the form came from another site.")
        if not self._sessions.is_token(g.session, request.form.get("token", "")):
            abort(HTTPStatus.FORBIDDEN, "Refused: the form is too old. Load the page again.")

    def _begin(self, *, known: bool, by: str) -> None:
        g.cookie = self._sessions.issue(known=known, by=by)
        fresh = self._sessions.read(g.cookie)
        if fresh is None:
            raise RuntimeError("a session that was just issued is none")
        g.session = fresh

    def _finish(self, response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-store")
        if (cookie := g.get("cookie")) is not None:
            response.set_cookie(
                self._cookie, cookie, max_age=int(SESSION_S), httponly=True, samesite="Lax", path="/"
            )
        return response

    def _refuse(self, error: HTTPException) -> AnyResponse | tuple[str, int]:
        if error.code is None or error.code < 400:
            return Response.force_type(error.get_response())
        words = error.description or HTTPStatus(error.code).phrase
        if "session" in g and "text/html" in request.headers.get("Accept", "") and error.code != 421:
            return render_template("error.html", words=words), error.code
        return Response(f"{words}\n", error.code, mimetype="text/plain")

    def _login(self) -> str:
        return render_template("login.html", next=_local(request.args.get("next", "")), wrong="")

    def _enter(self) -> AnyResponse | tuple[str, int]:
        target, by = _local(request.form.get("next", "")), request.form.get("by", "")
        if self._hash is None:
            return redirect(target, HTTPStatus.SEE_OTHER)
        address = request.remote_addr or ""
        if not self._guesses.may_try(address):
            wrong = "Too many wrong passwords: wait a minute."
            return render_template("login.html", next=target, wrong=wrong), HTTPStatus.TOO_MANY_REQUESTS
        with self._trying:
            right = verify(request.form.get("password", ""), self._hash)
        if not right:
            wrong = "That is not the password."
            return render_template("login.html", next=target, wrong=wrong), HTTPStatus.FORBIDDEN
        self._guesses.forget(address)
        self._begin(known=True, by=by)
        return redirect(target, HTTPStatus.SEE_OTHER)

    def _leave(self) -> AnyResponse:
        self._begin(known=False, by="")
        return redirect(url_for("login" if self._hash else "wall"), HTTPStatus.SEE_OTHER)

    def _rename(self) -> AnyResponse:
        session: Session = g.session
        self._begin(known=session.known, by=tidy_name(request.form.get("by", "")))
        return redirect(_local(request.form.get("next", "")), HTTPStatus.SEE_OTHER)

    def _shown(self) -> dict[str, object]:
        """What every template may use."""
        session: Session | None = g.get("session")
        return {
            "token": self._sessions.token(session) if session else "",
            "by": session.by if session else "",
            "signed_in": bool(session and session.known),
            "here": request.full_path.removesuffix("?"),
        }


def _local(target: str) -> str:
    """A path on this page, whatever was asked for: `//host` and `/\\host` lead elsewhere."""
    try:
        parts = urlsplit(target)
    except ValueError:
        return "/"
    if not target.startswith("/") or target[1:2] in ("/", "\\") or parts.scheme or parts.netloc:
        return "/"
    return target if target.isprintable() else "/"


def _host(origin: str) -> str:
    """Empty, and so nobody's, where it can't be read."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""
