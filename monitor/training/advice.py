"""Advice to the user from a training's select maps: whether the student learns, or what may help.

It knows nothing of images or networks: these are pure functions of the mean anomaly map of the select
pictures after each epoch. The bounds come from trainings with real and simulated parts: after 5 epochs the
map was at 0.01 to 33 % of the first epoch's map, after 15 epochs at 1 to 16 %.
"""

from __future__ import annotations

from collections.abc import Sequence

EARLY = 5
"""The first epoch after which advice can be given."""
_LEARNS = 0.5
"""Below this share of the first epoch's map the student learns."""
_STEEP = 0.6
"""The map still falls fast if the last fifth of the epochs brought it below this share of the map before."""
_STILL_HIGH, _FAR_ABOVE = 0.2, 3.0
"""The kept student's mean map is too high above this share of the first epoch's map and this many times the
smallest map. With 300 tiles the kept maps were at 0.4 and 8 % (5.8 and 2.2 times the smallest map); with 4
select images a student at 48 % was kept."""


def early_advice(select_maps: Sequence[float]) -> str:
    """One line on whether the student learns, from the epochs so far (at least 2)."""
    share = _smallest_share(select_maps)
    fell = f"epoch {len(select_maps)}: the mean anomaly map is at {100 * share:.2g} % of the first epoch's"
    if share < _LEARNS:
        return f"{fell}: the student learns"
    return f"{fell}: the student hardly learns so far"


def closing_advice(select_maps: Sequence[float], best_epoch: int, selecting: int) -> str | None:
    """A warning at the end of a training, or None for a usual course.

    The student of epoch `best_epoch`, from 1, was kept; `selecting` images selected it.
    """
    epochs = len(select_maps)
    if epochs < EARLY:
        return (
            f"warning: --epochs {epochs} is too few to tell whether the student learned: use this recipe "
            "only to try things out; leave --epochs out for the usual number"
        )
    share = _smallest_share(select_maps)
    if share >= _LEARNS:
        return (
            f"warning: the mean anomaly map only fell to {100 * share:.2g} % of the first epoch's: the "
            "student hardly learned; check that all images show the same part in the same place, or try more "
            "epochs or another --teacher"
        )
    kept, least = select_maps[best_epoch - 1], min(select_maps)
    if kept >= _STILL_HIGH * select_maps[0] and kept > _FAR_ABOVE * least:
        return (
            f"warning: the student of epoch {best_epoch} of {epochs} was kept, and its mean anomaly map "
            f"{kept:.3g} is far above the smallest ({least:.3g}): only {_images(selecting)} selected it; "
            "train with more good images or another --seed"
        )
    late = epochs - epochs // 5
    steep = min(select_maps[late:]) < _STEEP * min(select_maps[:late])
    if steep and best_epoch == epochs:
        return (
            "warning: the last epoch was the best and the mean anomaly map was still falling fast: more "
            f"epochs may help (--epochs {2 * epochs})"
        )
    return None


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _smallest_share(select_maps: Sequence[float]) -> float:
    """The smallest map as a share of the first epoch's."""
    return min(select_maps) / select_maps[0] if select_maps[0] else 0.0
