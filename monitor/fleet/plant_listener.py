"""Listens to all lines on the broker of the settings.

It knows nothing of what the messages mean. It subscribes only; it publishes nothing and has no Will.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from monitor.fleet.fleet_error import FleetError
from monitor.fleet.plant_overview import SILENT_S, TOPICS, LineOverview, PlantOverview
from monitor.publish.broker_client import BrokerClient, Subscriptions, open_client
from monitor.settings import Settings

_STEP_S = 0.1
_RETAINED_S = 0.5
"""A broker sends retained messages right after the subscription."""


class PlantListener:
    """A connection that fills an overview."""

    def __init__(self, client: BrokerClient, clock: Callable[[], float]) -> None:
        self._client, self._clock = client, clock
        self._overview = PlantOverview()
        self._told: dict[str, tuple[str, ...]] = {}

    def lines(self) -> list[LineOverview]:
        """The lines as they are now."""
        return self._overview.lines(self._clock())

    def take_changes(self) -> Iterator[str]:
        """One line for each line that is not as at the last call, whatever it has counted."""
        for line in self.lines():
            if self._told.get(line.line) != line.condition():
                self._told[line.line] = line.condition()
                yield "  ".join(filter(None, line.condition()))

    def listen(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Takes messages for so long, or until the condition holds. Raises FleetError when the connection
        ends."""
        end = self._clock() + seconds
        while (left := end - self._clock()) > 0 and not until():
            self._client.wait_for(lambda: bool(self._client.received), min(_STEP_S, left))
            taken, self._client.received = self._client.received, []
            for message in taken:
                self._overview.take(message.topic, message.payload, self._clock())
            if not self._client.is_open:
                raise FleetError(self._client.explain_end())

    def listen_once(self) -> None:
        """Listens until every line has said whether it lives: 2 s at most, and less where all have."""
        self.listen(_RETAINED_S)
        self.listen(SILENT_S, self._overview.is_settled)


@contextmanager
def open_listener(settings: Settings, clock: Callable[[], float] = time.monotonic) -> Iterator[PlantListener]:
    """Connects with the account of the settings. Raises ConnectError and FleetError."""
    client_id = f"{settings.line.site}.{settings.line.name}.f-{secrets.token_hex(4)}"
    client = open_client(settings.mqtt, client_id, None, Subscriptions(TOPICS), diagnose=True)
    try:
        if client.unreadable:
            raise FleetError(
                f"{client.where}: the account may not read {', '.join(client.unreadable)}: use one that "
                "may read all lines (`topic read +/+/status` and so on in the ACL)"
            )
        yield PlantListener(client, clock)
    finally:
        client.disconnect()
