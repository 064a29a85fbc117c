"""A picture of a training's course: the loss, the select maps and the drawn defects by epoch.

It knows nothing of files. The picture is for people; no program reads it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from drivers.image_file import Image

_WIDTH, _PANEL = 900, 265
_LEFT, _RIGHT, _TOP, _BETWEEN, _BOTTOM = 90, 30, 70, 60, 60
_INK, _PALE, _LOSS, _MAP, _DEFECTS = (
    (40, 40, 40),
    (225, 225, 225),
    (180, 105, 30),
    (40, 110, 220),
    (150, 50, 130),
)
_KEPT = (60, 150, 60)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MOST_TICKS = 8
_LOG_FROM = 5.0
"""Values whose largest is at least this many times the smallest have a logarithmic scale."""


def draw_course(
    losses: Sequence[float],
    select_maps: Sequence[float],
    told_apart: Sequence[float],
    best_epoch: int,
    title: str,
) -> Image:
    """The picture, uint8 (720, 900, 3) BGR, with `told_apart` (1045, 900, 3).

    The values are finite, one for each epoch, at least one. `told_apart` may be empty. Epochs count from 1.
    """
    kept_map = f"{select_maps[best_epoch - 1]:.3g} in kept epoch {best_epoch}"
    panels = [
        (losses, f"training loss, {losses[-1]:.3g} at the end", _LOSS),
        (select_maps, f"mean anomaly map of the select images, {kept_map}", _MAP),
    ]
    if told_apart:
        kept_auroc = f"{told_apart[best_epoch - 1]:.3g} in the kept epoch"
        panels.append((told_apart, f"AUROC of drawn defects against good images, {kept_auroc}", _DEFECTS))
    height = _TOP + len(panels) * (_PANEL + _BETWEEN) - _BETWEEN + _BOTTOM
    image = np.full((height, _WIDTH, 3), 255, np.uint8)
    _write(image, title, (_LEFT, 28), 0.62)
    for number, (values, label, colour) in enumerate(panels):
        _draw_panel(image, values, best_epoch, _TOP + number * (_PANEL + _BETWEEN), label, colour)
    _write(image, "epoch", (_WIDTH // 2 - 20, height - 12), 0.5)
    return image


@dataclass(frozen=True)
class _Scale:
    """The scale of a panel, which turns values into rows of pixels."""

    low: float
    high: float
    top: int
    height: int
    logarithmic: bool

    def row(self, value: float) -> int:
        low, high = self._linear(self.low), self._linear(self.high)
        share = (self._linear(value) - low) / (high - low)
        return round(self.top + self.height * (1 - share))

    def ticks(self) -> list[float]:
        """Round numbers within the scale.

        A logarithmic scale has 1, 2 and 5 times the powers of ten, or the powers alone if these are too many.
        """
        if not self.logarithmic:
            step = _round_step((self.high - self.low) / 4)
            first, last = math.ceil(self.low / step), math.floor(self.high / step)
            return [number * step for number in range(first, last + 1)]
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for factors in ((1, 2, 5), (1,)):
            ticks = [factor * 10.0**power for power in powers for factor in factors]
            ticks = [tick for tick in ticks if self.low <= tick <= self.high]
            if len(ticks) <= _MOST_TICKS:
                break
        return ticks

    def _linear(self, value: float) -> float:
        """The value, or its logarithm: the axis is linear in it."""
        return math.log10(value) if self.logarithmic else value


def _scale(values: Sequence[float], top: int, height: int) -> _Scale:
    low, high = min(values), max(values)
    if low > 0 and high / low >= _LOG_FROM:
        return _Scale(low / 1.3, high * 1.3, top, height, logarithmic=True)
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return _Scale(max(0.0, low - margin) if low >= 0 else low - margin, high + margin, top, height, False)


def _draw_panel(
    image: Image,
    values: Sequence[float],
    best_epoch: int,
    top: int,
    label: str,
    colour: tuple[int, int, int],
) -> None:
    scale = _scale(values, top, _PANEL)
    right = _WIDTH - _RIGHT
    for tick in scale.ticks():
        row = scale.row(tick)
        cv2.line(image, (_LEFT, row), (right, row), _PALE, 1)
        text = f"{tick:.3g}"
        (width, _), _ = cv2.getTextSize(text, _FONT, 0.45, 1)
        _write(image, text, (_LEFT - 8 - width, row + 5), 0.45)
    epochs = len(values)
    for epoch in _epoch_ticks(epochs):
        column = _column(epoch, epochs)
        cv2.line(image, (column, top), (column, top + _PANEL), _PALE, 1)
        (width, _), _ = cv2.getTextSize(str(epoch), _FONT, 0.45, 1)
        _write(image, str(epoch), (column - width // 2, top + _PANEL + 18), 0.45)
    cv2.rectangle(image, (_LEFT, top), (right, top + _PANEL), _INK, 1)
    points = [(_column(epoch, epochs), scale.row(value)) for epoch, value in enumerate(values, start=1)]
    best = points[best_epoch - 1]
    cv2.line(image, (best[0], top), (best[0], top + _PANEL), _KEPT, 1, cv2.LINE_AA)
    cv2.polylines(image, [np.array(points, np.int32)], False, colour, 2, cv2.LINE_AA)
    cv2.circle(image, best, 6, _KEPT, -1, cv2.LINE_AA)
    _write(image, label + (", log scale" if scale.logarithmic else ""), (_LEFT, top - 8), 0.5, colour)


def _column(epoch: int, epochs: int) -> int:
    """The column of pixels of an epoch."""
    inset = 14
    if epochs == 1:
        return (_LEFT + _WIDTH - _RIGHT) // 2
    width = _WIDTH - _RIGHT - _LEFT - 2 * inset
    return round(_LEFT + inset + width * (epoch - 1) / (epochs - 1))


def _epoch_ticks(epochs: int) -> list[int]:
    step = max(1, round(_round_step(epochs / 10)))
    return sorted({1, *range(step, epochs + 1, step)}) if step > 1 else list(range(1, epochs + 1))


def _round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is at least `least`, which is above 0."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def _write(
    image: Image, text: str, place: tuple[int, int], size: float, colour: tuple[int, int, int] = _INK
) -> None:
    cv2.putText(image, text, place, _FONT, size, colour, 1, cv2.LINE_AA)
