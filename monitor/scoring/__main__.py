"""The supervisor starts this worker as `python -m monitor.scoring`."""

import logging
import os

from monitor.line_state.worker_process import run_worker
from monitor.scoring.worker import work

run_worker(work)
# The interpreter would take about a second to free torch and OpenVINO, and at a stop the supervisor waits for
# half of one. All verdicts are in the rings and all messages are sent.
logging.shutdown()
os._exit(0)
