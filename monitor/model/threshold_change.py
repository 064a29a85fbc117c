"""When a change of a recipe's threshold needs a warning and a second step before it is accepted.

It knows nothing of how a threshold is found.
"""

from __future__ import annotations

from collections.abc import Sequence

LARGE_FACTOR = 2.0
"""A threshold that moves by more than this factor, up or down, needs a second step."""


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
