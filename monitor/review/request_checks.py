"""The checks that every request passes before it reaches a page, and the headers of every answer.

It knows nothing of what the pages show. The order of the checks: the Host header, the session, the origin of
a form, the password. A refused request gets one plain line. No other site may frame a page, script it or post
its forms.
"""

from __future__ import annotations

import threading
from http import HTTPStatus
from urllib.parse import urlsplit

from flask import Flask, Response, abort, g, redirect, render_template, request, url_for
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from monitor.accounts.attempts import PasswordAttempts
from monitor.review.access import (
    SESSION_S,
    Session,
    Sessions,
    is_local,
    is_local_name,
    tidy_name,
    verify,
)
from monitor.review.proxy import PublicAddress
from monitor.settings import ReviewSettings

_PROXY_ATTEMPTS = 30
"""Wrong passwords a minute from all clients of a proxy together."""
_OPEN = frozenset({"login", "enter", "static", "alive"})
"""Endpoints that need no password."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # `no-referrer` would also remove the Origin header from this page's own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
"""On every answer, also on those that waitress gives itself."""


class RequestChecks:
    """Registers its checks and its addresses with the application."""

    def __init__(
        self, app: Flask, settings: ReviewSettings, sessions: Sessions, attempts: PasswordAttempts
    ) -> None:
        self._settings, self._sessions, self._attempts = settings, sessions, attempts
        self._public = PublicAddress.parse(settings.public_url) if settings.public_url else None
        # Browsers share cookies between all ports of a host: each line's page needs its own cookie name.
        self._cookie = f"line-monitor-{settings.port}"
        self._hash = settings.password_hash.get_secret_value() if settings.password_hash else None
        # One attempt takes 32 MB and 0.1 s: one at a time.
        self._verifying = threading.Lock()
        app.before_request(self._check)
        app.after_request(self._finish)
        app.register_error_handler(HTTPException, self._refuse)
        app.add_url_rule("/login", "login", self._login, methods=["GET"])
        app.add_url_rule("/login", "enter", self._enter, methods=["POST"])
        app.add_url_rule("/logout", "logout", self._leave, methods=["POST"])
        app.add_url_rule("/name", "name", self._rename, methods=["POST"])
        app.context_processor(self._template_values)

    def _check(self) -> AnyResponse | None:
        self._check_host(self._settings.host)
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

    def _check_host(self, host: str) -> None:
        """Accepts this machine's names, and the name in `review.public_url` by which a proxy serves the page.
        Another name may come from a foreign page (DNS rebinding)."""
        if not is_local(host) or is_local_name(request.host, host):
            return
        if self._public is None:
            hint = "Behind a proxy, set review.public_url to the address that browsers open."
        elif self._public.is_host(request.host):
            return
        else:
            hint = "Let the proxy pass on the Host header of the browser, or 127.0.0.1."
        public = [self._settings.public_url] if self._settings.public_url else []
        names = ", ".join(dict.fromkeys(["localhost", "127.0.0.1", host, *public]))
        abort(HTTPStatus.MISDIRECTED_REQUEST, f"This page can be opened as {names} only. {hint}")

    def _check_origin(self) -> None:
        """Accepts a form from this page only, by the browser's headers and by the session's token."""
        site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
        foreign = site not in (None, "same-origin")
        if foreign or not self._is_own_origin(origin):
            hint = "" if self._public else ", or a proxy serves this page and review.public_url is not set"
            abort(HTTPStatus.FORBIDDEN, f"Refused: the form came from another site{hint}.")
        if not self._sessions.is_token(g.session, request.form.get("token", "")):
            abort(HTTPStatus.FORBIDDEN, "Refused: the form is too old. Load the page again, then repeat.")

    def _is_own_origin(self, origin: str | None) -> bool:
        """Whether the form came from this page. Some browsers send no origin."""
        if origin is None or _host(origin) == request.host:
            return True
        return self._public is not None and self._public.is_origin(origin)

    def _is_encrypted(self) -> bool:
        """Whether the browser is known to have come by HTTPS. A proxy may say so, or the form's origin."""
        origin = request.headers.get("Origin", "")
        by_origin = (
            self._public is not None and self._public.is_origin(origin) and origin.startswith("https:")
        )
        return request.scheme == "https" or by_origin

    def _begin(self, *, known: bool, by: str) -> None:
        g.cookie = self._sessions.issue(known=known, by=by)
        fresh = self._sessions.read(g.cookie)
        if fresh is None:
            raise RuntimeError("a new session can't be read")
        g.session = fresh

    def _finish(self, response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-store")
        if (cookie := g.get("cookie")) is not None:
            response.set_cookie(
                self._cookie,
                cookie,
                max_age=int(SESSION_S),
                httponly=True,
                samesite="Lax",
                path=f"{request.script_root}/",
                secure=self._is_encrypted(),
            )
        return response

    def _refuse(self, error: HTTPException) -> AnyResponse | tuple[str, int]:
        if error.code is None or error.code < 400:
            return Response.force_type(error.get_response())
        message = error.description or HTTPStatus(error.code).phrase
        if "session" in g and "text/html" in request.headers.get("Accept", "") and error.code != 421:
            return render_template("error.html", message=message), error.code
        return Response(f"{message}\n", error.code, mimetype="text/plain")

    def _login(self) -> str:
        return render_template("login.html", next=_local(request.args.get("next", "")), wrong="")

    def _enter(self) -> AnyResponse | tuple[str, int]:
        target, by = _local(request.form.get("next", "")), request.form.get("by", "")
        if self._hash is None:
            return _redirect(target)
        address = request.remote_addr or ""
        # A proxy may pass on a client's own X-Forwarded-For, so the attempts through it are limited together.
        proxy = request.environ.get("monitor.proxy", "")
        may_try = self._attempts.may_try(address) if address != proxy else True
        if not may_try or (proxy and not self._attempts.may_try(f"proxy {proxy}", _PROXY_ATTEMPTS)):
            wrong = "Too many wrong passwords: wait one minute, then try again."
            return render_template("login.html", next=target, wrong=wrong), HTTPStatus.TOO_MANY_REQUESTS
        with self._verifying:
            right = verify(request.form.get("password", ""), self._hash)
        if not right:
            wrong = "Wrong password."
            return render_template("login.html", next=target, wrong=wrong), HTTPStatus.FORBIDDEN
        self._attempts.forget(address)
        self._attempts.forget(f"proxy {proxy}")
        self._begin(known=True, by=by)
        return _redirect(target)

    def _leave(self) -> AnyResponse:
        self._begin(known=False, by="")
        return redirect(url_for("login" if self._hash else "wall"), HTTPStatus.SEE_OTHER)

    def _rename(self) -> AnyResponse:
        session: Session = g.session
        self._begin(known=session.known, by=tidy_name(request.form.get("by", "")))
        return _redirect(_local(request.form.get("next", "")))

    def _template_values(self) -> dict[str, object]:
        """Values for every template."""
        session: Session | None = g.get("session")
        return {
            "token": self._sessions.token(session) if session else "",
            "by": session.by if session else "",
            "signed_in": bool(session and session.known),
            "here": request.full_path.removesuffix("?"),
        }


def _redirect(target: str) -> AnyResponse:
    """To a path on this page."""
    return redirect(request.script_root + target, HTTPStatus.SEE_OTHER)


def _local(target: str) -> str:
    """The target if it is a path on this page, else "/": `//host` and `/\\host` lead to other sites."""
    try:
        parts = urlsplit(target)
    except ValueError:
        return "/"
    if not target.startswith("/") or target[1:2] in ("/", "\\") or parts.scheme or parts.netloc:
        return "/"
    return target if target.isprintable() else "/"


def _host(origin: str) -> str:
    """The host of an Origin header; empty, which matches no host, where it can't be read."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""
