"""AUROC and PRO, the areas under the curves that papers print.

They are exact: no sampling and no binning, and equal scores count as the sloping part of the curve that they
are. These are pure functions of scores; this module knows nothing of files, recipes or thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

PRO_LIMIT = 0.3
"""The false-positive rate up to which per-region overlap is integrated (Bergmann et al. 2020, section 6)."""

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]


def auroc(negatives: Floats, positives: Floats) -> float:
    """The area under the ROC curve: the chance that a positive scores above a negative.

    Equal scores count half. Both arrays are 1-d and not empty. Negatives in ascending order are not copied.
    """
    return float(_area(_sort(negatives), positives, 1.0).mean())


def per_region_overlap(negatives: Floats, regions: Sequence[Floats], limit: float = PRO_LIMIT) -> float:
    """PRO: the mean share of a defective region that is found (Bergmann et al. 2020, section 6).

    The mean is over the regions and over false-positive rates from 0 to `limit`. `negatives` are the map's
    values on all defect-free pixels, `regions` those on each connected defect; neither is empty. Negatives in
    ascending order are not copied. The official code of STFPM rescales the curve, so its values are higher.
    """
    ordered = _sort(negatives)
    return float(np.mean([_area(ordered, region, limit).mean() for region in regions]) / limit)


def regions_of(anomaly_map: NDArray[np.float32], mask: Mask) -> list[NDArray[np.float32]]:
    """The map's values on each connected defect of the mask. Pixels that touch at a corner are connected."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return [anomaly_map[labels == label] for label in range(1, count)]


def _sort(values: Floats) -> Floats:
    return values if bool((values[1:] >= values[:-1]).all()) else np.sort(values)


def _area(ordered: Floats, positives: Floats, limit: float) -> NDArray[np.float64]:
    """For each positive, the area under its own curve from 0 to `limit`.

    The curve of one positive is 0 up to the false-positive rate at which it is found, and 1 beyond it;
    negatives of the same score make it a ramp. The curve of several positives, pixels or regions, is the mean
    of theirs, so its area is the mean of these areas, and no curve has to be drawn.
    """
    count = len(ordered)
    above = (count - np.searchsorted(ordered, positives, side="right")) / count
    reached = (count - np.searchsorted(ordered, positives, side="left")) / count
    width = reached - above
    ramp_end = np.clip(limit, above, reached)
    ramp = np.divide((ramp_end - above) ** 2, 2 * width, out=np.zeros(len(positives)), where=width > 0)
    return np.asarray(ramp + np.maximum(0.0, limit - reached), np.float64)
