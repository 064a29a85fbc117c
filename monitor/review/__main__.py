"""The process of the review worker."""

from monitor.line_state.worker_process import run_worker
from monitor.review.server import work

run_worker(work)
