"""Whether another line speaks under this line's names: its heartbeat carries another session.

It knows nothing of verdicts. Two lines with one `line.site` and `line.name` have one client id and one set of
topics: they would end each other's connection again and again, and a gateway would take passes of parts that
it does not have. So a line listens before it connects as itself, and the newcomer stays silent.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from types import TracebackType

import msgspec

from monitor.publish.broker_client import BrokerClient, ConnectError, Received, Subscriptions
from monitor.publish.connect_trouble import BUSY
from monitor.settings import Settings

LISTEN_S = 3.0
"""The time in which a line that speaks sends three heartbeats."""
_SILENCE_S = 15.0
"""A line that was heard has left when it is silent for so long: a restart of its service takes less."""
_LONGEST_LISTEN_S = 60.0
_APART_NS = 500_000_000
_ECHO_NS = 5_000_000_000
_MOST_SESSIONS = 100
"""The most sessions that are kept apart; a plant has no more than a few."""


def make_client_id(settings: Settings, kind: str, end: str) -> str:
    """The client id of another connection of this line. It is no longer than the running line's, as some
    brokers take at most 23 characters."""
    return f"{settings.line.site}.{settings.line.name}.{kind}-{end}"


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
        self.heard_own = False

    def note(self, message: Received, now_ns: int) -> None:
        """Takes a heartbeat. A session speaks once two of its heartbeats came 500 ms apart: what the broker
        had kept of a connection that has ended comes at once."""
        try:
            heartbeat = msgspec.json.decode(message.payload, type=_Heartbeat)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        if message.retained:
            return
        if heartbeat.session in self._own:
            self.heard_own = True
            return
        if len(self._first) >= _MOST_SESSIONS:
            self._first.clear()
        number, first_ns = self._first.setdefault(heartbeat.session, (heartbeat.n, now_ns))
        if heartbeat.n != number and now_ns - first_ns >= _APART_NS:
            self.speaking, self.last_ns = heartbeat.session, now_ns


class HeartbeatEcho:
    """What comes back of the line's own heartbeats over its own connection. Some brokers grant a subscription
    that their ACL forbids, and deliver nothing."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._heard = HeardSessions({session})
        self._connection, self._since_ns, self._now_ns = 0, 0, 0
        self.is_deaf = False
        """Whether no own heartbeat has come back over a connection for 5 s."""

    @property
    def other(self) -> str | None:
        """The other session that speaks while this line is connected; None 15 s after it was last heard."""
        is_silent = self._now_ns - self._heard.last_ns >= _SILENCE_S * 1e9
        return None if is_silent else self._heard.speaking

    def note(self, message: Received, now_ns: int) -> None:
        self._heard.note(message, now_ns)
        if self._heard.heard_own:
            self.is_deaf = False

    def step(self, connection: int, now_ns: int) -> None:
        """Takes the number of the present connection; 0 without one."""
        self._now_ns = now_ns
        if connection != self._connection:
            self._connection, self._since_ns = connection, now_ns
            self._heard = HeardSessions({self._session})
        elif connection and now_ns - self._since_ns >= _ECHO_NS:
            self.is_deaf = not self._heard.heard_own


class HeartbeatListener:
    """A connection under a client id of its own that receives the heartbeats of a line. `with` ends it.
    Raises ConnectError when there is no connection."""

    def __init__(self, settings: Settings, *, diagnose: bool) -> None:
        topics = Subscriptions((f"{settings.prefix}/heartbeat",))
        client_id = make_client_id(settings, "l", uuid.uuid4().hex[:4])
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


@dataclass(frozen=True, slots=True)
class Hearing:
    """What was heard of the line's names."""

    other: str | None
    """The other session that speaks; None without one."""
    heard_own: bool
    """Whether a heartbeat of an own session came."""
    refusal: str
    """Why the broker lets nobody listen; empty where it does."""


def listen(settings: Settings, own: Collection[str], clock: Callable[[], int] = time.monotonic_ns) -> Hearing:
    """Listens for at most 3 s for another session under the line's names. Raises ConnectError when the broker
    can't be reached."""
    heard = HeardSessions(own)
    try:
        listener = HeartbeatListener(settings, diagnose=False)
    except ConnectError as error:
        if error.code is None:
            raise
        return Hearing(None, False, str(error))
    with listener:
        until = clock() + int(LISTEN_S * 1e9)
        while listener.can_hear and heard.speaking is None and clock() < until:
            listener.take(heard, clock)
        refusal = "" if listener.can_hear else "the broker refuses the subscription"
    return Hearing(heard.speaking, heard.heard_own, refusal)


class Suspicion(Enum):
    """What the end of the line's last connection says of another client, in the order of its weight."""

    NONE = "none"
    SHORT = "short"
    """The broker ended several short connections without a reason: a takeover, or a bad network."""
    TAKEN_OVER = "taken over"


