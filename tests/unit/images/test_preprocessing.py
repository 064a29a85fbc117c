"""There is one way from an image to the network's input, and it uses every pixel."""

from __future__ import annotations

import numpy as np
import pytest

from drivers import image_file
from monitor.images import preprocessing
from tests.real.image_bytes import RED, plain


def test_prepared_is_normalised_rgb() -> None:
    prepared = preprocessing.prepare(plain(RED), (32, 32))
    assert prepared.shape == (3, 32, 32)
    assert prepared.dtype == np.float32
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    assert prepared[:, 5, 5] == pytest.approx(expected, rel=1e-5)


def test_mono_is_the_same_as_three_equal_channels() -> None:
    mono = np.random.default_rng(0).integers(0, 256, (300, 200), np.uint8)
    assert np.array_equal(
        preprocessing.prepare(mono, (64, 64)), preprocessing.prepare(np.stack([mono] * 3, axis=2), (64, 64))
    )


@pytest.mark.parametrize(
    "shape", [(1080, 1920), (64, 64), (20, 30), (500, 20), (20, 500), (1, 1), (777, 513)]
)
def test_every_shape_is_resized_to_the_square(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 77, np.uint8)
    assert np.array_equal(preprocessing.resize_image(image, (64, 64)), np.full((64, 64, 3), 77, np.uint8))


@pytest.mark.parametrize("shape", [(1080, 1920), (512, 512), (300, 400), (1024, 30)])
def test_shrinking_looks_at_every_pixel(shape: tuple[int, int]) -> None:
    """A defect of a few pixels must not vanish between sampling points."""
    for place in [(100, 10), (101, 11), (102, 12), (103, 13)]:
        image = np.zeros(shape, np.uint8)
        image[place[0] - 2 : place[0] + 3, place[1] - 2 : place[1] + 3] = 255
        assert preprocessing.resize_image(image, (64, 64)).max() > 0


def test_shrinking_is_the_mean_of_what_falls_into_a_pixel() -> None:
    image = np.random.default_rng(0).integers(0, 256, (512, 512), np.uint8)
    blocks = image.reshape(64, 8, 64, 8).mean(axis=(1, 3))
    assert np.abs(preprocessing.resize_image(image, (64, 64)) - blocks).max() <= 2


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_arrays_that_are_no_images_are_refused(image: image_file.Image) -> None:
    with pytest.raises(ValueError, match="an image is uint8"):
        preprocessing.prepare(image, (32, 32))
