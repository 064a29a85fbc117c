"""The picture an operator judges a part by: the frame beside its heatmap, with the verdict and the numbers.

The heatmap's colours follow anomaly / threshold (`monitor.images.heat_scale`). They are never stretched to
one image's own range, which would make every good part glow. This module knows nothing of files, and nothing
of where the picture's parts lie (`monitor.images.overlay_layout`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.image_file import Image
from monitor.images import preprocessing
from monitor.images.heat_scale import TOP_RATIO, heat_colours
from monitor.images.overlay_layout import PictureLayout, arrange_picture

_Colour = tuple[int, int, int]  # blue, green, red
_INK: _Colour = (245, 245, 245)
_FAINT: _Colour = (170, 170, 170)
_GROUND: _Colour = (32, 30, 28)
_VERDICT_COLOURS: dict[str, _Colour] = {
    "pass": (72, 132, 30),
    "reject": (38, 30, 196),
    "uninspected": (0, 120, 214),
}
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """What is written on a frame's picture."""

    verdict: str
    """pass, reject or uninspected."""
    reason: str | None = None
    """Why the frame is uninspected."""
    score: float | None
    threshold: float | None
    """The heatmap's colours follow anomaly / threshold."""
    recipe: str
    camera: str
    frame: int
    captured_utc: str
    """Written as it is given."""


def draw_overlay(image: Image, anomaly_map: NDArray[np.float32] | None, caption: Caption) -> Image:
    """The operator's picture of one frame.

    `image` is the frame as it was scored, uint8 (H, W, 3) BGR or (H, W). `anomaly_map` is float32 (h, w) of
    any size, in the threshold's unit, or None for a frame that was not scored.

    Returns uint8 (rows, columns, 3) BGR, at most `overlay_layout.MAX_WIDTH` wide. Raises ValueError for an
    image of another shape or dtype, and for a map that is empty or not (h, w).
    """
    _check(image, anomaly_map)
    layout = arrange_picture(image.shape[1], image.shape[0])
    frame = _fit(image, layout.panel_size)
    ratio = _ratio(anomaly_map, caption.threshold)
    picture = np.full((layout.height, layout.width, 3), _GROUND, np.uint8)
    picture[: layout.header] = _header(layout, caption)
    picture[layout.frame.slices] = frame
    if ratio is None:
        words = "not scored" if anomaly_map is None else "no valid anomaly map"
        picture[layout.heatmap.slices] = _without_heatmap(frame, words, layout.unit)
    else:
        picture[layout.heatmap.slices] = _with_heat(frame, ratio)
    picture[-layout.footer :] = _footer(layout, caption)
    return picture


def draw_panel(
    image: Image, anomaly_map: NDArray[np.float32] | None = None, threshold: float | None = None
) -> Image:
    """One panel of the operator's picture: the heatmap if map and threshold are valid, otherwise the frame.

    Valid are a map of finite values and a finite threshold above 0. Arguments and errors are those of
    `draw_overlay`. Returns uint8 (rows, columns, 3) BGR.
    """
    _check(image, anomaly_map)
    frame = _fit(image, arrange_picture(image.shape[1], image.shape[0]).panel_size)
    ratio = _ratio(anomaly_map, threshold)
    return frame if ratio is None else _with_heat(frame, ratio)


def draw_heatmap(image: Image, anomaly_map: NDArray[np.float32], threshold: float) -> Image:
    """The heatmap at the image's own size: uint8 (H, W, 3) BGR.

    A value that is not a number has the hottest colour: it must not look like a good place. Arguments and
    errors are those of `draw_overlay`; `threshold` is above 0.
    """
    _check(image, anomaly_map)
    ratio = np.nan_to_num(anomaly_map / np.float32(threshold), nan=TOP_RATIO, posinf=TOP_RATIO)
    return _with_heat(_as_bgr(image), ratio.astype(np.float32))


def _check(image: Image, anomaly_map: NDArray[np.float32] | None) -> None:
    """Raises ValueError as `draw_overlay` does."""
    preprocessing.check_image(image)
    if anomaly_map is not None and (anomaly_map.ndim != 2 or anomaly_map.size == 0):
        raise ValueError(f"anomaly map is {anomaly_map.shape}, not (h, w)")


