"""A picture of what a recipe's thresholds decide: the scores of good parts and known defects, and the defects
with the lowest scores.

It knows nothing of files or networks. The picture is for people; no program reads it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.image_file import Image
from monitor.model.recipe_json import OperatingPoint
from monitor.training.oddest_images import draw_sheet

PICTURE = "decisions.png"
"""The picture, a file beside `recipe.json`."""
_WIDTH, _HEIGHT = 1024, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 30, 60, 60
_BINS = 48
_INK, _GOOD, _DEFECT, _THRESHOLD = (
    (40, 40, 40),
    (110, 160, 90),
    (60, 60, 210),
    (180, 105, 30),
)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_decisions(
    good: Sequence[float],
    defects: Sequence[float],
    points: Sequence[OperatingPoint],
    threshold: float,
    lowest: Sequence[tuple[Image, float]],
    title: str,
) -> Image:
    """The picture, uint8 (H, 1024, 3) BGR.

    `good` are the scores of the good images that set the threshold, at least one; `defects` are those of the
    known defects. A line marks the threshold of each of `points`. `lowest` are the defects with the lowest
    scores, each with its score, in ascending order; they are shown below the histogram. `title` stands in the
    first line.
    """
    heading = np.full((34, _WIDTH, 3), 255, np.uint8)
    text = f"{title}: threshold in force {threshold:.4g}"
    cv2.putText(heading, text, (_LEFT, 26), _FONT, 0.55, _INK, 1, cv2.LINE_AA)
    histogram = np.concatenate([heading, _draw_histogram(good, defects, points)])
    if not lowest:
        return histogram
    caption = np.full((40, _WIDTH, 3), 255, np.uint8)
    text = "known defects with the lowest scores, and what becomes of them"
    cv2.putText(caption, text, (_LEFT, 26), _FONT, 0.55, _INK, 1, cv2.LINE_AA)
    sheet = draw_sheet([image for image, _ in lowest], [score for _, score in lowest], threshold)
    padded = np.full((sheet.shape[0], _WIDTH, 3), 255, np.uint8)
    padded[:, : sheet.shape[1]] = sheet
    return np.concatenate([histogram, caption, padded])


def _draw_histogram(
    good: Sequence[float], defects: Sequence[float], points: Sequence[OperatingPoint]
) -> Image:
    """Two histograms over one logarithmic axis of scores: good parts above the axis, defects below it."""
    image = np.full((_HEIGHT, _WIDTH, 3), 255, np.uint8)
    edges = _edges([*good, *defects, *(point.threshold for point in points)])
    axis = _TOP + (_HEIGHT - _TOP - _BOTTOM) // (2 if defects else 1)
    _draw_bars(image, _counts(good, edges), axis, axis - _TOP, _GOOD, up=True)
    if defects:
        _draw_bars(image, _counts(defects, edges), axis, _HEIGHT - _BOTTOM - axis, _DEFECT, up=False)
    cv2.line(image, (_LEFT, axis), (_WIDTH - _RIGHT, axis), _INK, 1)
    for threshold, rates in _rates(points).items():
        column = _column(threshold, edges)
        cv2.line(image, (column, _TOP - 8), (column, _HEIGHT - _BOTTOM), _THRESHOLD, 1)
        (width, _), _ = cv2.getTextSize(rates, _FONT, 0.42, 1)
        place = (min(column + 3, _WIDTH - width - 3), _TOP - 10)
        cv2.putText(image, rates, place, _FONT, 0.42, _THRESHOLD, 1, cv2.LINE_AA)
    legend = f"{len(good)} good images that set the threshold (above the axis)"
    cv2.putText(image, legend, (_LEFT, 22), _FONT, 0.5, _GOOD, 1, cv2.LINE_AA)
    if defects:
        below = f"{len(defects)} known defects (below the axis)"
        cv2.putText(image, below, (_WIDTH // 2 + 60, 22), _FONT, 0.5, _DEFECT, 1, cv2.LINE_AA)
    for score in (edges[0], edges[len(edges) // 2], edges[-1]):
        place = (_column(score, edges) - 20, _HEIGHT - _BOTTOM + 20)
        cv2.putText(image, f"{score:.3g}", place, _FONT, 0.45, _INK, 1, cv2.LINE_AA)
    text = "score, logarithmic; lines: thresholds for these rates of rejected good parts (overkill)"
    cv2.putText(image, text, (_LEFT, _HEIGHT - 14), _FONT, 0.45, _INK, 1, cv2.LINE_AA)
    return image


def _edges(scores: Sequence[float]) -> NDArray[np.float64]:
    """The edges of the bins: they cover all scores above 0, at equal ratios."""
    positive = [score for score in scores if score > 0] or [1.0]
    low, high = min(positive), max(positive)
    if high < 1.01 * low:
        low, high = low / 1.5, high * 1.5
    return np.geomspace(low / 1.02, high * 1.02, _BINS + 1)


def _counts(scores: Sequence[float], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """The number of scores in each bin. Scores below the first edge, such as 0, count in the first bin."""
    counts, _ = np.histogram(np.clip(scores, edges[0], edges[-1]), edges)
    return np.asarray(counts, np.int64)


def _draw_bars(
    image: Image, counts: NDArray[np.int64], axis: int, room: int, colour: tuple[int, int, int], *, up: bool
) -> None:
    """Bars of at most `room` pixels; the number of the highest one stands beside it."""
    highest = int(counts.max())
    width = (_WIDTH - _LEFT - _RIGHT) / _BINS
    for number, count in enumerate(counts.tolist()):
        if not count:
            continue
        # A bin with one image must be visible beside a bin with hundreds.
        length = max(3, round((room - 14) * count / highest))
        left, right = round(_LEFT + number * width), round(_LEFT + (number + 1) * width) - 1
        end = axis - length if up else axis + length
        cv2.rectangle(image, (left, axis), (right, end), colour, -1)
        if count == highest:
            place = (left, end - 3 if up else end + 13)
            cv2.putText(image, str(count), place, _FONT, 0.42, _INK, 1, cv2.LINE_AA)


def _rates(points: Sequence[OperatingPoint]) -> dict[float, str]:
    """By threshold, the rates that have it, such as `0.5, 1 %`."""
    rates: dict[float, list[str]] = {}
    for point in points:
        rates.setdefault(point.threshold, []).append(f"{100 * point.overkill:g}")
    return {threshold: f"{', '.join(texts)} %" for threshold, texts in rates.items()}


def _column(score: float, edges: NDArray[np.float64]) -> int:
    """The column of pixels of a score."""
    share = math.log(max(score, edges[0]) / edges[0]) / math.log(edges[-1] / edges[0])
    return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * share)
