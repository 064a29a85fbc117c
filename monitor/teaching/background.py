"""Makes this process one that only takes what the line leaves: processor time, memory.

It knows nothing of what the process does.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

_NICENESS = 19
_OOM_SCORE = Path("/proc/self/oom_score_adj")


def work_in_background() -> None:
    """Gives every other program of this machine precedence, also over threads that start later.

    The processor: SCHED_IDLE (sched(7)), by which a thread of the line that wakes up takes the processor at
    once. Memory: the kernel ends this process first when memory runs out.
    """
    log = logging.getLogger(__name__)
    os.nice(_NICENESS)
    # Some containers forbid one of these two; the other and the niceness stay.
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except OSError as error:
        log.warning("can't lower the priority further: %s", error)
    try:
        _OOM_SCORE.write_text("1000", encoding="ascii")
    except OSError as error:
        log.warning("can't be the first to end when memory runs out: %s", error)


def count_threads() -> int:
    """How many threads such a process should have: one less than there are processors, at least one."""
    return max(1, len(os.sched_getaffinity(0)) - 1)
