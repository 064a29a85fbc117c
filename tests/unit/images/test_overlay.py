"""The operator's picture: fixed colours, an outline for every reject, readable at every size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from monitor.images.overlay import MAX_PANEL_HEIGHT, MAX_WIDTH, heat_colours, overlay

THRESHOLD = 0.01


def draw(
    image: NDArray[np.uint8], anomaly_map: NDArray[np.float32] | None, **changes: Any
) -> NDArray[np.uint8]:
    words: dict[str, Any] = {
        "score": None if anomaly_map is None else float(anomaly_map.max()),
        "threshold": THRESHOLD,
        "verdict": "reject",
        "recipe": "bottle-top",
        "camera": "top",
        "frame": 1,
        "captured_utc": "2026-11-23T18:00:00.123Z",
    }
    return overlay(image, anomaly_map, **{**words, **changes})


def grey(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 120, np.uint8)


def quiet(height: int = 64, width: int = 64) -> NDArray[np.float32]:
    return np.full((height, width), 0.0005, np.float32)


def panels(picture: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The middles of frame and heatmap, away from header and footer."""
    half = picture.shape[1] // 2
    body = picture[90:-120]
    return body[:, : half - 12], body[:, half + 12 : -12]


def white(picture: NDArray[np.uint8]) -> int:
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
    _, heat = panels(draw(grey(256, 256), faint))
    assert int(np.ptp(heat.astype(int), axis=2).max()) == 0
    same = np.full((4,), 0.7, np.float32)
    alone, _ = heat_colours(same)
    among, _ = heat_colours(np.append(same, np.float32(50)))
    assert np.array_equal(alone[0], among[0])


def test_the_colour_changes_at_the_threshold_exactly() -> None:
    below, at, above = (
        heat_colours(np.array([r], np.float32))[0][0].astype(int) for r in (0.999, 1.0, 1.001)
    )
    assert np.abs(at - below).max() < 5
    assert at[0] > at[2], "cold: more blue than red"
    assert above[2] > above[0], "warm: more red than blue"
    assert np.abs(above - at).max() > 100


@pytest.mark.parametrize("size", [(96, 96), (256, 256), (1500, 2000), (300, 2400)])
def test_a_single_pixel_above_the_threshold_is_outlined(size: tuple[int, int]) -> None:
    """Interpolation flattens such a peak below the threshold; a reject without an outline is a riddle."""
    good, bad = quiet(256, 256), quiet(256, 256)
    bad[100, 50] = THRESHOLD * 1.01
    before, after = draw(grey(*size), good), draw(grey(*size), bad)
    changed = np.abs(after[90:-120].astype(int) - before[90:-120].astype(int)).max(axis=2) > 100
    assert changed.sum() > 20


def test_at_the_threshold_nothing_is_outlined() -> None:
    level = quiet()
    level[20:40, 20:40] = THRESHOLD
    _, heat = panels(draw(grey(256, 256), level, verdict="pass", threshold=float(np.float32(THRESHOLD))))
    assert white(heat) == 0


def test_the_outline_surrounds_the_defect_and_leaves_the_frame_alone() -> None:
    bad = quiet()
    bad[20:30, 40:50] = 0.05
    frame, heat = panels(draw(grey(512, 512), bad))
    assert white(frame) == 0
    assert white(heat) > 100
    middle = heat[heat.shape[0] // 2 - 120 : heat.shape[0] // 2, heat.shape[1] // 2 :]
    assert (middle[..., 2].astype(int) - middle[..., 0]).max() > 60, "the defect itself stays warm"


def test_the_bar_says_the_verdict_in_colour() -> None:
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
