"""The checks that every request passes before it reaches a page, and the headers of every answer.

It knows nothing of what the pages show. The order of the checks: the Host header, the session, the origin of
a form, the password, the role. A refused request gets one plain line. No other site may frame a page, script
it or post its forms. Once there are named accounts, the one password of the settings counts no more.
"""

from __future__ import annotations

import logging
import threading
from http import HTTPStatus
from urllib.parse import urlsplit

from flask import Flask, Response, abort, g, redirect, render_template, request, url_for
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from monitor.accounts.accounts_file import Account, AccountsError, AccountsFile
from monitor.accounts.attempts import PasswordAttempts
from monitor.accounts.permissions import Permission, may
from monitor.review.access import (
    SESSION_S,
    Session,
    Sessions,
    is_local,
    is_local_name,
    tidy_name,
    verify,
)
from monitor.review.endpoint_permissions import refuse_form
from monitor.review.proxy import PublicAddress
from monitor.review.recorded_changes import RecordedChanges
from monitor.settings import ReviewSettings

_PROXY_ATTEMPTS = 30
"""Wrong passwords a minute from all clients of a proxy together."""
_NAME_ATTEMPTS = 10
"""Wrong passwords a minute for one account from all addresses together."""
_RECORDED_FORMS = 10
"""Refused forms a minute of one account that go into the record of changes."""
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
        self,
        app: Flask,
        settings: ReviewSettings,
        sessions: Sessions,
        attempts: PasswordAttempts,
        accounts: AccountsFile,
        changes: RecordedChanges,
    ) -> None:
        self._settings, self._sessions, self._attempts = settings, sessions, attempts
        self._accounts, self._changes = accounts, changes
        self._log = logging.getLogger(__name__)
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
        g.account = None
        g.has_accounts = has_accounts = self._find_whether_accounts_exist()
        session = self._sessions.read(request.cookies.get(self._cookie, ""))
        if session is None or not self._is_valid(session, has_accounts):
            self._begin(known=False, by="" if session is None or has_accounts else session.by)
        else:
            g.session = session
        is_form = request.method not in ("GET", "HEAD", "OPTIONS")
        if is_form:
            self._check_origin()
        if request.endpoint in _OPEN or not (has_accounts or self._hash is not None):
            return None
        if g.session.known:
            if is_form and has_accounts:
                self._check_role()
            return None
        if request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
            return redirect(url_for("login", next=request.full_path.removesuffix("?")), HTTPStatus.SEE_OTHER)
        abort(HTTPStatus.UNAUTHORIZED, "Sign in first.")

    def _find_whether_accounts_exist(self) -> bool:
        try:
            return self._accounts.exist()
        except AccountsError as error:
            # The page must not be open to everybody because a file can't be read.
            self._log.error("%s", error)
            abort(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}.")

    def _is_valid(self, session: Session, has_accounts: bool) -> bool:
        """Whether the session still counts: an account's until its password or role changes. It also sets
        `g.account`."""
        if not session.known:
            return True
        if not has_accounts:
            return self._hash is not None and not session.mark
        account = self._accounts.find(session.by)
        if account is None or account.mark != session.mark:
            return False
        g.account = account
        return True

    def _check_role(self) -> None:
        """Accepts a form that the account's role permits."""
        account: Account = g.account
        if (why := refuse_form(request.endpoint or "", account.name, account.role)) is not None:
            self._log.warning("refused %s: %s", request.endpoint, why)
            # Who sends such forms again and again must not fill the record.
            if self._attempts.may_try(f"form {account.name}", _RECORDED_FORMS):
                self._changes.record_refused_form(why)
            abort(HTTPStatus.FORBIDDEN, why)

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

    def _begin(self, *, known: bool, by: str, mark: str = "") -> None:
        g.cookie = self._sessions.issue(known=known, by=by, mark=mark)
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
        return self._login_page(_local(request.args.get("next", "")), "")

    @staticmethod
    def _login_page(target: str, wrong: str) -> str:
        return render_template("login.html", next=target, wrong=wrong)

    def _enter(self) -> AnyResponse | tuple[str, int]:
        target, by = _local(request.form.get("next", "")), request.form.get("by", "")
        if self._hash is None and not g.has_accounts:
            return _redirect(target)
        address = request.remote_addr or ""
        # A proxy may pass on a client's own X-Forwarded-For, so the attempts through it are limited together.
        proxy = request.environ.get("monitor.proxy", "")
        may_try = self._attempts.may_try(address) if address != proxy else True
        if not may_try or (proxy and not self._attempts.may_try(f"proxy {proxy}", _PROXY_ATTEMPTS)):
            wrong = "Too many wrong passwords: wait one minute, then try again."
            return self._login_page(target, wrong), HTTPStatus.TOO_MANY_REQUESTS
        password = request.form.get("password", "")
        if g.has_accounts:
            right = self._sign_in(by.strip(), password)
        else:
            right = self.is_shared_password(password)
            if right:
                self._begin(known=True, by=by)
        if not right:
            wrong = "Wrong name or password." if g.has_accounts else "Wrong password."
            return self._login_page(target, wrong), HTTPStatus.FORBIDDEN
        self._attempts.forget(address)
        self._attempts.forget(f"proxy {proxy}")
        return _redirect(target)

    def _sign_in(self, name: str, password: str) -> bool:
        """Begins a session of that account. Returns whether name and password are right."""
        if not self._attempts.may_try(f"name {name}", _NAME_ATTEMPTS):
            return False
        account = self._accounts.find_by_password(name, password)
        if account is None:
            return False
        self._attempts.forget(f"name {name}")
        self._begin(known=True, by=account.name, mark=account.mark)
        self._log.info("%s (%s) signed in", account.name, account.role)
        return True

    def is_shared_password(self, password: str) -> bool:
        """Whether it is the one password of a line without accounts."""
        with self._verifying:
            return self._hash is not None and verify(password, self._hash)

    def _leave(self) -> AnyResponse:
        self._begin(known=False, by="")
        must_sign_in = self._hash is not None or g.has_accounts
        return redirect(url_for("login" if must_sign_in else "wall"), HTTPStatus.SEE_OTHER)

    def _rename(self) -> AnyResponse:
        session: Session = g.session
        self._begin(known=session.known, by=tidy_name(request.form.get("by", "")))
        return _redirect(_local(request.form.get("next", "")))

    def _template_values(self) -> dict[str, object]:
        """Values for every template."""
        session: Session | None = g.get("session")
        return {
            "account": g.get("account"),
            "has_accounts": g.get("has_accounts", False),
            "may": _may,
            "token": self._sessions.token(session) if session else "",
            "by": session.by if session else "",
            "signed_in": bool(session and session.known),
            "here": request.full_path.removesuffix("?"),
        }


def _may(permission: Permission) -> bool:
    """Whether the present request's person may do that; everybody may while there are no accounts."""
    account: Account | None = g.get("account")
    return may(account.role, permission) if account is not None else not g.get("has_accounts", False)


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
