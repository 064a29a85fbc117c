"""Exact intervals for a share that was counted on a few images.

It knows nothing of images or recipes.
"""

from __future__ import annotations

from scipy.special import betaincinv

CONFIDENCE = 0.95


def exact_interval(count: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The exact interval (Clopper and Pearson 1934) of a share of which `count` among `total` were seen.

    Whatever the true share is, at least the fraction `confidence` of all such intervals contains it, if the
    `total` were drawn independently of each other. Raises ValueError unless 0 <= count <= total, total > 0
    and 0 < confidence < 1.
    """
    if not (0 <= count <= total and total > 0 and 0 < confidence < 1):
        raise ValueError(f"no interval for {count} of {total} with confidence {confidence}")
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else float(betaincinv(count, total - count + 1, tail))
    high = 1.0 if count == total else float(betaincinv(count + 1, total - count, 1 - tail))
    return low, high
