"""The supervisor starts this worker as `python -m monitor.capture`."""

from monitor.capture.worker import work
from monitor.line_state.worker_process import run_worker

run_worker(work)
