"""Draws costs as horizontal bars, the largest in another colour, as an SVG picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _LEFT, _ROW, _TOP = 760, 210, 34, 60
_INK, _FAINT, _BAR, _LARGEST = "#333333", "#555555", "#4070b0", "#c04000"


@dataclass(frozen=True)
class Bar:
    label: str
    value: float


def draw_bars(title: str, unit: str, bars: Sequence[Bar]) -> str:
    """The picture as SVG text. Values are 0 or more, one of them above 0."""
    largest = max(bar.value for bar in bars)
    height = _TOP + len(bars) * _ROW + 20
    drawn = "".join(_draw_bar(bar, number, unit, largest) for number, bar in enumerate(bars))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" font-family="sans-serif" font-size="14">'
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>'
        f'<text x="20" y="32" font-size="16" font-weight="bold" fill="{_INK}">{escape(title)}</text>'
        f"{drawn}</svg>\n"
    )


def _draw_bar(bar: Bar, number: int, unit: str, largest: float) -> str:
    top = _TOP + number * _ROW
    width = bar.value / largest * (_WIDTH - _LEFT - 130)
    colour = _LARGEST if bar.value == largest else _BAR
    return (
        f'<text x="{_LEFT - 10}" y="{top + 17}" text-anchor="end" fill="{_INK}">{escape(bar.label)}</text>'
        f'<rect x="{_LEFT}" y="{top}" width="{max(width, 1):.1f}" height="{_ROW - 10}" fill="{colour}"/>'
        f'<text x="{_LEFT + max(width, 1) + 8:.1f}" y="{top + 17}" fill="{_FAINT}">'
        f"{bar.value:.2f} {unit}</text>"
    )
