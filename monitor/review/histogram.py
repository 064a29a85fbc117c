"""Calculates a histogram of scores as coordinates that a template draws as SVG.

It knows nothing of where the scores come from. The axis is logarithmic, because scores span several powers of
ten. Each row has its own scale of counts: passed parts outnumber rejected ones by a factor of about 100.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BINS = 60
# Pixels.
WIDTH, ROW_HEIGHT = 900, 130
LEFT, TOP, GAP, BOTTOM = 20, 62, 46, 34
FEWEST_TICKS = 3


@dataclass(frozen=True, slots=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Tick:
    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """`base` is the lower end of the row's bars, `top` the baseline of the title above them."""

    base: float
    top: float
    title: str
    tallest: int
    """The number of parts in the tallest column, which has the row's full height."""


@dataclass(frozen=True, slots=True)
class Plot:
    """An SVG of `width` by `height` pixels; all coordinates are pixels."""

    width: int
    height: int
    bars: tuple[Bar, ...]
    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    limits: tuple[Tick, ...]


def plot(rows: Mapping[str, Mapping[str, Sequence[float]]], limits: Mapping[str, float]) -> Plot | None:
    """Rows of stacked bars, from scores by row title and kind; `limits` are vertical lines by their text.

    Scores that are not positive finite numbers are left out. None when no score is left.
    """
    shown = {
        title: {kind: [score for score in scores if _is_shown(score)] for kind, scores in kinds.items()}
        for title, kinds in rows.items()
    }
    all_scores = [score for kinds in shown.values() for scores in kinds.values() for score in scores]
    shown_limits = {text: value for text, value in limits.items() if _is_shown(value)}
    if not all_scores:
        return None
    low, high = _range([*all_scores, *shown_limits.values()])
    bars: list[Bar] = []
    drawn: list[Row] = []
    for number, (title, kinds) in enumerate(shown.items()):
        base = TOP + GAP * number + ROW_HEIGHT * (number + 1)
        row_bars, tallest = _row(kinds, base, low, high)
        bars += row_bars
        drawn.append(Row(base, base - ROW_HEIGHT - 6, title, tallest))
    ticks = tuple(Tick(_x(value, low, high), f"{value:g}") for value in _ticks(low, high))
    lines = tuple(Tick(_x(value, low, high), text) for text, value in shown_limits.items())
    height = int(drawn[-1].base) + BOTTOM
    return Plot(WIDTH + 2 * LEFT, height, tuple(bars), tuple(drawn), ticks, lines)


def _row(kinds: Mapping[str, Sequence[float]], base: float, low: float, high: float) -> tuple[list[Bar], int]:
    """The row's bars, and the number of parts in its tallest column."""
    counts = {kind: [0] * BINS for kind in kinds}
    for kind, scores in kinds.items():
        for score in scores:
            counts[kind][_bin(score, low, high)] += 1
    tallest = max((sum(column) for column in zip(*counts.values(), strict=True)), default=0)
    bars = []
    for number in range(BINS):
        y = base
        for kind, column in counts.items():
            if not column[number]:
                continue
            height = max(2.0, ROW_HEIGHT * column[number] / tallest)
            y -= height
            edges = f"{_edge(number, low, high):.3g} to {_edge(number + 1, low, high):.3g}"
            title = f"{column[number]} {kind}, score {edges}"
            bars.append(Bar(LEFT + WIDTH * number / BINS, y, WIDTH / BINS - 1, height, kind, title))
    return bars, tallest


def _is_shown(score: float) -> bool:
    return math.isfinite(score) and score > 0


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = math.log10(min(values)), math.log10(max(values))
    margin = max(0.05, 0.04 * (high - low))
    return low - margin, high + margin


def _x(value: float, low: float, high: float) -> float:
    return LEFT + WIDTH * (math.log10(value) - low) / (high - low)


def _bin(score: float, low: float, high: float) -> int:
    return min(BINS - 1, max(0, int(BINS * (math.log10(score) - low) / (high - low))))


def _edge(number: int, low: float, high: float) -> float:
    edge: float = 10 ** (low + (high - low) * number / BINS)
    return edge


def _ticks(low: float, high: float) -> list[float]:
    """Round values within the range: 1, 2 and 5 of each decade; if few, about five at equal steps."""
    decades = _decades(low, high)
    if len(decades) >= FEWEST_TICKS:
        return decades
    least, most = 10**low, 10**high
    span = most - least
    power = math.floor(math.log10(span))
    steps = [digit * 10.0**exponent for exponent in (power - 1, power) for digit in (1, 2, 2.5, 5)]
    step = min(steps, key=lambda candidate: abs(math.log(span / candidate / 5)))
    return [step * n for n in range(math.ceil(least / step), math.floor(most / step) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each decade within the range; only 1 from three decades on."""
    steps = (1, 2, 5) if high - low < 3 else (1,)
    values = [step * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for step in steps]
    return [value for value in values if low <= math.log10(value) <= high]
