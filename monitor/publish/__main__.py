"""The supervisor starts this worker as `python -m monitor.publish`."""

from monitor.line_state.worker_process import main
from monitor.publish.worker import work

main(work)
