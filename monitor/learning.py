"""What the select maps of a training run tell its user, in words: that it learns, or what may help.

Pure functions of the mean anomaly map of the select pictures after each epoch. The bounds are from trainings
of real and simulated parts: after 5 epochs the map was at 0.1 to 20 % of the first epoch's, after 60 below
0.5 %.
"""

from __future__ import annotations

from collections.abc import Sequence

EARLY = 5
"""After so many epochs something can be said."""
_LEARNS = 0.5
_STEEP = 0.6


def early_word(select_maps: Sequence[float]) -> str:
    """Whether it learns so far, by the epochs until now (at least 2)."""
    share = _share(select_maps)
    fell = f"epoch {len(select_maps)}: the mean map is at {100 * share:.2g} % of the first epoch's"
    if share < _LEARNS:
        return f"{fell}: it learns"
    return f"{fell}: it hardly learns so far"


def closing_word(select_maps: Sequence[float], best_epoch: int) -> str | None:
    """A warning at the end of a run, or None when it went as it should.

    `best_epoch`, from 1, is the one whose student was kept.
    """
    epochs = len(select_maps)
    if epochs < EARLY:
        return (
            f"warning: with --epochs {epochs} nobody can tell whether the student learned: take this recipe "
            "for trying things out only; --epochs 100 is usual"
        )
    share = _share(select_maps)
    if share >= _LEARNS:
        return (
            f"warning: the mean map only fell to {100 * share:.2g} % of the first epoch's: the student "
            "hardly learned; are these images of one part, in one place? Try more epochs or another --teacher"
        )
    late = epochs - epochs // 5
    steep = min(select_maps[late:]) < _STEEP * min(select_maps[:late])
    if steep and best_epoch == epochs:
        return (
            "warning: the last epoch was the best and the mean map was still falling fast: more epochs may "
            f"help (--epochs {2 * epochs})"
        )
    return None


def _share(select_maps: Sequence[float]) -> float:
    return min(select_maps) / select_maps[0] if select_maps[0] else 0.0
