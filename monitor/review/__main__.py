"""The process of the review worker."""

from monitor.line_state.worker_process import main
from monitor.review.server import work

main(work)
