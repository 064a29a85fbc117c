"""A training takes no processor time that the line wants, and is the first to go when memory runs out."""

from __future__ import annotations

import os
import subprocess
import sys

REFUSE = """
import os
def refuse(*_):
    raise PermissionError(1, "Operation not permitted")
os.sched_setscheduler = refuse
"""
PROGRAM = """
import os
from monitor.teaching.background import count_threads, work_in_background
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
assert count_threads() == 1
work_in_background()
print(os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0), open("/proc/self/oom_score_adj").read())
"""


def run(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_every_other_program_comes_first() -> None:
    assert run(PROGRAM) == [str(os.SCHED_IDLE), "19", "1000"]


def test_where_the_idle_class_is_refused_memory_is_still_given_up_first() -> None:
    assert run(REFUSE + PROGRAM) == [str(os.SCHED_OTHER), "19", "1000"]
