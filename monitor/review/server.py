"""Serves the page over HTTP, with bounds on what clients may use: bytes, time, connections and memory.

It knows nothing of the page's content. The worker process runs at low priority: an overloaded server refuses
requests and takes no processor time from the line.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable
from http.client import HTTPConnection, HTTPException
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from flask import Flask
from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import ErrorTask

from monitor.accounts.accounts_file import AccountsError, AccountsFile
from monitor.errors import LineMonitorError
from monitor.line_state.board import Board
from monitor.line_state.worker_process import Worker
from monitor.review.access import is_local, refusal
from monitor.review.application import MAX_BODY_BYTES, build
from monitor.review.event_stream import MOST_STREAMS
from monitor.review.proxy import ProxiedApplication, PublicAddress
from monitor.review.request_checks import HEADERS
from monitor.review.request_timeout import RequestTimeout
from monitor.review.torch_import import LONGEST_S, TorchImport
from monitor.settings import ReviewSettings, Settings

_NICENESS = 10
_THREADS = 4
_CONNECTIONS = 64
_IDLE_S = 15
_REQUEST_S = 20.0
_RETRY_S = 5.0
_CHECK_EVERY_S = 5.0
_PROMISE_S = 30.0
"""Seconds that an overloaded server may go without an answer before the supervisor restarts it."""


class ReviewError(LineMonitorError):
    """The page can't be served. The message is one line with the reason and the fix."""


class _ErrorResponse(ErrorTask):  # type: ignore[misc]
    """waitress's own answer to a malformed or oversized request, which never reaches the application."""

    def execute(self) -> None:
        self.response_headers.extend([*HEADERS.items(), ("Cache-Control", "no-store")])
        super().execute()


class _Channel(HTTPChannel):  # type: ignore[misc]
    error_task_class = _ErrorResponse


class _Bounded:
    """The application with at most `_THREADS` requests at a time, not counting the streams of events. These
    have their own bound, and mostly wait."""

    def __init__(self, application: Flask | ProxiedApplication) -> None:
        self._application = application
        self._free = threading.BoundedSemaphore(_THREADS)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if str(environ.get("PATH_INFO", "")).endswith("/events"):
            return self._application(environ, start_response)
        with self._free:
            return self._application(environ, start_response)


class Server:
    """The page on its port; `with Server(settings) as server:` serves it. Raises ReviewError."""

    def __init__(
        self,
        settings: Settings,
        runtime: Path | None = None,
        board: Board | None = None,
        *,
        request_s: float = _REQUEST_S,
    ) -> None:
        try:
            why = refusal(settings.review, has_accounts=AccountsFile.of(settings).exist())
            if why is not None:
                raise ReviewError(why)
            self._application = build(settings, runtime, board)
        except AccountsError as error:
            raise ReviewError(str(error)) from None
        # waitress logs every request that waits and every stream that ends: too many would fill the log.
        logging.getLogger("waitress").setLevel(logging.WARNING)
        logging.getLogger("waitress.queue").setLevel(logging.CRITICAL)
        host, port = settings.review.host, settings.review.port
        connections: dict[int, Any] = {}
        self._request_timeout = RequestTimeout(connections, request_s)
        try:
            self._server = create_server(
                _Bounded(_behind_proxy(self._application.wsgi, settings.review)),
                map=connections,
                host=host,
                port=port,
                threads=_THREADS + MOST_STREAMS,
                ident="",
                connection_limit=_CONNECTIONS,
                channel_timeout=_IDLE_S,
                cleanup_interval=5,
                max_request_header_size=16 * 1024,
                max_request_body_size=MAX_BODY_BYTES,
                # Without `public_url` nothing reads these headers.
                clear_untrusted_proxy_headers=settings.review.public_url is None,
                backlog=64,
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ReviewError(
                f"review page: can't listen on {host} port {port}: {reason}; "
                "set review.host and review.port to a free address and port, or port = 0 to turn the page off"
            ) from None
        # A host name may have several addresses, each with its own listener. There are no connections yet.
        for listener in connections.values():
            if hasattr(listener, "channel_class"):
                listener.channel_class = _Channel
        self.port: int = getattr(self._server, "effective_port", port)
        self.host = host

    def __enter__(self) -> Server:
        self._application.index.start()
        self._request_timeout.start()
        threading.Thread(target=self._server.run, name="http", daemon=True).start()
        self._application.teachings.take_up()
        return self

    def __exit__(self, *exception: object) -> None:
        self._application.index.stop()
        self._application.events.stop()
        self._application.collections.stop()
        self._application.teachings.stop()
        self._request_timeout.stop()
        self._server.close()

    @property
    def torch_import(self) -> TorchImport:
        """The import that may hold all threads."""
        return self._application.torch_import

    @property
    def address(self) -> str:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{shown}:{self.port}/"

    def is_answering(self, within_s: float) -> bool:
        """Whether a request from this machine gets an answer within that time."""
        connection = HTTPConnection(_reachable(self.host), self.port, timeout=within_s)
        try:
            connection.request("GET", "/alive", headers={"Host": f"localhost:{self.port}"})
            return connection.getresponse().status == 204
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()


def _behind_proxy(application: Flask, settings: ReviewSettings) -> Flask | ProxiedApplication:
    if settings.public_url is None:
        return application
    return ProxiedApplication(application, PublicAddress.parse(settings.public_url))


def _reachable(host: str) -> str:
    """A host for requests from this machine: nothing can connect to 0.0.0.0 or ::."""
    if is_local(host):
        return host
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"


def serve_until_stopped(settings: Settings, say: Callable[[str], None]) -> None:
    """Serves the page until SIGTERM or SIGINT, for the `review` command. Raises ReviewError."""
    if settings.review.port == 0:
        raise ReviewError("review.port = 0 turns the page off: set another port")
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    signal.signal(signal.SIGINT, lambda *_: ended.set())
    with Server(settings) as server:
        say(f"review page on {server.address}")
        ended.wait()


def work(worker: Worker) -> None:
    """The review worker's loop: when the page can't be served it reports the reason and tries again."""
    os.nice(_NICENESS)
    worker.mark_running()
    while not worker.stopping:
        try:
            server = Server(worker.settings, worker.folder, worker.board)
        except ReviewError as error:
            worker.log.error("%s", error)
            worker.board.write_trouble(worker.name, str(error))
            worker.sleep(_RETRY_S)
            continue
        worker.board.write_trouble(worker.name, "")
        server.torch_import.announce = worker.report_alive
        with server:
            worker.log.info("review page on %s", server.address)
            _watch(worker, server)


def _watch(worker: Worker, server: Server) -> None:
    """Renews the worker's promise only while the page answers: the supervisor restarts a hung server."""
    has_answered = False  # the first promise needs no answer: the server has just started
    while not worker.stopping:
        if server.is_answering(_CHECK_EVERY_S) or not has_answered:
            has_answered = True
            # A shorter promise must not follow the one that announced the import.
            worker.report_alive(LONGEST_S if server.torch_import.is_running else _PROMISE_S)
        _sleep(worker, _CHECK_EVERY_S)


def _sleep(worker: Worker, seconds: float) -> None:
    """Sleeps until the worker should stop. `Worker.sleep` would renew the promise."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.1)):
        if worker.stopping:
            return
        pause.wait(0.1)
