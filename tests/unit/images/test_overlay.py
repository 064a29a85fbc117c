"""The operator's picture has fixed colours, an outline for every reject, and readable text at every size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from monitor.images.overlay import Caption, draw_heatmap, draw_overlay
from monitor.images.overlay_layout import MAX_PANEL_HEIGHT, MAX_WIDTH

THRESHOLD = 0.01


def draw(
    image: NDArray[np.uint8], anomaly_map: NDArray[np.float32] | None, **changes: Any
) -> NDArray[np.uint8]:
    caption: dict[str, Any] = {
        "score": None if anomaly_map is None else float(anomaly_map.max()),
        "threshold": THRESHOLD,
        "verdict": "reject",
        "recipe": "bottle-top",
        "camera": "top",
        "frame": 1,
        "captured_utc": "2026-11-23T18:00:00.123Z",
    }
    return draw_overlay(image, anomaly_map, Caption(**{**caption, **changes}))


def grey(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 120, np.uint8)


def quiet(height: int = 64, width: int = 64) -> NDArray[np.float32]:
    return np.full((height, width), 0.0005, np.float32)


def halves(picture: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The frame and the heatmap of a picture of a square image, without header, footer and margins."""
    half = picture.shape[1] // 2
    body = picture[90:-120]
    return body[:, : half - 12], body[:, half + 12 : -12]


def white(picture: NDArray[np.uint8]) -> int:
    """The number of white pixels: only outlines are white."""
    return int((picture.min(axis=2) > 240).sum())


@pytest.mark.parametrize(
    "shape",
    [
        (1, 1),
        (16, 16, 3),
        (48, 64),
        (256, 256, 3),
        (1080, 1920, 3),
        (3648, 5472, 3),
        (64, 8192),
        (4096, 128, 3),
    ],
)
def test_every_size_gives_a_bounded_picture_with_room_for_the_words(shape: tuple[int, ...]) -> None:
    picture = draw(np.full(shape, 100, np.uint8), quiet())
    height, width = picture.shape[:2]
    assert picture.dtype == np.uint8
    assert 900 <= width <= MAX_WIDTH
    assert height <= 2 * MAX_PANEL_HEIGHT + 300


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    rows=st.integers(1, 90),
    columns=st.integers(1, 90),
    peak=st.floats(0, 1e6, width=32),
)
def test_no_combination_of_sizes_fails(height: int, width: int, rows: int, columns: int, peak: float) -> None:
    anomaly_map = quiet(rows, columns)
    anomaly_map[rows // 2, columns // 2] = peak
    assert draw(np.zeros((height, width), np.uint8), anomaly_map).shape[1] <= MAX_WIDTH


def test_colours_follow_the_threshold_and_not_the_picture() -> None:
    """A map stretched to its own range would make every good part glow."""
    faint = quiet()
    faint[30:34, 30:34] = 0.003
    _, heat = halves(draw(grey(256, 256), faint))
    assert int(np.ptp(heat.astype(int), axis=2).max()) == 0


@pytest.mark.parametrize("size", [(96, 96), (256, 256), (1500, 2000), (300, 2400)])
def test_a_single_pixel_above_the_threshold_is_outlined(size: tuple[int, int]) -> None:
    """Interpolation flattens such a peak below the threshold; the rejected part still needs an outline."""
    good, bad = quiet(256, 256), quiet(256, 256)
    bad[100, 50] = THRESHOLD * 1.01
    before, after = draw(grey(*size), good), draw(grey(*size), bad)
    changed = np.abs(after[90:-120].astype(int) - before[90:-120].astype(int)).max(axis=2) > 100
    assert changed.sum() > 20


def test_at_the_threshold_nothing_is_outlined() -> None:
    level = quiet()
    level[20:40, 20:40] = THRESHOLD
    _, heat = halves(draw(grey(256, 256), level, verdict="pass", threshold=float(np.float32(THRESHOLD))))
    assert white(heat) == 0


def test_the_outline_surrounds_the_defect_and_leaves_the_frame_alone() -> None:
    bad = quiet()
    bad[20:30, 40:50] = 0.05
    frame, heat = halves(draw(grey(512, 512), bad))
    assert white(frame) == 0
    assert white(heat) > 100
    middle = heat[heat.shape[0] // 2 - 120 : heat.shape[0] // 2, heat.shape[1] // 2 :]
    assert (middle[..., 2].astype(int) - middle[..., 0]).max() > 60, "the defect itself stays warm"


def test_the_bar_has_the_colour_of_the_verdict() -> None:
    corner = {
        v: draw(grey(64, 64), quiet(), verdict=v)[2, 2].astype(int) for v in ("pass", "reject", "uninspected")
    }
    assert corner["pass"].argmax() == 1
    assert corner["reject"].argmax() == 2
    assert corner["uninspected"][2] > corner["uninspected"][1] > corner["uninspected"][0]


@pytest.mark.parametrize("words", ["recipe", "camera", "captured_utc"])
def test_what_is_written_shows(words: str) -> None:
    one = draw(grey(256, 256), quiet())
    other = draw(grey(256, 256), quiet(), **{words: "something-else-of-32-characters-"})
    assert not np.array_equal(one, other)


def test_score_and_threshold_are_written() -> None:
    one = draw(grey(256, 256), quiet())
    assert not np.array_equal(one, draw(grey(256, 256), quiet(), score=0.009))
    assert not np.array_equal(one[:60], draw(grey(256, 256), quiet(), threshold=0.02)[:60])


@pytest.mark.parametrize(
    ("score", "threshold"),
    [(None, None), (float("nan"), 0.01), (0.02, None), (0.02, 0.0), (float("inf"), 0.01)],
)
def test_a_frame_without_a_valid_score_is_drawn_too(score: float | None, threshold: float | None) -> None:
    broken = quiet()
    broken[3, 3] = np.nan
    for anomaly_map in (None, broken, quiet()):
        picture = draw(
            grey(100, 100),
            anomaly_map,
            score=score,
            threshold=threshold,
            verdict="uninspected",
            reason="bad_score",
        )
        assert picture.shape[2] == 3


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint16), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8), np.zeros(4)],
)
def test_what_is_no_image_is_refused(image: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="image is"):
        draw(image, None)


def test_heatmaps_of_files_have_the_picture_s_colours_at_the_image_s_size() -> None:
    """A good part must not glow because its own map was stretched."""
    image = np.full((64, 48), 128, np.uint8)
    far_below, below, above = (
        draw_heatmap(image, np.full((32, 32), level, np.float32), 1.0)[32, 24].astype(int)
        for level in (0.1, 0.9, 3.0)
    )
    assert far_below[0] == far_below[2], "far below the threshold the image stays grey"
    assert below[0] > below[2], "below the threshold it is blue"
    assert above[2] > above[1], "far above the threshold it is red"
    assert draw_heatmap(image, quiet(), 1.0).shape == (64, 48, 3)


def test_a_heatmap_of_values_that_are_not_numbers_is_hot() -> None:
    broken = draw_heatmap(grey(64, 64), np.full((32, 32), np.nan, np.float32), 1.0)
    hot = draw_heatmap(grey(64, 64), np.full((32, 32), 9.0, np.float32), 1.0)
    assert np.array_equal(broken, hot)
