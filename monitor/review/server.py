"""The page served over HTTP, with bounds on everything a client may take: size, time, connections, memory.

Runs at low priority. An overrun server refuses; it must never take the processor from the line.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import ErrorTask

from monitor.errors import LineMonitorError
from monitor.line_state.worker_process import Worker
from monitor.review.access import is_local, refusal
from monitor.review.application import MOST_BODY, build
from monitor.review.request_checks import HEADERS
from monitor.review.request_timeout import Patience
from monitor.settings import Settings

_NICENESS = 10
_THREADS = 4
_CONNECTIONS = 64
_IDLE_S = 15
_REQUEST_S = 20.0
_RETRY_S = 5.0
_LOOK_EVERY_S = 5.0
_PROMISE_S = 30.0


class ReviewError(LineMonitorError):
    """The page can't be served; one line says why and the fix."""


class _Refusal(ErrorTask):  # type: ignore[misc]
    """The server's own answer to a request that is none, or too large: the page is not asked."""

    def execute(self) -> None:
        self.response_headers.extend([*HEADERS.items(), ("Cache-Control", "no-store")])
        super().execute()


class _Channel(HTTPChannel):  # type: ignore[misc]
    error_task_class = _Refusal


class Server:
    """The page on its port; `with Server(settings) as server:` serves it. Raises ReviewError."""

    def __init__(
        self, settings: Settings, runtime: Path | None = None, *, request_s: float = _REQUEST_S
    ) -> None:
        if (why := refusal(settings.review)) is not None:
            raise ReviewError(why)
        self._application = build(settings, runtime)
        # waitress warns of every request that waits; who overruns the page can't fill the log.
        logging.getLogger("waitress.queue").setLevel(logging.CRITICAL)
        host, port = settings.review.host, settings.review.port
        connections: dict[int, Any] = {}
        self._patience = Patience(connections, request_s)
        try:
            self._server = create_server(
                self._application.wsgi,
                map=connections,
                host=host,
                port=port,
                threads=_THREADS,
                ident="",
                connection_limit=_CONNECTIONS,
                channel_timeout=_IDLE_S,
                cleanup_interval=5,
                max_request_header_size=16 * 1024,
                max_request_body_size=MOST_BODY,
                backlog=64,
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ReviewError(
                f"review page: can't listen on {host} port {port}: {reason}; "
                "set review.host and review.port to what is free, or port = 0"
            ) from None
        # A name may stand for several addresses: each has a listener, and no connection is there yet.
        for each in connections.values():
            if hasattr(each, "channel_class"):
                each.channel_class = _Channel
        self.port: int = getattr(self._server, "effective_port", port)
        self.host = host

    def __enter__(self) -> Server:
        self._application.index.start()
        self._patience.start()
        threading.Thread(target=self._server.run, name="http", daemon=True).start()
        return self

    def __exit__(self, *trouble: object) -> None:
        self._application.index.stop()
        self._patience.stop()
        self._server.close()

    @property
    def address(self) -> str:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{shown}:{self.port}/"

    def answers(self, within_s: float) -> bool:
        """Whether the page still answers, asked as a browser would."""
        connection = HTTPConnection(_reachable(self.host), self.port, timeout=within_s)
        try:
            connection.request("GET", "/alive", headers={"Host": f"localhost:{self.port}"})
            return connection.getresponse().status == 204
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()


def _reachable(host: str) -> str:
    """From this machine: an address that stands for all of them is none to call."""
    if is_local(host):
        return host
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"


def alone(settings: Settings, say: Callable[[str], None]) -> None:
    """The `review` command: serves until SIGTERM or SIGINT. Raises ReviewError."""
    if settings.review.port == 0:
        raise ReviewError("review.port = 0 turns the page off: set a port")
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    signal.signal(signal.SIGINT, lambda *_: ended.set())
    with Server(settings) as server:
        say(f"review page on {server.address}")
        ended.wait()


def work(worker: Worker) -> None:
    """The review worker: a page that can't be served is said, and tried again; it is no reason to die."""
    os.nice(_NICENESS)
    worker.running()
    while not worker.stopping:
        try:
            server = Server(worker.settings, worker.folder)
        except ReviewError as error:
            worker.log.error("%s", error)
            worker.board.say(worker.name, str(error))
            worker.sleep(_RETRY_S)
            continue
        worker.board.say(worker.name, "")
        with server:
            worker.log.info("review page on %s", server.address)
            _watch(worker, server)


def _watch(worker: Worker, server: Server) -> None:
    """Promises only while the page answers, or is so overrun that it can't: then a little longer."""
    heard = False
    while not worker.stopping:
        if server.answers(_LOOK_EVERY_S) or not heard:
            heard = True
            worker.promise(_PROMISE_S)
        _sleep_unpromised(worker, _LOOK_EVERY_S)


def _sleep_unpromised(worker: Worker, seconds: float) -> None:
    pause = threading.Event()
    for _ in range(int(seconds / 0.1)):
        if worker.stopping:
            return
        pause.wait(0.1)