class OtherSessionGuard:
    """Keeps a line from speaking while another session speaks under its names."""

    def __init__(
        self,
        settings: Settings,
        session: str,
        clock: Callable[[], int] = time.monotonic_ns,
        yields: bool = False,
    ) -> None:
        """`yields`: the publisher before this one had been thrown out, and waited."""
        self._settings, self._session, self._clock = settings, session, clock
        self._yields = yields
        self._waited_s, self._ended_ns = 0.0, 0
        """The last wait that counts towards a longer one, and when it ended."""
        self._heard_s = 0.0
        """How long the attempts that a bad network has ended have listened."""
        self._refusal = ""
        self._echo = HeartbeatEcho(session)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why another line with these names can't be noticed, or that one is, a line each."""
        found = []
        why = self._refusal or ("the line's own heartbeat does not come back" if self._echo.is_deaf else "")
        if why:
            found.append(describe_deafness(self._settings, why))
        if self._echo.other is not None:
            found.append(describe_other(self._settings, self._echo.other))
        return tuple(found)

    def hear(self, message: Received) -> None:
        """Takes a heartbeat that came over the line's own connection."""
        self._echo.note(message, self._clock())

    def step(self, connection: int) -> None:
        """Call it in each turn with the number of the present connection; 0 without one."""
        self._echo.step(connection, self._clock())

    def wait_until_free(
        self,
        report: Callable[[str], None],
        is_closed: Callable[[], bool],
        suspicion: Suspicion = Suspicion.NONE,
        *,
        diagnose: bool = False,
    ) -> None:
        """Returns when no other session was heard for 3 s, or when one that was heard has been silent for
        15 s. Where another client takes the connection over again and was not heard, each wait is twice as
        long as the last. `report` gets a line about the other session. Raises ConnectError when the broker
        can't be reached."""
        if self._yields:
            suspicion = Suspicion.TAKEN_OVER
        heard = HeardSessions({self._session})
        try:
            listener = HeartbeatListener(self._settings, diagnose=diagnose)
        except ConnectError as error:
            if error.code is None or error.code in BUSY:
                raise
            self._refusal = str(error)
            self._wait_blindly(report, is_closed, suspicion)
            return
        self._refusal = ""
        listen_s = self._choose_s() if suspicion is Suspicion.TAKEN_OVER else LISTEN_S - self._heard_s
        began_ns = self._clock()
        try:
            with listener:
                if not listener.can_hear:
                    self._refusal = "the broker refuses the subscription to the heartbeat"
                until = began_ns + int(listen_s * 1e9)
                while listener.can_hear and self._clock() < until and not is_closed():
                    listener.take(heard, self._clock)
                    if heard.speaking is not None:
                        report(describe_other(self._settings, heard.speaking))
                        until = heard.last_ns + int(_SILENCE_S * 1e9)
                        listen_s = LISTEN_S
        except ConnectError:
            if heard.speaking is not None or suspicion is Suspicion.TAKEN_OVER:
                raise
            if suspicion is Suspicion.NONE:
                # On a bad network the next attempts listen for the rest of the time.
                self._heard_s = min(LISTEN_S, self._heard_s + (self._clock() - began_ns) / 1e9)
                raise
            # The broker or the network ends a connection of another client id too: there is no other client.
        self._heard_s = 0.0
        if heard.speaking is None and (self._refusal or self._echo.is_deaf):
            self._wait_blindly(report, is_closed, suspicion)
            return
        self._yields = False
        if suspicion is Suspicion.TAKEN_OVER:
            self._waited_s, self._ended_ns = listen_s, self._clock()

    def _wait_blindly(
        self, report: Callable[[str], None], is_closed: Callable[[], bool], suspicion: Suspicion
    ) -> None:
        """Where another session can't be heard: waits at least as long as one would have to be silent. Two
        lines that can't hear each other then don't throw each other out again and again."""
        self._yields = False
        if suspicion is Suspicion.NONE:
            return
        listen_s = self._choose_s()
        wait_s = min(_LONGEST_LISTEN_S, listen_s / LISTEN_S * _SILENCE_S)
        report(
            f"another client seems to use the client id of this line, and can't be heard: the line waits "
            f"{wait_s:.0f} s; give each line its own line.site and line.name"
        )
        until = self._clock() + int(wait_s * 1e9)
        while self._clock() < until and not is_closed():
            time.sleep(0.05)
        self._waited_s, self._ended_ns = listen_s, self._clock()

    def _choose_s(self) -> float:
        """Twice as long as the last time when that was a short while ago: another client ended the connection
        since, and was not heard."""
        is_recent = self._clock() - self._ended_ns < 2 * _LONGEST_LISTEN_S * 1e9
        return min(2 * self._waited_s, _LONGEST_LISTEN_S) if self._waited_s and is_recent else LISTEN_S


def describe_other(settings: Settings, session: str) -> str:
    """A line about another session, with the fix."""
    return (
        f"another line speaks as {settings.prefix} at broker {settings.mqtt.host}:{settings.mqtt.port} "
        f"(session {session[:8]}...): give each line its own line.site and line.name; "
        "until then only one of them may run"
    )


def describe_deafness(settings: Settings, why: str) -> str:
    """A line about a broker at which another session can't be heard, with the fix."""
    ids = f"{make_client_id(settings, 'l', '')}*"
    return (
        f"{why}: another line that speaks as {settings.prefix} can't be noticed; let the line's account read "
        f"{settings.prefix}/heartbeat, as in config/mosquitto-acl-example, and take the client ids {ids}"
    )
