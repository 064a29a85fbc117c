"""Compares two versions on the newest snapshots in a thread, while the page goes on.

It knows nothing of HTTP.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.errors import LineMonitorError
from monitor.model.version_files import VersionFile
from monitor.review.judged_snapshots import find_newest
from monitor.review.torch_import import import_torch

if TYPE_CHECKING:
    from monitor.review.version_comparison import Comparison

MOST_IMAGES = 300


class ComparisonState(Enum):
    WORKING = "working"
    READY = "ready"
    FAILED = "failed"


class ComparisonError(LineMonitorError):
    """There is no comparison. The message is one line with the reason and the fix."""


@dataclass(slots=True)
class ComparisonJob:
    """The comparison of two versions, from the request to the result."""

    one: VersionFile
    other: VersionFile
    state: ComparisonState = ComparisonState.WORKING
    done: int = 0
    total: int = 0
    result: Comparison | None = None
    error: str = ""


class ComparisonJobs:
    """Runs one job at a time; a new job replaces a finished one. Safe for several threads."""

    def __init__(self, snapshots: Path, load_torch: Callable[[], None] = import_torch) -> None:
        self._snapshots, self._load_torch = snapshots, load_torch
        self._lock = threading.Lock()
        self.job: ComparisonJob | None = None

    def start(self, one: VersionFile, other: VersionFile) -> ComparisonJob:
        """Raises ComparisonError while a job is running, or without snapshots."""
        with self._lock:
            if self.job is not None and self.job.state is ComparisonState.WORKING:
                raise ComparisonError(f"{self.job.one.name} is being compared: wait until that ends")
            files = find_newest(self._snapshots, one.folder.name, MOST_IMAGES)
            if not files:
                raise ComparisonError(
                    f"there are no snapshots of parts that recipe {one.folder.name} judged: let it judge "
                    "some, or compare on a folder of images with `line-monitor recipes compare`"
                )
            job = self.job = ComparisonJob(one, other, total=len(files))
        threading.Thread(target=self._work, args=(job, files), name="comparison", daemon=True).start()
        return job

    def _work(self, job: ComparisonJob, files: list[Path]) -> None:
        def step() -> None:
            job.done += 1

        try:
            # Imported here: torch takes hundreds of megabytes.
            self._load_torch()
            from monitor.inference.scorer import Scorer
            from monitor.model.recipe_version import RecipeVersion
            from monitor.review.version_comparison import compare_versions

            one, other = (
                Scorer(RecipeVersion.load(version.file), device="cpu") for version in (job.one, job.other)
            )
            names = job.one.name, job.other.name
            job.result = compare_versions(one, other, files, names=names, step=step)
            job.state = ComparisonState.READY
        except LineMonitorError as error:
            job.error, job.state = str(error), ComparisonState.FAILED
        except Exception:
            # Without a result the page would wait for ever.
            logging.getLogger(__name__).exception("comparison with %s failed", job.other.name)
            job.error = "the comparison failed: the service's log has the reason"
            job.state = ComparisonState.FAILED
