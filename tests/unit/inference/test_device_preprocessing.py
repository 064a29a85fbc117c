"""A device's preprocessing gives the same grey levels as `monitor.images.preprocessing`."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.image_file import Image
from monitor.images import preprocessing
from monitor.images.preprocessing import Size
from monitor.inference.device_preprocessing import DevicePreprocessing, to_image

CPU = torch.device("cpu")


def textured(shape: tuple[int, ...], seed: int = 0) -> Image:
    """An image with noise in every pixel and smooth shapes, so that rounding errors show at both scales."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 7, *shape[2:]), dtype=np.uint8)
    smooth = cv2.resize(coarse, shape[1::-1], interpolation=cv2.INTER_CUBIC).reshape(shape)
    noisy = smooth.astype(np.int16) + rng.integers(-40, 41, shape)
    return np.asarray(np.clip(noisy, 0, 255), np.uint8)


def frames_of(image: Image) -> torch.Tensor:
    return torch.from_numpy(image.reshape(1, *image.shape[:2], -1))


def on_device(image: Image, size: Size) -> Image:
    return to_image(DevicePreprocessing(image.shape[:2], size, CPU).resize(frames_of(image)))


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        pytest.param((1080, 1920, 3), (256, 256), id="halved twice, then by odd factors"),
        pytest.param((1080, 1920), (256, 256), id="mono"),
        pytest.param((2048, 2448, 3), (256, 256), id="halved, then both by fractions"),
        pytest.param((777, 1333, 3), (64, 64), id="many times, odd sides"),
        pytest.param((1024, 1024, 3), (256, 256), id="halved twice, no further resize"),
        pytest.param((512, 512, 3), (256, 256), id="twice"),
        pytest.param((768, 768, 3), (256, 256), id="three times"),
        pytest.param((300, 600, 3), (100, 100), id="three times by six: halves are rounded to even"),
        pytest.param((257, 300), (256, 256), id="by one pixel"),
        pytest.param((256, 256, 3), (256, 256), id="no resize"),
        pytest.param((100, 80, 3), (256, 256), id="enlarged"),
        pytest.param((37, 91), (64, 160), id="enlarged, mono"),
        pytest.param((500, 20, 3), (64, 64), id="rows reduced, columns enlarged"),
        pytest.param((20, 500, 3), (64, 64), id="rows enlarged, columns reduced"),
        pytest.param((64, 20, 3), (64, 64), id="one axis not resized"),
        pytest.param((1, 1, 3), (64, 64), id="one pixel"),
        pytest.param((1, 1000), (64, 64), id="one row"),
        pytest.param((1000, 1, 3), (64, 32), id="one column"),
    ],
)
def test_a_device_squashes_a_frame_as_opencv_does(shape: tuple[int, ...], size: Size) -> None:
    image = textured(shape)
    expected = preprocessing.resize_image(image, size)
    found = on_device(image, size)
    assert found.shape == expected.shape
    apart = np.abs(found.astype(int) - expected)
    assert apart.max() <= 1
    assert (apart > 0).mean() <= 1e-3


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.tuples(st.integers(32, 80), st.integers(32, 80)),
    st.sampled_from([(), (3,)]),
)
def test_no_shape_is_further_off_than_one_grey_level(
    shape: Size, size: Size, channels: tuple[int, ...]
) -> None:
    image = textured((*shape, *channels), seed=shape[0])
    apart = np.abs(on_device(image, size).astype(int) - preprocessing.resize_image(image, size))
    assert apart.max() <= 1
    assert (apart > 0).mean() <= 2e-2, "one pixel is a large share of such a small image"


@pytest.mark.parametrize("shape", [(64, 64, 3), (64, 64)])
def test_grey_levels_are_normalised_to_the_same_numbers(shape: tuple[int, ...]) -> None:
    image = textured(shape)
    found = DevicePreprocessing((64, 64), (64, 64), CPU).prepare(frames_of(image))
    assert found.shape == (1, 3, 64, 64)
    assert np.allclose(found[0].numpy(), preprocessing.normalise_image(image), rtol=1e-6, atol=1e-6)


def test_frames_of_one_shape_are_squashed_together_as_each_alone() -> None:
    frames = np.stack([textured((120, 200, 3), seed) for seed in range(3)])
    together = DevicePreprocessing((120, 200), (64, 64), CPU).resize(torch.from_numpy(frames))
    for picture, frame in zip(together, frames, strict=True):
        assert np.array_equal(to_image(picture[None]), on_device(frame, (64, 64)))
