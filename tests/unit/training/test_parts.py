"""Images of one part, and near copies, count as one part."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.training.parts import THUMBNAIL_SIDE, PartsError, blocks_of, find_parts, make_thumbnail
from tests.real.parts import part


def thumbnails(count: int, seed: int = 0) -> list[np.ndarray]:
    """Grey images that differ by far more than near copies do."""
    rng = np.random.default_rng(seed)
    return list(rng.uniform(0, 255, (count, THUMBNAIL_SIDE, THUMBNAIL_SIDE)).astype(np.float32))


def test_a_thumbnail_averages_areas_in_grey() -> None:
    image = np.zeros((128, 192, 3), np.uint8)
    image[:, ::2] = 200
    assert make_thumbnail(image).shape == (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    assert make_thumbnail(image).dtype == np.float32
    mono = np.repeat(np.arange(0, 128, 2, dtype=np.uint8), 4)[None].repeat(128, 0)
    assert make_thumbnail(mono)[5] == pytest.approx(np.arange(0, 128, 2))
    assert make_thumbnail(part(1)).mean() == pytest.approx(part(1).mean(), abs=1)


def test_without_a_pattern_each_image_shows_a_part_of_its_own() -> None:
    assert find_parts(["a.png", "b.png", "c.png"], thumbnails(3)) == (0, 1, 2)
    assert find_parts([], []) == ()


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"part\d+", (0, 1, 0, 1)),
        (r"(part\d+)_view", (0, 1, 0, 1)),
        (r"^\w+/", (0, 0, 1, 1)),
        (r"view(\d)", (0, 0, 1, 0)),
    ],
)
def test_images_whose_names_say_the_same_part_show_one_part(pattern: str, expected: tuple[int, ...]) -> None:
    names = ["lot1/part7_view1.png", "lot1/part8_view1.png", "lot2/part7_view2.png", "lot2/part8_view1.png"]
    assert find_parts(names, thumbnails(4), pattern) == expected


def test_small_parts_before_a_still_background_are_no_copies() -> None:
    """Such images differ by less than 1 grey level on average, but all of them by about as much."""
    rng = np.random.default_rng(4)
    still = rng.uniform(0, 255, (THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    images = []
    for _ in range(60):
        image = still.copy()
        image[30:33, 30:33] += rng.normal(0, 10, (3, 3))
        images.append(image.astype(np.float32))
    assert max(float(np.sqrt(np.mean((image - images[0]) ** 2))) for image in images) < 1
    assert len(set(find_parts([str(number) for number in range(60)], images))) == 60


def test_three_near_copies_of_each_part_are_found() -> None:
    rng = np.random.default_rng(5)
    images = [
        image + rng.normal(0, 0.4, image.shape).astype(np.float32) for image in thumbnails(20) for _ in "abc"
    ]
    found = find_parts([str(number) for number in range(60)], images)
    assert found == tuple(number // 3 for number in range(60))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"part(\d+", r"--part-of 'part\(\\\\d\+' is not a regular expression .*before its first underscore"),
        (r"lot\d", r"x/5.png: --part-of .* has no match in this name: rename the file, or give a pattern"),
        (r"lot(\d)|x", r"x/5.png: --part-of .* has no match in this name"),
    ],
)
def test_a_pattern_that_says_no_part_is_refused_with_the_fix(pattern: str, message: str) -> None:
    with pytest.raises(PartsError, match=message) as refusal:
        find_parts(["lot1/5.png", "x/5.png"], thumbnails(2), pattern)
    assert "\n" not in str(refusal.value)


def test_near_copies_always_show_one_part() -> None:
    one, other, third = thumbnails(3)
    rng = np.random.default_rng(1)
    near = one + rng.normal(0, 0.75, one.shape).astype(np.float32)
    nearer_to_near = near + rng.normal(0, 0.75, one.shape).astype(np.float32)
    brighter = other + np.float32(1.25)
    found = find_parts(["1", "2", "3", "4", "5", "6"], [one, other, near, brighter, third, nearer_to_near])
    assert found == (0, 1, 0, 2, 3, 0), "a near copy of a near copy shows the same part too"


def test_names_and_near_copies_together_join_parts() -> None:
    one, other, third, fourth = thumbnails(4)
    assert find_parts(["a1", "a2", "b1", "c1"], [one, other, other, fourth], r"^\w") == (0, 0, 0, 1)
    assert find_parts(["a1", "b1", "b2", "a2"], [one, other, third, fourth], r"^\w") == (0, 1, 1, 0)


def test_pairs_are_found_across_blocks_of_the_computation() -> None:
    many = thumbnails(1100, seed=2)
    many[1099] = many[3] + np.float32(0.5)
    many[700] = many[600] + np.float32(0.5)
    found = find_parts([str(n) for n in range(1100)], many)
    assert found[1099] == found[3]
    assert found[700] == found[600]
    assert len(set(found)) == 1098


@pytest.mark.parametrize("count", [1, 3, 10, 25, 97, 1000])
def test_blocks_are_ranges_of_about_the_same_size(count: int) -> None:
    blocks = blocks_of(range(count), 10)
    assert list(blocks) == sorted(blocks)
    assert set(blocks) == set(range(min(10, count)))
    sizes = np.bincount(blocks)
    assert sizes.max() - sizes.min() <= 1


def test_a_part_never_lies_in_two_blocks() -> None:
    rng = np.random.default_rng(3)
    for count in (2, 10, 60, 300):
        by_name = np.sort(rng.integers(0, count // 2, count)).tolist()
        for parts in (by_name, rng.permutation(by_name).tolist()):
            blocks = blocks_of(parts, 10)
            assert len(set(zip(parts, blocks, strict=True))) == len(set(parts))
            assert 1 <= len(set(blocks)) <= 10
            assert set(blocks) == set(range(max(blocks) + 1))
    assert blocks_of([0, 0, 0, 0]) == (0, 0, 0, 0)
    assert blocks_of([]) == ()


def test_a_stray_near_copy_goes_with_its_part_and_moves_no_other_image() -> None:
    parts = list(range(100))
    parts[77] = 3
    blocks = list(blocks_of(parts, 10))
    assert blocks[77] == blocks[3] == 0
    blocks[77] = blocks[76]
    assert blocks == sorted(blocks)
