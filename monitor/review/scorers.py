"""Scorers for the live page's heatmaps. Their scores decide nothing.

It knows nothing of the line. A recipe is loaded at the first request and dropped after `FORGET_AFTER_S`
without one. Scoring uses one thread at low priority, so that it takes no time from the line's own scorer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.review.torch_import import import_torch

if TYPE_CHECKING:
    from monitor.inference.scorer import Scorer

FORGET_AFTER_S = 120.0
"""Seconds without a request until a recipe leaves the memory."""


@dataclass(slots=True)
class _LoadedScorer:
    scorer: Scorer
    digits: str
    """`VersionFile.digits` of the version."""
    used_at: float


class Scorers:
    """Scorers by recipe name, on the CPU. Safe for several threads; one of them scores at a time."""

    def __init__(
        self,
        recipes: Path,
        clock: Callable[[], float] = time.monotonic,
        load_torch: Callable[[], None] = import_torch,
    ) -> None:
        self._recipes, self._clock, self._load_torch = recipes, clock, load_torch
        self._loaded: dict[str, _LoadedScorer] = {}
        self._lock = threading.Lock()

    @contextmanager
    def scorer(self, name: str, sha: str = "") -> Iterator[Scorer]:
        """The scorer of the recipe's version with that sha256; of the one in force where that is empty or
        gone. Raises LineMonitorError."""
        with self._lock:
            self.forget_idle()
            yield self._load(name, sha)

    def forget_idle(self) -> None:
        for name in [
            name for name, loaded in self._loaded.items() if self._clock() - loaded.used_at > FORGET_AFTER_S
        ]:
            del self._loaded[name]

    def _load(self, name: str, sha: str) -> Scorer:
        # Imported at the first request: torch takes hundreds of megabytes.
        self._load_torch()
        from monitor.inference.scorer import Scorer
        from monitor.model.in_force import find_judging
        from monitor.model.recipe_version import RecipeVersion
        from monitor.names import check_name

        version = find_judging(self._recipes / check_name(name), sha)
        loaded = self._loaded.get(name)
        if loaded is None or loaded.digits != version.digits:
            scorer = Scorer(RecipeVersion.load(version.file), device="cpu")
            loaded = _LoadedScorer(scorer, version.digits, self._clock())
            self._loaded[name] = loaded
        loaded.used_at = self._clock()
        return loaded.scorer
