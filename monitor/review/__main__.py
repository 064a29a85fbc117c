"""The review worker's process."""

from monitor.review.server import work
from monitor.worker import main

main(work)
