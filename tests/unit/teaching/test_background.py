"""A training takes no processor time that the line wants, and is the first to go when memory runs out."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import os
from monitor.teaching.background import count_threads, work_in_background
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
assert count_threads() == 1
work_in_background()
print(os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0), open("/proc/self/oom_score_adj").read())
"""


def test_every_other_program_comes_first() -> None:
    told = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    assert told.split() == [str(os.SCHED_IDLE), "19", "1000"]
