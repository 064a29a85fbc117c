"""The supervisor starts this worker as `python -m monitor.scoring`."""

from monitor.line_state.worker_process import main
from monitor.scoring.worker import work

main(work)
