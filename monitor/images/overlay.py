"""The picture an operator judges a part by: the frame beside its heatmap overlay, verdict and numbers on it.

Colours mean the same in every picture: they follow anomaly / threshold, and change at the threshold. This
module must never stretch a heatmap to the image's own range (every good part would glow), or touch a file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.image_file import Image

MAX_WIDTH = 1600
"""Pixels; the picture is never wider, whatever the camera gives."""
MAX_PANEL_HEIGHT = 1200
"""Pixels; keeps a line-scan camera's tall images inside what a screen and a JPEG are good for."""
MIN_PANEL = 480
"""Pixels along the longer side: smaller images are enlarged to it."""
STACK_FROM = 2.6
"""Width / height from which the frame stands above its heatmap: beside it both would be thin strips."""

TOP_RATIO = 3.0
"""Anomaly / threshold at which the colours end."""

_Colour = tuple[int, int, int]
_INK: _Colour = (245, 245, 245)
_FAINT: _Colour = (170, 170, 170)
_GROUND: _Colour = (32, 30, 28)
_BAR: dict[str, _Colour] = {"pass": (72, 132, 30), "reject": (38, 30, 196), "uninspected": (0, 120, 214)}

# anomaly / threshold, then blue, green, red and opacity. Cold below the threshold, warm above it, with a jump
# between the two: cyan to yellow can be told apart by the colour-blind too.
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
_LAST_COLD = 85  # 85 / 255 of TOP_RATIO is the threshold


@dataclass(frozen=True, slots=True)
class _Layout:
    """Pixels. `unit` is the height of a capital letter in the smallest text."""

    width: int
    panel_width: int
    panel_height: int
    stacked: bool
    unit: int

    @property
    def gap(self) -> int:
        return self.unit

    @property
    def header(self) -> int:
        return 6 * self.unit

    @property
    def footer(self) -> int:
        return 10 * self.unit


@dataclass(frozen=True, slots=True)
class Panel:
    """Where in the picture, in its pixels; `bottom` and `right` are the first beyond it."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True, slots=True)
class Panels:
    """The picture's width, and where in it the frame and its heatmap are: both of one size."""

    width: int
    frame: Panel
    heatmap: Panel


def panels(width: int, height: int) -> Panels:
    """Where `overlay` puts an image of that size: to cut its picture apart again."""
    layout = _arrange(width, height)
    tall, wide, gap = layout.panel_height, layout.panel_width, layout.gap
    across = wide if layout.stacked else 2 * wide + gap
    left = (layout.width - across) // 2
    right, below = (left, tall + gap) if layout.stacked else (left + wide + gap, 0)
    top = layout.header
    return Panels(
        layout.width,
        Panel(top, left, top + tall, left + wide),
        Panel(top + below, right, top + below + tall, right + wide),
    )


def overlay(
    image: Image,
    anomaly_map: NDArray[np.float32] | None,
    *,
    score: float | None,
    threshold: float | None,
    verdict: str,
    recipe: str,
    camera: str,
    frame: int,
    captured_utc: str,
    reason: str | None = None,
) -> Image:
    """The operator's picture of one frame.

    `image` is uint8 (H, W, 3) BGR or (H, W), as scored; `anomaly_map` is float32 (h, w) of any size, on the
    threshold's scale, or None for a frame that was not scored. `verdict` is pass, reject or uninspected;
    `reason` says why it is uninspected; `captured_utc` is shown as it comes.

    Returns uint8 (rows, columns, 3) BGR, at most `MAX_WIDTH` wide. Raises ValueError for an image or a map of
    another shape or dtype.
    """
    _require(image, anomaly_map)
    layout = _arrange(image.shape[1], image.shape[0])
    shown = _fit(image, layout)
    ratio = _ratio(anomaly_map, threshold)
    if ratio is None:
        right = _without_map(shown, layout, anomaly_map)
    else:
        right = _outlined(_heated(shown, ratio, layout), ratio, layout)
    gap = np.full(
        (layout.gap, layout.panel_width, 3) if layout.stacked else (layout.panel_height, layout.gap, 3),
        _GROUND,
        np.uint8,
    )
    panels = np.concatenate([shown, gap, right], axis=0 if layout.stacked else 1)
    header = _header(layout, verdict, reason, score, threshold)
    footer = _footer(layout, recipe, camera, frame, captured_utc)
    body = np.full((panels.shape[0], layout.width, 3), _GROUND, np.uint8)
    left = (layout.width - panels.shape[1]) // 2
    body[:, left : left + panels.shape[1]] = panels
    return np.ascontiguousarray(np.concatenate([header, body, footer], axis=0))


def panel(
    image: Image, anomaly_map: NDArray[np.float32] | None = None, threshold: float | None = None
) -> Image:
    """One panel of `overlay`, without words: the frame, or its heatmap where there are a map and a threshold.

    Arguments and errors as `overlay` has them. Returns uint8 (rows, columns, 3) BGR.
    """
    _require(image, anomaly_map)
    layout = _arrange(image.shape[1], image.shape[0])
    shown = _fit(image, layout)
    ratio = _ratio(anomaly_map, threshold)
    return shown if ratio is None else _outlined(_heated(shown, ratio, layout), ratio, layout)


