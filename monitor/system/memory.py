"""How many bytes of memory this process can use: the machine's, or less in a limited control group."""

from __future__ import annotations

import os
from pathlib import Path

_LIMIT = Path("/sys/fs/cgroup/memory.max")


def usable_memory(limit: Path = _LIMIT) -> int:
    """Bytes. The file `limit` holds the control group's limit as seen from inside a container, or `max`."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        text = limit.read_text(encoding="ascii").strip()
    except OSError:
        # Without control groups of version 2 only the machine's memory is known.
        return machine
    return min(machine, int(text)) if text.isdigit() else machine
