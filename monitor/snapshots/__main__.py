"""The supervisor starts this worker as `python -m monitor.snapshots`."""

from monitor.line_state.worker_process import main
from monitor.snapshots.worker import work

main(work)
