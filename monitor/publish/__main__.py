"""The supervisor starts this worker as `python -m monitor.publish`."""

from monitor.line_state.worker_process import run_worker
from monitor.publish.worker import work

run_worker(work)
