"""The same light gives the same value, whatever the sensor's format."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.line_state.frame import PixelFormat, crop, to_image


@pytest.mark.parametrize(
    ("format", "raw", "eight_bits"),
    [(PixelFormat.Mono10, 1023, 255), (PixelFormat.Mono12, 2048, 128), (PixelFormat.Mono16, 65535, 255)],
)
def test_more_bits_are_shifted_never_stretched(format: PixelFormat, raw: int, eight_bits: int) -> None:
    dark = to_image(np.full((2, 2), raw, np.uint16), format)
    assert dark.dtype == np.uint8
    assert (dark == eight_bits).all()


@pytest.mark.parametrize(
    ("format", "red_at"),
    [
        (PixelFormat.BayerRG8, (0, 0)),
        (PixelFormat.BayerGR8, (0, 1)),
        (PixelFormat.BayerGB8, (1, 0)),
        (PixelFormat.BayerBG8, (1, 1)),
    ],
)
def test_a_red_part_is_red_in_every_bayer_pattern(format: PixelFormat, red_at: tuple[int, int]) -> None:
    mosaic = np.zeros((16, 16), np.uint8)
    mosaic[red_at[0] :: 2, red_at[1] :: 2] = 200
    blue, green, red = to_image(mosaic, format)[8, 8]
    assert (red, green, blue) == (200, 0, 0)


def test_rgb_becomes_bgr_and_bgr_and_mono_stay_in_place() -> None:
    rgb = np.zeros((2, 2, 3), np.uint8)
    rgb[..., 0] = 7
    assert to_image(rgb, PixelFormat.RGB8)[0, 0].tolist() == [0, 0, 7]
    assert to_image(rgb, PixelFormat.BGR8) is rgb


def test_a_region_outside_the_image_is_refused_with_its_numbers() -> None:
    with pytest.raises(ValueError, match=r"\[0, 0, 9, 2\] reaches outside the 8x4 image"):
        crop(np.zeros((4, 8), np.uint8), PixelFormat.Mono8, (0, 0, 9, 2))
