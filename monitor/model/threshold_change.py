"""When a change of a recipe's threshold needs a warning and a second step before it is accepted.

It knows nothing of how a threshold is found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from monitor.model.recipe_json import DefectScores

LARGE_FACTOR = 2.0
"""A threshold that moves by more than this factor, up or down, needs a second step."""
_SAME_SCORE = 1e-4
"""One image scored twice with the same weights: the two scores differ by less than this share."""


def real_defects(scores: DefectScores | None, labelled: Sequence[float] = ()) -> tuple[float, ...]:
    """The scores of all real defects: the known ones, those that were labelled when the threshold was
    accepted, and those that are `labelled` now. A part that is in several of them counts once."""
    if scores is None:
        return tuple(labelled)
    return _join(_join(scores.known, scores.labelled), labelled)


def _join(scores: Sequence[float], more: Sequence[float]) -> tuple[float, ...]:
    """Both together. A score of `more` that `scores` has too is the same part's."""
    left, added = list(scores), []
    for score in more:
        same = next((one for one in left if math.isclose(one, score, rel_tol=_SAME_SCORE)), None)
        if same is None:
            added.append(score)
        else:
            left.remove(same)
    return (*scores, *added)


def warn_of_change(before: float, after: float, defects: Sequence[float] = ()) -> tuple[str, ...]:
    """The warnings about a new threshold, one sentence each; empty where none is needed.

    `defects` holds the scores of labelled or known defects, on the scale of `after`.
    """
    warnings = []
    if passing := sum(score <= after for score in defects):
        what = "defect" if len(defects) == 1 else "defects"
        warnings.append(
            f"{passing} of {len(defects)} known {what} would pass with the new threshold {after:.4g}."
        )
    values = f"from {before:.4g} to {after:.4g}"
    if before <= 0 or after <= 0:
        if before != after:
            warnings.append(f"The threshold would change {values}.")
    elif (higher := after / before) > LARGE_FACTOR:
        warnings.append(
            f"The threshold would become {higher:.2g} times higher, {values}: more bad parts pass."
        )
    elif (lower := before / after) > LARGE_FACTOR:
        warnings.append(
            f"The threshold would become {lower:.2g} times lower, {values}: more good parts are rejected."
        )
    return tuple(warnings)
