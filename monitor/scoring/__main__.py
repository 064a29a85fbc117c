"""The supervisor starts this worker as `python -m monitor.scoring`."""

from monitor.line_state.worker_process import run_worker
from monitor.scoring.worker import work

run_worker(work)
