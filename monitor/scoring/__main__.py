"""The supervisor starts this worker as `python -m monitor.scoring`.

It ends the process without the interpreter's clean-up.
"""

import os

from monitor.line_state.worker_process import run_worker
from monitor.scoring.worker import work
from monitor.system import logs

run_worker(work)
# The interpreter would take about a second to free torch and OpenVINO, and at a stop the supervisor waits for
# half of one. All verdicts are in the rings; messages and lines of the log have been given their time.
logs.wait()
os._exit(0)
