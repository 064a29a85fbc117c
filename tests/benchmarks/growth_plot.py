"""Draws the picture of `tests.benchmarks.growth`: a panel for each kind of work, with logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 420, 300, 56, 40, 24
_ROWS_OF = 2


@dataclass(frozen=True)
class Series:
    title: str
    unit: str
    cost: str
    points: Mapping[float, float]
    line: tuple[float, float]
    """Offset and slope of the line."""


def plot(series: Sequence[Series]) -> str:
    """The picture as SVG text."""
    rows = -(-len(series) // _ROWS_OF)
    width, height = _ROWS_OF * (_WIDTH + _GAP), rows * (_HEIGHT + _GAP)
    panels = "".join(
        f'<g transform="translate({number % _ROWS_OF * (_WIDTH + _GAP)},'
        f'{number // _ROWS_OF * (_HEIGHT + _GAP)})">{_panel(one)}</g>'
        for number, one in enumerate(series)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="12">'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>{panels}</svg>\n'
    )


def _panel(one: Series) -> str:
    start, slope = one.line
    straight = {work: start + slope * work for work in _between(min(one.points), max(one.points))}
    xs = (min(one.points), max(one.points))
    ys = (min(*one.points.values(), *straight.values()), max(*one.points.values(), *straight.values()))

    def x(work: float) -> float:
        return _LEFT + _share(work, *xs) * (_WIDTH - _LEFT - 20)

    def y(cost: float) -> float:
        return _HEIGHT - 44 - _share(cost, *ys) * (_HEIGHT - 44 - _TOP - 10)

    path = " ".join(f"{x(work):.1f},{y(cost):.1f}" for work, cost in straight.items())
    dots = "".join(
        f'<circle cx="{x(work):.1f}" cy="{y(cost):.1f}" r="4" fill="#c04000"/>'
        f'<text x="{x(work):.1f}" y="{y(cost) - 9:.1f}" text-anchor="end" fill="#333333">'
        f"{_shown(cost)}</text>"
        f'<text x="{x(work):.1f}" y="{_HEIGHT - 26}" text-anchor="middle" fill="#333333">{work:.2g}</text>'
        for work, cost in one.points.items()
    )
    return (
        f'<text x="{_LEFT}" y="20" font-size="14" font-weight="bold">{one.title}</text>'
        f'<text x="{_LEFT}" y="36" fill="#555555">{one.cost}</text>'
        f'<line x1="{_LEFT}" y1="{_HEIGHT - 40}" x2="{_WIDTH - 10}" y2="{_HEIGHT - 40}" stroke="#999999"/>'
        f'<polyline points="{path}" fill="none" stroke="#4070b0" stroke-width="1.5"/>{dots}'
        f'<text x="{_WIDTH - 10}" y="{_HEIGHT - 8}" text-anchor="end" fill="#555555">{one.unit}</text>'
    )


def _between(low: float, high: float) -> list[float]:
    return [low * (high / low) ** (step / 40) for step in range(41)]


def _share(value: float, low: float, high: float) -> float:
    """The position of the value between the limits, 0 to 1, on a logarithmic scale."""
    return math.log(value / low) / math.log(high / low) if high > low else 0.5


def _shown(cost: float) -> str:
    return f"{cost:.0f}" if cost >= 1000 else f"{cost:.3g}"