def _fit(image: Image, size: tuple[int, int]) -> Image:
    """The image in BGR at `size`, which is width and height."""
    if (image.shape[1], image.shape[0]) != size:
        shrinks = image.shape[1] > size[0] or image.shape[0] > size[1]
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        image = np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)
    return _as_bgr(image)


def _as_bgr(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8) if image.ndim == 2 else image


def _ratio(anomaly_map: NDArray[np.float32] | None, threshold: float | None) -> NDArray[np.float32] | None:
    """Anomaly / threshold, or None where the two give no valid heatmap."""
    if anomaly_map is None or threshold is None or not math.isfinite(threshold) or threshold <= 0:
        return None
    if not bool(np.isfinite(anomaly_map).all()):
        return None
    return (anomaly_map / np.float32(threshold)).astype(np.float32)


def _with_heat(frame: Image, ratio: NDArray[np.float32]) -> Image:
    """The heatmap over the frame, BGR, with an outline around everything above the threshold."""
    return _outline(_colour(frame, ratio), ratio)


def _colour(frame: Image, ratio: NDArray[np.float32]) -> Image:
    """The heat colours over the frame in dark grey: the frame's own red must not look like a defect."""
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY).astype(np.float32) * 0.8 + 10
    size = frame.shape[1], frame.shape[0]
    colours, opacity = heat_colours(
        np.asarray(cv2.resize(ratio, size, interpolation=cv2.INTER_LINEAR), np.float32)
    )
    return (grey[..., None] * (1 - opacity) + colours.astype(np.float32) * opacity).astype(np.uint8)


