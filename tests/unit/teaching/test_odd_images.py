"""Images that stand out are named, each for its own reason, and no others."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from drivers import simulated
from drivers.image_file import Image
from monitor.teaching.odd_images import ImageMeasure, Oddity, find_oddities, measure_image


@pytest.fixture(scope="module")
def parts() -> list[Image]:
    """Good parts of the simulated conveyor, as a camera sees them."""
    return [simulated.render("bottle-top", 1, index, 0.0) for index in range(24)]


def oddities_of(images: list[Image]) -> list[frozenset[Oddity]]:
    return find_oddities([measure_image(image) for image in images])


def test_each_picture_is_marked_for_what_is_odd_about_it(parts: list[Image]) -> None:
    shown = [part.copy() for part in parts]
    noise = np.random.default_rng(0).normal(0, 1.8, shown[3].shape)
    shown[9] = np.clip(shown[3] + noise, 0, 255).astype(np.uint8)
    shown[12] = cv2.GaussianBlur(shown[12], (0, 0), 4)
    shown[15] = (shown[15] * 0.6).astype(np.uint8)
    shown[18] = np.clip(shown[18] * 1.4, 0, 255).astype(np.uint8)
    found = oddities_of(shown)
    assert found[9] == {Oddity.COPY}
    assert found[12] == {Oddity.BLURRED}
    assert Oddity.DARKER in found[15]
    assert Oddity.LIGHTER in found[18]
    assert [i for i, oddities in enumerate(found) if oddities] == [9, 12, 15, 18]


def test_good_parts_that_are_as_usual_have_no_mark(parts: list[Image]) -> None:
    assert not any(oddities_of(parts))


def test_dark_images_stand_out_also_where_good_parts_differ_much_in_light() -> None:
    # The deciles of the light of 163 images of screws on wood, of pale and of dark wood.
    deciles = [59, 71, 81, 90, 102, 110, 114, 121, 126, 143, 165]
    usual = np.interp(np.linspace(0, 10, 163), range(11), deciles)
    lights = [*usual, 0.3 * 70, 0.3 * 110, 0.3 * 140]
    rng = np.random.default_rng(0)
    measures = [ImageMeasure(7.5, light, rng.integers(0, 255, (32, 32)).astype(np.uint8)) for light in lights]
    dark = [Oddity.DARKER in oddities for oddities in find_oddities(measures)]
    assert dark == [False] * len(usual) + [True] * 3


def test_with_few_pictures_nothing_is_usual(parts: list[Image]) -> None:
    assert not any(oddities_of([parts[0], parts[1], parts[2] // 3]))
    assert oddities_of([]) == []


@pytest.mark.parametrize("shape", [(2, 3000), (3000, 1), (1, 1)])
def test_a_picture_of_any_shape_is_measured(shape: tuple[int, int]) -> None:
    assert measure_image(np.full(shape, 100, np.uint8)).light == 100
