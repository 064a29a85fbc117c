"""The layout says where the picture's parts really are, so that a stored picture can be cut apart again."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.images.overlay import Caption, draw_overlay, draw_panel
from monitor.images.overlay_layout import arrange_picture


@pytest.mark.parametrize("size", [(256, 256), (1920, 1080), (48, 64), (2400, 300), (128, 1096)])
def test_frame_and_heatmap_lie_where_the_layout_puts_them(size: tuple[int, int]) -> None:
    width, height = size
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    anomaly_map = np.random.default_rng(1).random((64, 64), np.float32)
    caption = Caption(
        verdict="reject", score=1.0, threshold=0.5, recipe="r", camera="c", frame=1, captured_utc=""
    )
    picture, layout = draw_overlay(image, anomaly_map, caption), arrange_picture(width, height)
    assert picture.shape == (layout.height, layout.width, 3)
    assert np.array_equal(picture[layout.frame.slices], draw_panel(image))
    assert np.array_equal(picture[layout.heatmap.slices], draw_panel(image, anomaly_map, 0.5))