def heat_colours(ratio: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Anomaly / threshold, float32 of any shape, to BGR (…, 3) uint8 and opacity (…, 1) float32.

    Everything at or below 1 is cold, everything above it warm, exactly.
    """
    step = np.clip(ratio * ((_STEPS - 1) / TOP_RATIO), 0, _STEPS - 1).astype(np.int32)
    step = np.where(ratio > 1.0, np.maximum(step, _LAST_COLD + 1), np.minimum(step, _LAST_COLD))
    colours, opacity = _table()
    return colours[step], opacity[step][..., None]


def _table() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    at = np.linspace(0.0, TOP_RATIO, _STEPS)
    cold, warm = _SCALE[:4], _SCALE[4:]
    is_cold = np.arange(_STEPS) <= _LAST_COLD
    columns = [
        np.where(is_cold, np.interp(at, cold[:, 0], cold[:, i]), np.interp(at, warm[:, 0], warm[:, i]))
        for i in range(1, 5)
    ]
    return np.stack(columns[:3], axis=1).round().astype(np.uint8), columns[3].astype(np.float32)


def _require(image: Image, anomaly_map: NDArray[np.float32] | None) -> None:
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise ValueError(f"image is {image.dtype} {image.shape}, not uint8 (H, W, 3) or (H, W)")
    if image.size == 0:
        raise ValueError(f"image is empty: {image.shape}")
    if anomaly_map is not None and (anomaly_map.ndim != 2 or anomaly_map.size == 0):
        raise ValueError(f"anomaly map is {anomaly_map.shape}, not (h, w)")


def _arrange(width: int, height: int) -> _Layout:
    stacked = width >= STACK_FROM * height
    unit = 11
    room = MAX_WIDTH if stacked else (MAX_WIDTH - unit) // 2
    scale = min(room / width, MAX_PANEL_HEIGHT / height, max(1.0, MIN_PANEL / max(width, height)))
    panel_width = min(room, max(1, round(width * scale)))
    panel_height = min(MAX_PANEL_HEIGHT, max(1, round(height * scale)))
    across = panel_width if stacked else 2 * panel_width + unit
    total = max(across, 2 * MIN_PANEL + unit)
    # Text grows with the picture: what counts is its size once the picture fills a screen.
    return _Layout(total, panel_width, panel_height, stacked, unit=max(8, min(unit, total // 100)))


def _fit(image: Image, layout: _Layout) -> Image:
    size = (layout.panel_width, layout.panel_height)
    if image.shape[1] == size[0] and image.shape[0] == size[1]:
        shown = image
    else:
        smaller = image.shape[1] > size[0] or image.shape[0] > size[1]
        shown = np.asarray(
            cv2.resize(image, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC), np.uint8
        )
    if shown.ndim == 2:
        shown = np.asarray(cv2.cvtColor(shown, cv2.COLOR_GRAY2BGR), np.uint8)
    return shown


def _ratio(anomaly_map: NDArray[np.float32] | None, threshold: float | None) -> NDArray[np.float32] | None:
    """Anomaly / threshold, or None where that says nothing."""
    if anomaly_map is None or threshold is None or not math.isfinite(threshold) or threshold <= 0:
        return None
    if not bool(np.isfinite(anomaly_map).all()):
        return None
    return (anomaly_map / np.float32(threshold)).astype(np.float32)


def _heated(shown: Image, ratio: NDArray[np.float32], layout: _Layout) -> Image:
    """Colours over a grey, dimmed frame: a red part must not look like a defect."""
    grey = cv2.cvtColor(shown, cv2.COLOR_BGR2GRAY).astype(np.float32) * 0.8 + 10
    stretched = np.asarray(
        cv2.resize(ratio, (layout.panel_width, layout.panel_height), interpolation=cv2.INTER_LINEAR),
        np.float32,
    )
    colours, opacity = heat_colours(stretched)
    return (grey[..., None] * (1 - opacity) + colours.astype(np.float32) * opacity).astype(np.uint8)


def _outlined(heated: Image, ratio: NDArray[np.float32], layout: _Layout) -> Image:
    """A line around everything above the threshold, with some room, so that it hides none of it."""
    size = (layout.panel_width, layout.panel_height)
    # From the map's own pixels: interpolation may flatten a peak of one pixel below the threshold, and a
    # rejected part without any outline would be a riddle.
    above = cv2.resize((ratio > 1.0).astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    longer = max(size)
    room = max(7, longer // 90)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * room + 1, 2 * room + 1))
    grown = cv2.dilate(above.astype(np.uint8), kernel)
    contours, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    line = max(2, longer // 500)
    drawn = heated.copy()
    cv2.drawContours(drawn, contours, -1, (0, 0, 0), line + 2, cv2.LINE_AA)
    cv2.drawContours(drawn, contours, -1, (255, 255, 255), line, cv2.LINE_AA)
    return drawn


def _without_map(shown: Image, layout: _Layout, anomaly_map: NDArray[np.float32] | None) -> Image:
    words = "not scored" if anomaly_map is None else "no valid anomaly map"
    dimmed = (cv2.cvtColor(cv2.cvtColor(shown, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR) * 0.35).astype(
        np.uint8
    )
    height = min(2 * layout.unit, max(4, layout.panel_height // 4))
    width = _text_width(words, height)
    x = max(2, (layout.panel_width - width) // 2)
    _write(dimmed, words, x, (layout.panel_height + height) // 2, height, _INK, layout.panel_width - 4)
    return dimmed


def _header(
    layout: _Layout, verdict: str, reason: str | None, score: float | None, threshold: float | None
) -> Image:
    bar = np.full((layout.header, layout.width, 3), _BAR.get(verdict, _BAR["uninspected"]), np.uint8)
    pad = layout.unit + layout.unit // 2
    big = round(2.4 * layout.unit)
    words = verdict.upper() if reason is None else f"{verdict.upper()}: {reason}"
    numbers = [f"score {_number(score)}", f"threshold {_number(threshold)}"]
    comparison = _comparison(score, threshold)
    small = round(1.25 * layout.unit)
    column = max(_text_width(line, small, 2) for line in numbers)
    right = layout.width - pad - column
    _write(bar, numbers[0], right, pad + small, small, _INK, column, 2)
    _write(bar, numbers[1], right, layout.header - pad, small, _INK, column, 2)
    space = right - 3 * pad
    factor_width = 0
    if comparison is not None:
        factor_width = min(_text_width(comparison, 2 * small, 2), space // 2)
        _write(
            bar,
            comparison,
            right - 2 * pad - factor_width,
            (layout.header + 2 * small) // 2,
            2 * small,
            _INK,
            factor_width,
            2,
        )
        factor_width += 2 * pad
    _write(bar, words, pad, (layout.header + big) // 2, big, _INK, space - factor_width, 3)
    return bar


def _footer(layout: _Layout, recipe: str, camera: str, frame: int, captured_utc: str) -> Image:
    strip = np.full((layout.footer, layout.width, 3), _GROUND, np.uint8)
    pad = layout.unit + layout.unit // 2
    text = round(1.15 * layout.unit)
    half = layout.width // 2 - 2 * pad
    _write(strip, f"recipe {recipe}   camera {camera}", pad, 2 * pad + text // 2, text, _INK, half)
    _write(strip, f"frame {frame}   {captured_utc}", pad, layout.footer - 2 * pad, text, _FAINT, half)
    _legend(strip, layout, layout.width // 2 + pad, layout.width - pad)
    return strip


def _legend(strip: Image, layout: _Layout, left: int, right: int) -> None:
    """The colour scale, with the threshold marked: the same in every picture."""
    small = layout.unit
    _write(strip, "anomaly", left, 2 * layout.unit + small // 2, small, _FAINT, right - left)
    top, bottom = 4 * layout.unit, 6 * layout.unit
    ratio = np.linspace(0, TOP_RATIO, right - left, dtype=np.float32)
    colours, opacity = heat_colours(ratio)
    # Over middle grey, as the colours look over a frame.
    mixed = (128 * (1 - opacity) + colours.astype(np.float32) * opacity).astype(np.uint8)
    strip[top:bottom, left:right] = mixed[None]
    at = left + round((right - left) / TOP_RATIO)
    cv2.line(strip, (at, top - layout.unit // 2), (at, bottom + layout.unit // 2), _INK, 2)
    base = bottom + layout.unit // 2 + layout.unit + small // 2
    labels = (("0", left, 0.0), ("threshold", at, 0.5), ("2x", (at + right) // 2, 0.5), ("3x", right, 1.0))
    for words, x, anchor in labels:
        width = _text_width(words, small)
        _write(strip, words, round(x - anchor * width), base, small, _INK if x == at else _FAINT, width)


def _comparison(score: float | None, threshold: float | None) -> str | None:
    if score is None or threshold is None or not (math.isfinite(score) and math.isfinite(threshold)):
        return None
    if threshold <= 0:
        return None
    ratio = score / threshold
    if ratio > 1.0:
        # Never "100 %" for a reject, nor for a pass that is below.
        return f"{max(ratio, 1.01):.2f}x threshold" if ratio < 9.995 else f"{min(ratio, 9999):.0f}x threshold"
    return f"{min(math.ceil(100 * ratio), 100)}% of threshold"


def _number(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:.4g}"


_FONT = cv2.FONT_HERSHEY_SIMPLEX


def _scale(height: int) -> float:
    """Hershey capitals are 21 units high at scale 1."""
    return height / 21.0


def _text_width(words: str, height: int, weight: int = 1) -> int:
    return int(cv2.getTextSize(words, _FONT, _scale(height), weight)[0][0])


def _write(
    canvas: Image, words: str, x: int, baseline: int, height: int, colour: _Colour, room: int, weight: int = 1
) -> None:
    """Text whose capitals are `height` pixels high, made smaller where it would not fit into `room`."""
    width = _text_width(words, height, weight)
    scale = _scale(height) * min(1.0, max(room, 1) / max(width, 1))
    cv2.putText(canvas, words, (x, baseline), _FONT, scale, colour, weight, cv2.LINE_AA)
