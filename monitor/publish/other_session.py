"""Whether another line speaks under this line's names: its heartbeat carries another session.

It knows nothing of verdicts. Two lines with one `line.site` and `line.name` have one client id and one set of
topics: they would end each other's connection again and again, and a gateway would take passes of parts that
it does not have. So a line listens before it connects as itself, and the newcomer stays silent.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection
from types import TracebackType

import msgspec

from monitor.publish.broker_client import BrokerClient, ConnectError, Received, Subscriptions
from monitor.settings import Settings

LISTEN_S = 3.0
"""The time in which a line that speaks sends three heartbeats."""
_SILENCE_S = 15.0
"""A line that was heard has left when it is silent for so long: a restart of its service takes less."""
_LONGEST_LISTEN_S = 60.0
_APART_NS = 500_000_000
_MOST_SESSIONS = 100
"""The most sessions that are kept apart; a plant has no more than a few."""


class _Heartbeat(msgspec.Struct):
    """What counts of the payload of `P/heartbeat`."""

    session: str
    n: int


class HeardSessions:
    """The sessions whose heartbeats were heard. `own` are no other sessions. Times are CLOCK_MONOTONIC
    nanoseconds."""

    def __init__(self, own: Collection[str]) -> None:
        self._own = frozenset(own)
        self._first: dict[str, tuple[int, int]] = {}
        """By session: the first heartbeat's number and when it was heard."""
        self.speaking: str | None = None
        """The other session that speaks; None while none does."""
        self.last_ns = 0
        """When it was last heard."""

    def note(self, message: Received, now_ns: int) -> None:
        """Takes a heartbeat. A session speaks once two of its heartbeats came 500 ms apart: what the broker
        had kept of a connection that has ended comes at once."""
        try:
            heartbeat = msgspec.json.decode(message.payload, type=_Heartbeat)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        if message.retained or heartbeat.session in self._own:
            return
        if len(self._first) >= _MOST_SESSIONS:
            self._first.clear()
        number, first_ns = self._first.setdefault(heartbeat.session, (heartbeat.n, now_ns))
        if heartbeat.n != number and now_ns - first_ns >= _APART_NS:
            self.speaking, self.last_ns = heartbeat.session, now_ns


class HeartbeatListener:
    """A connection under a client id of its own that receives the heartbeats of a line. `with` ends it.
    Raises ConnectError when there is no connection."""

    def __init__(self, settings: Settings, *, diagnose: bool) -> None:
        topics = Subscriptions((f"{settings.prefix}/heartbeat",))
        client_id = f"{settings.line.site}.{settings.line.name}.listen-{uuid.uuid4().hex[:8]}"
        self._client = BrokerClient(settings.mqtt, client_id, None, topics)
        try:
            self._client.connect(diagnose=diagnose)
        except ConnectError:
            self._client.free_client()
            raise

    def __enter__(self) -> HeartbeatListener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()

    @property
    def can_hear(self) -> bool:
        """Whether the broker took the subscription."""
        return not self._client.unreadable

    def take(self, heard: HeardSessions, clock: Callable[[], int]) -> None:
        """Waits at most 100 ms for heartbeats and notes them. Raises ConnectError when the connection
        ends."""
        self._client.wait_for(lambda: bool(self._client.received), 0.1)
        received, self._client.received = self._client.received, []
        for message in received:
            heard.note(message, clock())
        if not self._client.is_open:
            raise ConnectError(self._client.explain_end())


def find_other_session(
    settings: Settings, own: Collection[str], clock: Callable[[], int] = time.monotonic_ns
) -> str | None:
    """The other session that speaks under the line's names, after at most 3 s of listening; None without one.
    Raises ConnectError."""
    heard = HeardSessions(own)
    with HeartbeatListener(settings, diagnose=False) as listener:
        until = clock() + int(LISTEN_S * 1e9)
        while listener.can_hear and heard.speaking is None and clock() < until:
            listener.take(heard, clock)
    return heard.speaking


class OtherSessionGuard:
    """Keeps a line from speaking while another session speaks under its names."""

    def __init__(
        self, settings: Settings, session: str, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._settings, self._session, self._clock = settings, session, clock
        self._listen_s = LISTEN_S
        self._ended_ns: int | None = None

    def wait_until_free(self, report: Callable[[str], None], is_closed: Callable[[], bool]) -> None:
        """Returns when no other session was heard for 3 s, or when one that was heard has been silent for
        15 s. `report` gets a line about the other session. Raises ConnectError when the broker can't be
        reached."""
        heard = HeardSessions({self._session})
        self._choose_time()
        try:
            listener = HeartbeatListener(self._settings, diagnose=True)
        except ConnectError as error:
            if error.code is None:
                raise
            # The broker refuses this client: the line's own connection shows whether it refuses the line too.
            return
        with listener:
            until = self._clock() + int(self._listen_s * 1e9)
            while listener.can_hear and self._clock() < until and not is_closed():
                listener.take(heard, self._clock)
                if heard.speaking is not None:
                    report(describe_other(self._settings, heard.speaking))
                    until = heard.last_ns + int(_SILENCE_S * 1e9)
                    self._listen_s = LISTEN_S
        self._ended_ns = self._clock()

    def _choose_time(self) -> None:
        """Listens twice as long as the last time when that was a short while ago: another client ended the
        connection since, and was not heard."""
        if self._ended_ns is not None and self._clock() - self._ended_ns < 2 * _LONGEST_LISTEN_S * 1e9:
            self._listen_s = min(2 * self._listen_s, _LONGEST_LISTEN_S)
        else:
            self._listen_s = LISTEN_S


def describe_other(settings: Settings, session: str) -> str:
    """A line about another session, with the fix."""
    return (
        f"another line speaks as {settings.prefix} at broker {settings.mqtt.host}:{settings.mqtt.port} "
        f"(session {session[:8]}...): give each line its own line.site and line.name; "
        "until then only one of them may run"
    )
