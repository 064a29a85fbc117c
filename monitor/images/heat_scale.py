"""The heat scale: which colour and opacity an anomaly value has, counted in thresholds.

A colour means the same in every picture: values up to the threshold are cold, values above it are warm.
This module knows nothing of images, files or recipes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TOP_RATIO = 3.0
"""The scale ends at this anomaly / threshold; higher values have the same colour."""

# Columns: anomaly / threshold; blue, green, red (0 to 255); opacity (0 to 1). At the threshold the colour
# jumps from cyan to yellow, two colours that colour-blind people can tell apart too.
_SCALE = np.array(
    [
        (0.0, 120, 40, 0, 0.00),
        (0.4, 120, 40, 0, 0.00),
        (0.7, 210, 90, 10, 0.22),
        (1.0, 220, 190, 60, 0.42),
        (1.0, 60, 225, 255, 0.55),
        (1.5, 0, 130, 255, 0.60),
        (2.0, 30, 20, 230, 0.62),
        (3.0, 130, 0, 170, 0.66),
    ],
    dtype=np.float64,
)
_STEPS = 256
_LAST_COLD = 85  # Step 85 of 255 is the threshold: 85 / 255 of TOP_RATIO is 1.


def heat_colours(ratio: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The colours and opacities of anomaly / threshold, which is float32 of any shape.

    Returns BGR, uint8 (…, 3), and opacity, float32 (…, 1). The split at 1 is exact: rounding to a step of the
    scale never makes a value above the threshold cold, nor one at or below it warm.
    """
    step = np.clip(ratio * ((_STEPS - 1) / TOP_RATIO), 0, _STEPS - 1).astype(np.int32)
    step = np.where(ratio > 1.0, np.maximum(step, _LAST_COLD + 1), np.minimum(step, _LAST_COLD))
    colours, opacity = _colour_table()
    return colours[step], opacity[step][..., None]


def _colour_table() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Colour and opacity of each step, interpolated separately on the two sides of the threshold."""
    ratios = np.linspace(0.0, TOP_RATIO, _STEPS)
    cold, warm = _SCALE[:4], _SCALE[4:]
    is_cold = np.arange(_STEPS) <= _LAST_COLD
    columns = [
        np.where(
            is_cold, np.interp(ratios, cold[:, 0], cold[:, i]), np.interp(ratios, warm[:, 0], warm[:, i])
        )
        for i in range(1, 5)
    ]
    return np.stack(columns[:3], axis=1).round().astype(np.uint8), columns[3].astype(np.float32)
