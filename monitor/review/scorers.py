"""Recipes made ready for the page's own use: live heatmaps and trying out a threshold.

Loaded when somebody asks and forgotten when nobody does any more, on one thread at low priority: the line's
own scorer must not feel it. What is scored here decides nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitor.inference.scorer import Scorer

FORGET_AFTER_S = 120.0


@dataclass(slots=True)
class _Kept:
    scorer: Scorer
    mtime_ns: int
    used_at: float


class Scorers:
    """Scorers by recipe name, on the CPU. For several threads, one at a time."""

    def __init__(self, recipes: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._recipes, self._clock = recipes, clock
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()

    @contextmanager
    def of(self, name: str) -> Iterator[Scorer]:
        """The scorer of the version that is committed now. Raises RecipeError."""
        with self._lock:
            self.forget_idle()
            yield self._scorer(name)

    def forget_idle(self) -> None:
        for name in [
            name for name, kept in self._kept.items() if self._clock() - kept.used_at > FORGET_AFTER_S
        ]:
            del self._kept[name]

    def _scorer(self, name: str) -> Scorer:
        # Not before somebody asks: torch takes hundreds of megabytes.
        import torch

        from monitor.inference.scorer import Scorer
        from monitor.model.recipe_document import FILE
        from monitor.model.recipe_version import RecipeVersion
        from monitor.names import check_name

        folder = self._recipes / check_name(name)
        file = folder / FILE
        mtime_ns = file.stat().st_mtime_ns if file.exists() else 0
        kept = self._kept.get(name)
        if kept is None or kept.mtime_ns != mtime_ns:
            torch.set_num_threads(1)
            kept = _Kept(Scorer(RecipeVersion.load(folder), device="cpu"), mtime_ns, self._clock())
            self._kept[name] = kept
        kept.used_at = self._clock()
        return kept.scorer
