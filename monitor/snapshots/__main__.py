"""The supervisor starts this worker as `python -m monitor.snapshots`."""

from monitor.line_state.worker_process import run_worker
from monitor.snapshots.worker import work

run_worker(work)
