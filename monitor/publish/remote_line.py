"""A running line as another program sees it over the broker: its state and its heartbeat, and its reset.

It knows nothing of files: the line may run on another machine. It uses a client id of its own, and never
publishes as the line.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import msgspec

from monitor.errors import LineMonitorError
from monitor.line_state.latch_file import Latch
from monitor.publish.broker_client import BrokerClient, Subscriptions, open_client
from monitor.publish.other_session import make_client_id
from monitor.settings import Settings

STATUS_S = 2.0
"""The longest wait for the status, which the broker keeps. A broker that keeps none gets it every second."""
HEARTBEAT_S = 3.0
"""A line without a heartbeat for so long is not alive (see the gateway's rules in `deploy/mqtt.md`)."""
RESET_S = 3.0
_LATCHES = tuple(latch.word for latch in Latch if latch is not Latch.NONE)
_OTHER_ACCOUNT = "use one that may, as LINE_MONITOR__MQTT__USERNAME=operator1 in config/mosquitto-acl-example"


class RemoteError(LineMonitorError):
    """The line can't be reached over the broker. The message is one line with the fix."""


@dataclass(frozen=True, slots=True)
class RemoteState:
    status: dict[str, Any]
    """The payload of `P/status`."""
    is_alive: bool
    """Whether its heartbeat came. Without it the status may be of a line that is gone."""

    @property
    def latch(self) -> str | None:
        """Why the line waits for a reset; None where it does not."""
        reason = self.status.get("reason")
        return reason if reason in _LATCHES else None

    def describe(self, prefix: str) -> list[str]:
        """The state in lines for a person."""
        status = self.status
        word = "ready" if status.get("ready") and self.is_alive else "not ready"
        reason = f" ({status['reason']})" if status.get("reason") else ""
        lines = [
            f"{prefix}: {status.get('state', 'unknown')}, {word}{reason}, since {status.get('utc', '?')}"
        ]
        if not self.is_alive:
            lines.append("no heartbeat: the line or its broker is gone; this is the last status")
        lines += [f"camera {name}: {state}" for name, state in (status.get("cameras") or {}).items()]
        lines += self._describe_challenge()
        lines += [f"look for: {part}" for part in self.describe_latched()]
        return lines

    def describe_latched(self) -> list[str]:
        """The parts that a person has to look for, a line each."""
        latched = self.status.get("latched") or {}
        lines = []
        for part in latched.get("parts") or []:
            picture = part.get("link") or part.get("snapshot") or "no picture"
            lines.append(f"camera {part['camera']}, frame {part['frame']}, {part['captured_utc']}, {picture}")
        if latched.get("more"):
            lines.append("and more: `line-monitor journal` lists them")
        return lines

    def _describe_challenge(self) -> list[str]:
        """Where the challenge stands; nothing after a success and for a line without challenge parts."""
        challenge = self.status.get("challenge") or {}
        if challenge.get("phase") in (None, "passed"):
            return []
        part = f", next part {challenge['part']}" if challenge.get("part") else ""
        lines = [f"challenge: {challenge['phase']} ({challenge.get('cause')}){part}: see the page Challenge"]
        return [*lines, *filter(None, [challenge.get("problem")])]


@dataclass(frozen=True, slots=True)
class ResetLine:
    """A line before and after its reset. Both states are the same where nothing was latched."""

    before: RemoteState
    after: RemoteState


class RemoteLine:
    """`with RemoteLine(settings) as line:` connects with the settings' account. Raises ConnectError."""

    def __init__(self, settings: Settings) -> None:
        self._status_topic, self._heartbeat_topic, self._reset_topic = (
            f"{settings.prefix}/{kind}" for kind in ("status", "heartbeat", "reset")
        )
        self._prefix = settings.prefix
        self._client: BrokerClient = open_client(
            settings.mqtt,
            make_client_id(settings, "r", uuid.uuid4().hex[:4]),
            None,
            Subscriptions((self._status_topic, self._heartbeat_topic)),
        )

    def __enter__(self) -> RemoteLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client.is_open:
            self._client.disconnect()

    def read_state(self) -> RemoteState:
        """The line's state now. Raises RemoteError where no line speaks, or the account may not read it."""
        if self._status_topic in self._client.unreadable:
            raise RemoteError(
                f"the broker does not let this account read {self._status_topic}: {_OTHER_ACCOUNT}"
            )
        if not self._client.wait_for(lambda: self._newest_status() is not None, STATUS_S):
            raise RemoteError(
                f"no line speaks as {self._prefix} at this broker: start it, or correct line.site, line.name"
            )
        is_alive = self._client.wait_for(self._has_heartbeat, HEARTBEAT_S)
        return RemoteState(self._newest_status() or {}, is_alive)

    def reset(self) -> ResetLine | None:
        """Resets the line, and returns its states before it and once the latch is lifted; None where this
        account may not read them. Raises RemoteError where the line does not take the reset."""
        before = None if self._status_topic in self._client.unreadable else self.read_state()
        if before is not None and not before.is_alive:
            raise RemoteError(f"the line {self._prefix} sends no heartbeat: start it, then reset it")
        message = self._client.publish_and_wait(self._reset_topic, b"{}")
        if message in self._client.refused or message not in self._client.acknowledged:
            raise RemoteError(
                f"the broker does not let this account publish on {self._reset_topic}: {_OTHER_ACCOUNT}"
            )
        if before is None:
            return None
        if before.latch is None:
            return ResetLine(before, before)

        def is_lifted() -> bool:
            return RemoteState(self._newest_status() or {}, True).latch is None

        if not self._client.wait_for(is_lifted, RESET_S):
            raise RemoteError(
                f"the line is still latched after the reset ({before.latch}): something latches it again, "
                "see its log; or a broker with MQTT 3.1.1 drops what this account publishes, see its ACL"
            )
        return ResetLine(before, RemoteState(self._newest_status() or {}, True))

    def _newest_status(self) -> dict[str, Any] | None:
        for message in reversed(self._client.received):
            if message.topic == self._status_topic:
                try:
                    return msgspec.json.decode(message.payload, type=dict[str, Any])
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    continue
        return None

    def _has_heartbeat(self) -> bool:
        return any(message.topic == self._heartbeat_topic for message in self._client.received)
