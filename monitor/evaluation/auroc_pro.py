"""Areas under the curves that papers print, exact: no sampling, no binning, ties as the ramps they are.

Pure functions of scores; knows nothing of files, recipes or thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

PRO_LIMIT = 0.3
"""False-positive rate up to which per-region overlap is integrated (Bergmann et al. 2020, section 6)."""

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]


def auroc(negatives: Floats, positives: Floats) -> float:
    """The chance that a positive scores above a negative, ties counting half: the area under the ROC curve.

    Both 1-d and not empty. Ascending negatives are not copied.
    """
    return float(_area(_ascending(negatives), positives, 1.0).mean())


def per_region_overlap(negatives: Floats, regions: Sequence[Floats], limit: float = PRO_LIMIT) -> float:
    """PRO: the share of a defective region that is found, averaged over regions and over false-positive
    rates from 0 to `limit` (Bergmann et al. 2020, section 6).

    `negatives` are the map's values on all defect-free pixels, `regions` those on each connected defect;
    neither is empty. Ascending negatives are not copied. The official code rescales the curve and so reads
    higher.
    """
    ordered = _ascending(negatives)
    return float(np.mean([_area(ordered, region, limit).mean() for region in regions]) / limit)


def regions_of(anomaly_map: NDArray[np.float32], mask: Mask) -> list[NDArray[np.float32]]:
    """The map's values on each connected defect of the mask; corners connect."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return [anomaly_map[labels == label] for label in range(1, count)]


def _ascending(values: Floats) -> Floats:
    return values if bool((values[1:] >= values[:-1]).all()) else np.sort(values)


def _area(ordered: Floats, positives: Floats, limit: float) -> NDArray[np.float64]:
    """For each positive the area from 0 to `limit` under its own curve of being found over the false-positive
    rate: a step, or among ties a ramp, up to 1.

    Any average of positives, over pixels or over regions, has the average of these areas under its curve;
    so no curve has to be drawn.
    """
    count = len(ordered)
    above = (count - np.searchsorted(ordered, positives, side="right")) / count
    reached = (count - np.searchsorted(ordered, positives, side="left")) / count
    width = reached - above
    ramp_end = np.clip(limit, above, reached)
    ramp = np.divide((ramp_end - above) ** 2, 2 * width, out=np.zeros(len(positives)), where=width > 0)
    return np.asarray(ramp + np.maximum(0.0, limit - reached), np.float64)
