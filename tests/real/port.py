"""Free TCP ports of 127.0.0.1 for the servers that tests start."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A port that nothing uses, below those that the kernel gives to outgoing connections.

    Between the choice and the server's own bind no connection of another test can take it. The choice is
    random, as tests in several processes choose at the same time. Browsers refuse port 10080, so the range
    begins above it.
    """
    for port in _candidates():
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no TCP port is free")


def _candidates() -> Iterator[int]:
    first_outgoing = int(_RANGE.read_text().split()[0])
    ports = range(11_000, first_outgoing)
    return iter(random.SystemRandom().sample(ports, min(200, len(ports))))