def _outline(heatmap: Image, ratio: NDArray[np.float32]) -> Image:
    """A line around everything above the threshold, a few pixels outside it, so that it covers no defect."""
    size = heatmap.shape[1], heatmap.shape[0]
    # Taken from the map's own pixels: bilinear interpolation can flatten a peak of one pixel below the
    # threshold, and a rejected part would then have no outline.
    above = cv2.resize((ratio > 1.0).astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    longer = max(size)
    room = max(7, longer // 90)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * room + 1, 2 * room + 1))
    grown = cv2.dilate(above.astype(np.uint8), kernel)
    contours, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    line = max(2, longer // 500)
    outlined = heatmap.copy()
    # White on a wider black line is visible on any frame.
    cv2.drawContours(outlined, contours, -1, (0, 0, 0), line + 2, cv2.LINE_AA)
    cv2.drawContours(outlined, contours, -1, (255, 255, 255), line, cv2.LINE_AA)
    return outlined


def _without_heatmap(frame: Image, words: str, unit: int) -> Image:
    """The frame, grey and dark, with the reason for the missing heatmap written over it."""
    grey = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    dark = (grey * 0.35).astype(np.uint8)
    rows, columns = dark.shape[:2]
    height = min(2 * unit, max(4, rows // 4))
    x = max(2, (columns - _text_width(words, height)) // 2)
    _write(dark, words, x, (rows + height) // 2, height, _INK, columns - 4)
    return dark


def _header(layout: PictureLayout, caption: Caption) -> Image:
    """A bar in the verdict's colour: the verdict, the score as a share of the threshold, and both numbers."""
    colour = _VERDICT_COLOURS.get(caption.verdict, _VERDICT_COLOURS["uninspected"])
    bar = np.full((layout.header, layout.width, 3), colour, np.uint8)
    pad = layout.unit + layout.unit // 2
    large, small = round(2.4 * layout.unit), round(1.25 * layout.unit)
    verdict = caption.verdict.upper()
    words = verdict if caption.reason is None else f"{verdict}: {caption.reason}"
    numbers = [f"score {_number(caption.score)}", f"threshold {_number(caption.threshold)}"]
    column = max(_text_width(line, small, 2) for line in numbers)
    right = layout.width - pad - column
    _write(bar, numbers[0], right, pad + small, small, _INK, column, 2)
    _write(bar, numbers[1], right, layout.header - pad, small, _INK, column, 2)
    room = right - 3 * pad
    comparison = _comparison(caption.score, caption.threshold)
    if comparison is not None:
        width = min(_text_width(comparison, 2 * small, 2), room // 2)
        baseline = (layout.header + 2 * small) // 2
        _write(bar, comparison, right - 2 * pad - width, baseline, 2 * small, _INK, width, 2)
        room -= width + 2 * pad
    _write(bar, words, pad, (layout.header + large) // 2, large, _INK, room, 3)
    return bar


def _footer(layout: PictureLayout, caption: Caption) -> Image:
    strip = np.full((layout.footer, layout.width, 3), _GROUND, np.uint8)
    pad = layout.unit + layout.unit // 2
    height = round(1.15 * layout.unit)
    half = layout.width // 2 - 2 * pad
    recipe = f"recipe {caption.recipe}   camera {caption.camera}"
    frame = f"frame {caption.frame}   {caption.captured_utc}"
    _write(strip, recipe, pad, 2 * pad + height // 2, height, _INK, half)
    _write(strip, frame, pad, layout.footer - 2 * pad, height, _FAINT, half)
    _legend(strip, layout.unit, layout.width // 2 + pad, layout.width - pad)
    return strip


def _legend(strip: Image, unit: int, left: int, right: int) -> None:
    """Draws the heat scale with its threshold into `strip`, from column `left` to `right`."""
    _write(strip, "anomaly", left, 2 * unit + unit // 2, unit, _FAINT, right - left)
    top, bottom = 4 * unit, 6 * unit
    colours, opacity = heat_colours(np.linspace(0, TOP_RATIO, right - left, dtype=np.float32))
    # Mixed with a middle grey, since the colours lie over a grey frame.
    mixed = (128 * (1 - opacity) + colours.astype(np.float32) * opacity).astype(np.uint8)
    strip[top:bottom, left:right] = mixed[None]
    threshold = left + round((right - left) / TOP_RATIO)
    cv2.line(strip, (threshold, top - unit // 2), (threshold, bottom + unit // 2), _INK, 2)
    baseline = bottom + unit // 2 + unit + unit // 2
    # The text, the column it belongs to, and the share of its width that lies left of that column.
    labels = (
        ("0", left, 0.0),
        ("threshold", threshold, 0.5),
        ("2x", (threshold + right) // 2, 0.5),
        ("3x", right, 1.0),
    )
    for words, x, share in labels:
        width = _text_width(words, unit)
        colour = _INK if x == threshold else _FAINT
        _write(strip, words, round(x - share * width), baseline, unit, colour, width)


def _comparison(score: float | None, threshold: float | None) -> str | None:
    """The score in percent of the threshold, above it as a multiple; None where there is no valid ratio."""
    if score is None or threshold is None or not (math.isfinite(score) and math.isfinite(threshold)):
        return None
    if threshold <= 0:
        return None
    ratio = score / threshold
    if ratio > 1.0:
        # At least 1.01: a rejected part must not be shown as "1.00x threshold".
        return f"{max(ratio, 1.01):.2f}x threshold" if ratio < 9.995 else f"{min(ratio, 9999):.0f}x threshold"
    return f"{min(math.ceil(100 * ratio), 100)}% of threshold"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _font_scale(height: int) -> float:
    """OpenCV's scale for capitals of `height` pixels: at scale 1 they are 21 pixels high."""
    return height / 21.0


def _text_width(words: str, height: int, weight: int = 1) -> int:
    return int(cv2.getTextSize(words, _FONT, _font_scale(height), weight)[0][0])


def _write(
    canvas: Image, words: str, x: int, baseline: int, height: int, colour: _Colour, room: int, weight: int = 1
) -> None:
    """Text whose capitals are `height` pixels high, or smaller where the text is wider than `room`."""
    width = _text_width(words, height, weight)
    scale = _font_scale(height) * min(1.0, max(room, 1) / max(width, 1))
    cv2.putText(canvas, words, (x, baseline), _FONT, scale, colour, weight, cv2.LINE_AA)
