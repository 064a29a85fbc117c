"""Where the header, the frame, its heatmap and the footer lie in the operator's picture.

It knows nothing of pixels' values: these are pure functions of sizes. The review page uses it to cut a stored
picture into its panels.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_WIDTH = 1600
"""Pixels. The picture is never wider, whatever the camera's resolution."""
MAX_PANEL_HEIGHT = 1200
"""Pixels. Limits the tall images of line-scan cameras to what fits a screen and a JPEG."""
MIN_PANEL = 480
"""Pixels along a panel's longer side; smaller images are enlarged to it."""
STACK_FROM = 2.6
"""From this width / height on, the heatmap lies below the frame: side by side, both would be thin strips."""

_LARGEST_UNIT = 11
_SMALLEST_UNIT = 8


@dataclass(frozen=True, slots=True)
class Panel:
    """A rectangle in the picture, in pixels; `bottom` and `right` are the first row and column beyond it."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and columns, to index the picture with."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


@dataclass(frozen=True, slots=True)
class PictureLayout:
    """The picture's layout, in pixels; the frame and its heatmap have the same size."""

    width: int
    frame: Panel
    heatmap: Panel
    unit: int
    """The height of a capital letter in the smallest text; every margin is a multiple of it."""

    @property
    def header(self) -> int:
        """The header's height."""
        return 6 * self.unit

    @property
    def footer(self) -> int:
        """The footer's height."""
        return 10 * self.unit

    @property
    def height(self) -> int:
        return self.heatmap.bottom + self.footer

    @property
    def panel_size(self) -> tuple[int, int]:
        """Width and height of one panel."""
        return self.frame.right - self.frame.left, self.frame.bottom - self.frame.top


def arrange_picture(width: int, height: int) -> PictureLayout:
    """The layout of the picture of an image of that size."""
    stacked = width >= STACK_FROM * height
    room = MAX_WIDTH if stacked else (MAX_WIDTH - _LARGEST_UNIT) // 2
    scale = min(room / width, MAX_PANEL_HEIGHT / height, max(1.0, MIN_PANEL / max(width, height)))
    wide = min(room, max(1, round(width * scale)))
    tall = min(MAX_PANEL_HEIGHT, max(1, round(height * scale)))
    needed = wide if stacked else 2 * wide + _LARGEST_UNIT
    total = max(needed, 2 * MIN_PANEL + _LARGEST_UNIT)
    # The text grows with the picture: a wide picture is shown smaller on a screen.
    unit = max(_SMALLEST_UNIT, min(_LARGEST_UNIT, total // 100))
    top, gap = 6 * unit, unit
    left = (total - (wide if stacked else 2 * wide + gap)) // 2
    frame = Panel(top, left, top + tall, left + wide)
    if stacked:
        top += tall + gap
    else:
        left += wide + gap
    return PictureLayout(total, frame, Panel(top, left, top + tall, left + wide), unit)
