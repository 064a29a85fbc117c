"""How much memory this process may count on: the machine's, or less where its control group is limited."""

from __future__ import annotations

import os
from pathlib import Path

_LIMIT = Path("/sys/fs/cgroup/memory.max")


def installed(limit: Path = _LIMIT) -> int:
    """Bytes. `limit` holds the control group's limit, as a container sees it; it may be missing or `max`."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        text = limit.read_text(encoding="ascii").strip()
    except OSError:
        # No control groups, or not of version 2: then the machine's memory is all there is to know.
        return machine
    return min(machine, int(text)) if text.isdigit() else machine
