"""What `line-monitor check` finds out about the broker.

It changes nothing there: what it publishes is on topics of its own and is cleared again. It must never print
a secret, and never use a running line's client id.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from monitor import paths
from monitor.commands.finding import Finding, Level
from monitor.settings import Settings


class OtherLineSearch:
    """Listens for another line with the same names, on a thread beside the other checks."""

    def __init__(self, settings: Settings, running: bool) -> None:
        self._settings, self._running = settings, running
        self._other: str | None = None
        self._refusal = ""
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        from monitor.publish.broker_client import ConnectError
        from monitor.publish.other_session import listen

        own = _find_own_session(self._settings) if self._running else ""
        if own is None:
            return  # every heartbeat may be our own
        try:
            heard = listen(self._settings, {own})
        except ConnectError:
            return  # the broker's own findings say what is wrong
        self._other, self._refusal = heard.other, heard.refusal
        if self._running and not (heard.heard_own or heard.refusal or heard.other):
            self._refusal = (
                "no heartbeat of the line that runs here came within 3 s (it is not connected, or its "
                "account may not read it)"
            )

    def find(self) -> Iterator[Finding]:
        """What was heard of another line, or why none can be heard."""
        from monitor.publish.other_session import describe_deafness, describe_other

        self._thread.join(15)
        if self._other is not None:
            yield Finding(Level.FAIL, "broker", describe_other(self._settings, self._other))
        elif self._refusal:
            yield Finding(Level.WARN, "broker", describe_deafness(self._settings, self._refusal))


def _find_own_session(settings: Settings) -> str | None:
    """The session of the line that runs here, from its journal: check may not see the service's runtime
    directory. None when it is not known."""
    from monitor.journal.reader import JournalReader, JournalReadError

    try:
        with JournalReader(paths.journal(settings)) as reader:
            running = [one.session for one in reader.sessions() if one.ended_utc is None and one.session]
    except JournalReadError:
        return None
    return running[-1] if running else None


def find_broker(settings: Settings, running: bool, search: OtherLineSearch) -> Iterator[Finding]:
    """All about the broker. A line that runs reports itself what the broker refuses: nothing is published
    beside it."""
    from monitor.publish import tls_files
    from monitor.publish.broker_client import ConnectError
    from monitor.publish.broker_trial import BrokerTrial

    problems = tls_files.find_problems(settings.mqtt)
    for problem in problems:
        yield Finding(Level.FAIL, "broker", problem)
    if not problems:
        try:
            found = BrokerTrial(settings, publishes=not running).run()
        except ConnectError as error:
            yield Finding(Level.FAIL, "broker", str(error))
        else:
            if not any(shortcoming.is_fatal for shortcoming in found):
                where = f"{settings.mqtt.host}:{settings.mqtt.port}"
                is_tried = not (running or any(shortcoming.is_untried for shortcoming in found))
                yield Finding(
                    Level.OK, "broker", f"{where} answers{' and lets us publish' if is_tried else ''}"
                )
            for shortcoming in found:
                level = Level.FAIL if shortcoming.is_fatal else Level.WARN
                yield Finding(level, "broker", shortcoming.text)
            yield from search.find()
    yield from _find_weak_settings(settings)


def _find_weak_settings(settings: Settings) -> Iterator[Finding]:
    mqtt = settings.mqtt
    if mqtt.protocol == 4:
        yield Finding(
            Level.WARN,
            "broker",
            "mqtt.protocol = 4 has no message expiry: a broker could deliver old messages after an "
            "interruption; use a broker with MQTT 5 and set mqtt.protocol = 5",
        )
    is_local = mqtt.host in ("127.0.0.1", "localhost", "::1")
    if mqtt.password is not None and mqtt.ca_file is None and mqtt.cert_file is None and not is_local:
        yield Finding(Level.WARN, "broker", "the password is sent unencrypted: set mqtt.ca_file for TLS")
    if mqtt.username is not None and mqtt.password is None:
        yield Finding(
            Level.WARN,
            "broker",
            "mqtt.username is set without a password: set the environment variable "
            "LINE_MONITOR__MQTT__PASSWORD; for the systemd service write it to "
            "/etc/line-monitor/mqtt_password, and run check with CREDENTIALS_DIRECTORY=/etc/line-monitor",
        )
