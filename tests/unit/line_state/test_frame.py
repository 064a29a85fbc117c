"""The conversion of a shot's pixels: the same light gives the same value in every sensor format."""

from __future__ import annotations

import numpy as np
import pytest

from drivers.camera import Shot
from monitor.line_state.frame import PixelFormat, ShotError, crop_shot, shot_to_image, to_image


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


def shot(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], pixel_format: str = "Mono8") -> Shot:
    return Shot(pixels, pixel_format, 0)


def test_a_shot_becomes_the_image_of_its_region() -> None:
    rgb = np.arange(96, dtype=np.uint8).reshape(4, 8, 3)
    image = shot_to_image(shot(rgb, "RGB8"), (2, 1, 3, 2))
    assert np.array_equal(image, rgb[1:3, 2:5, ::-1])


def test_raw_pixels_are_cropped_without_a_copy() -> None:
    mono = np.zeros((4, 8), np.uint8)
    pixels, format = crop_shot(shot(mono), (2, 1, 3, 2))
    assert (pixels.shape, format) == ((2, 3), PixelFormat.Mono8)
    assert np.shares_memory(pixels, mono)


def test_a_region_outside_the_image_is_refused_with_its_numbers() -> None:
    with pytest.raises(ShotError, match=r"\[0, 0, 9, 2\] reaches outside the 8x4 image"):
        crop_shot(shot(np.zeros((4, 8), np.uint8)), (0, 0, 9, 2))


def test_an_unknown_pixel_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ShotError, match=r"YUV422 is not supported: set the camera to one of BGR8, .*Mono16"):
        crop_shot(shot(np.zeros((4, 8), np.uint8), "YUV422"), None)
