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
_STILL_HIGH, _FAR_BELOW = 0.2, 3.0
"""The kept student's mean map, as a share of the first epoch's, and how many times the smallest. Of 300 tiles
the kept one was at 0.4 and 8 % (5.8 and 2.2 times the smallest); of 4 select images one at 48 % was kept."""


def early_word(select_maps: Sequence[float]) -> str:
    """Whether it learns so far, by the epochs until now (at least 2)."""
    share = _share(select_maps)
    fell = f"epoch {len(select_maps)}: the mean map is at {100 * share:.2g} % of the first epoch's"
    if share < _LEARNS:
        return f"{fell}: it learns"
    return f"{fell}: it hardly learns so far"


def closing_word(select_maps: Sequence[float], best_epoch: int, chose: int) -> str | None:
    """A warning at the end of a run, or None when it went as it should.

    `best_epoch`, from 1, is the one whose student was kept; so many images `chose` it.
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
    kept, least = select_maps[best_epoch - 1], min(select_maps)
    if kept >= _STILL_HIGH * select_maps[0] and kept > _FAR_BELOW * least:
        return (
            f"warning: the student of epoch {best_epoch} of {epochs} was kept, whose mean map {kept:.3g} is "
            f"far above the smallest ({least:.3g}): no more than {_images(chose)} chose it; train with more "
            "good images or another --seed"
        )
    late = epochs - epochs // 5
    steep = min(select_maps[late:]) < _STEEP * min(select_maps[:late])
    if steep and best_epoch == epochs:
        return (
            "warning: the last epoch was the best and the mean map was still falling fast: more epochs may "
            f"help (--epochs {2 * epochs})"
        )
    return None


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _share(select_maps: Sequence[float]) -> float:
    return min(select_maps) / select_maps[0] if select_maps[0] else 0.0
