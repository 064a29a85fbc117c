"""A mask shows where the defect is, whatever two values it was saved with; one that does not is refused."""

from __future__ import annotations

from pathlib import PurePosixPath

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.image_file import ImageError, decode_any_depth
from monitor.evaluation.masks import MaskFile, MaskSearch, find_defect, read_mask, resize_mask

SIZE = (16, 16)


def drawn(
    value: object = 255, ground: object = 0, dtype: type = np.uint8, channels: int = 0
) -> NDArray[np.uint8]:
    """A mask of 40x40 with a defect whose edges do not lie on the pixels of 16x16."""
    shape = (40, 40, channels) if channels else (40, 40)
    mask = np.full(shape, ground, dtype)
    mask[9:22, 11:28] = value
    return mask


def png(image: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


RIGHT = read_mask(png(drawn()), SIZE, "x").packed


def test_no_defect_is_too_small_for_its_mask() -> None:
    mask = np.zeros((2048, 2048), np.uint8)
    mask[1001, 1203] = 1
    assert np.argwhere(resize_mask(find_defect(mask), (64, 64))).tolist() == [[31, 37]]
    large = np.zeros((512, 512), np.uint8)
    large[100:200, 300:400] = 255
    official = cv2.resize(large, (64, 64)).astype(bool)
    assert np.array_equal(resize_mask(find_defect(large), (64, 64)), official)


@pytest.mark.parametrize(
    "mask",
    [
        drawn(1),
        drawn(2),
        drawn(128),
        drawn(1, dtype=np.uint16),
        drawn(65_535, dtype=np.uint16),
        drawn((255, 255, 255), channels=3),
        drawn((0, 0, 128), channels=3),
        drawn((7, 0, 255), channels=3),
        drawn((255, 255, 255, 255), (0, 0, 0, 255), channels=4),
        drawn((0, 0, 255, 255), (0, 0, 0, 0), channels=4),
        drawn((1, 1, 1, 65_535), (0, 0, 0, 65_535), np.uint16, channels=4),
    ],
    ids=[
        "0/1",
        "0/2",
        "0/128",
        "0/1 of 16 bits",
        "16 bits",
        "rgb",
        "red",
        "two colours",
        "opaque",
        "on clear",
        "rgba of 16 bits",
    ],
)
def test_a_mask_of_any_two_values_is_read_alike(mask: NDArray[np.uint8]) -> None:
    assert np.array_equal(read_mask(png(mask), SIZE, "x").packed, RIGHT)


def test_a_mask_of_one_bit_a_pixel_is_read_alike() -> None:
    content = cv2.imencode(".png", drawn(), [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes()
    assert np.array_equal(read_mask(content, SIZE, "x").packed, RIGHT)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff"])
@pytest.mark.parametrize("is_inverse", [False, True])
def test_a_mask_in_the_transparency_alone_is_refused(suffix: str, is_inverse: bool) -> None:
    """Its colours say that there is no defect."""
    alpha = 255 - drawn() if is_inverse else drawn()
    mask = np.dstack([np.zeros((40, 40, 3), np.uint8), alpha])
    settings = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else []
    content = cv2.imencode(suffix, mask, settings)[1].tobytes()
    with pytest.raises(ImageError, match=r"transparency alone.*save it"):
        read_mask(content, SIZE, "x")


@pytest.mark.parametrize("alpha", [0, 255])
def test_an_empty_mask_may_be_clear_or_opaque(alpha: int) -> None:
    mask = np.zeros((40, 40, 4), np.uint8)
    mask[:, :, 3] = alpha
    assert not read_mask(png(mask), SIZE, "x").packed.any()


def thirds(*values: object, channels: int = 0) -> NDArray[np.uint8]:
    """A mask with an area for each value on 0."""
    mask = np.zeros((40, 40, channels) if channels else (40, 40), np.uint8)
    for place, value in enumerate(values):
        mask[10:15, 2 + 9 * place : 9 + 9 * place] = value
    return mask


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (thirds(128, 255), "it has 3 values"),
        (thirds(1, 255), "it has 3 values"),
        (thirds(1, 2, 3), "it has 4 values"),
        (thirds((0, 0, 255), (0, 255, 0), channels=3), "it has 3 values"),
        (drawn(2, 1), "none of its 2 values is 0"),
        (drawn(255, 128), "none of its 2 values is 0"),
        (drawn((0, 0, 255), (255, 0, 0), channels=3), "none of its 2 values is 0"),
        (drawn((255, 255, 255, 255), (255, 255, 255, 0), channels=4), "its transparency and its colours"),
        (drawn((255, 255, 255, 128), (0, 0, 0, 255), channels=4), "its transparency and its colours"),
        (drawn((255, 255, 255, 0), (0, 0, 0, 255), channels=4), "its transparency and its colours"),
    ],
)
def test_a_mask_that_does_not_say_where_the_defect_is_is_refused(mask: NDArray[np.uint8], words: str) -> None:
    with pytest.raises(ImageError, match=f"{words}.*save it") as refused:
        read_mask(png(mask), SIZE, "x")
    assert "\n" not in str(refused.value)


def test_a_thin_third_value_is_refused_too() -> None:
    mask = drawn()
    mask[30, 5:35] = 128
    with pytest.raises(ImageError, match="it has 3 values"):
        find_defect(mask)


@pytest.mark.parametrize("method", [cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC])
def test_grey_edges_of_a_resized_mask_are_edges(method: int) -> None:
    large = np.zeros((400, 400), np.uint8)
    cv2.circle(large, (190, 210), 77, 255, -1)
    resized = cv2.resize(large, (147, 131), interpolation=method)
    assert len(np.unique(resized)) > 4
    assert np.array_equal(find_defect(resized), resized)


@pytest.mark.parametrize("top", [100, 254, 4095, 51_337, 65_535])
def test_grey_edges_below_another_defect_s_value_are_read_alike(top: int) -> None:
    codes = np.zeros((40, 40), np.uint16)
    codes[10:20, 10:20] = top
    codes[9, 10:20] = np.linspace(1, top - 1, 10)
    found = find_defect(codes)
    assert np.array_equal(found > 0, codes > 0)
    assert (found[codes == top] == 255).all()


def test_noise_of_compression_is_no_third_value() -> None:
    mask = drawn()
    mask[10, 12] = 254
    noisy = mask.copy()
    noisy[8, 12] = noisy[30, 30] = 15
    assert np.array_equal(find_defect(noisy), mask), "noise beside the defect and far from it is no defect"
    wide = np.where(noisy == 255, 65_535, noisy.astype(np.uint16) * 250).astype(np.uint16)
    assert np.array_equal(find_defect(wide) > 0, mask > 0)
    noisy[8, 12] = noisy[30, 30] = 17
    with pytest.raises(ImageError, match="it has 4 values"):
        find_defect(noisy)


@pytest.mark.parametrize("quality", [100, 95, 85, 75])
def test_a_mask_that_was_saved_as_jpeg_has_the_defect_alone(quality: int) -> None:
    content = cv2.imencode(".jpg", drawn(), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    noisy = decode_any_depth(content)
    assert np.count_nonzero(noisy) > np.count_nonzero(drawn())
    assert np.array_equal(find_defect(noisy) > 0, drawn() > 0)
    assert np.array_equal(read_mask(content, SIZE, "x").packed, RIGHT)


def test_a_mask_of_one_value_is_empty_or_all_defect() -> None:
    assert not find_defect(np.zeros((8, 8), np.uint8)).any()
    assert (find_defect(np.full((8, 8), 1, np.uint8)) == 255).all()


def file(mask: NDArray[np.uint8], name: str) -> MaskFile:
    return read_mask(png(mask), SIZE, name)


def test_missing_masks_are_counted_once_with_those_that_fit_no_image() -> None:
    masks = {
        PurePosixPath("scratch", name): file(drawn(), f"{name}.png")
        for name in ("0_mask", "1", "2-mask", "3m")
    }
    search = MaskSearch(masks)
    for number in range(4):
        found = search.find(PurePosixPath(f"scratch/{number}.png"), (40, 40), f"test/scratch/{number}.png")
        assert (found is not None) == (number < 2)
    (line,) = search.remarks()
    assert line == (
        "no mask: 2 of 4 images with a defect, the first is test/scratch/2.png: left out of pixel_auroc "
        "and pro; 2 masks belong to no image, the first is 2-mask.png: name each as its image, "
        "with _mask or without"
    )


def test_a_data_set_without_masks_is_told_so_once() -> None:
    search = MaskSearch({})
    for number in range(40):
        assert search.find(PurePosixPath(f"scratch/{number}.png"), (40, 40), "x") is None
    assert list(search.remarks()) == ["no masks in ground_truth: pixel_auroc and pro are not known"]


def test_many_masks_of_another_shape_get_a_few_lines() -> None:
    search = MaskSearch({PurePosixPath(f"s/{n}"): file(drawn(), f"{n}.png") for n in range(10)})
    for number in range(10):
        assert search.find(PurePosixPath(f"s/{number}.png"), (40, 80), "x") is None
    lines = list(search.remarks())
    assert lines[0] == "mask of another shape: 0.png: 40x40, its image 80x40: left out of pixel_auroc and pro"
    assert lines[3:] == ["mask of another shape: 7 more: left out of pixel_auroc and pro"]


def test_with_every_mask_there_is_nothing_to_say() -> None:
    search = MaskSearch({PurePosixPath("s/0"): file(drawn(), "0.png")})
    assert search.find(PurePosixPath("s/0.png"), (80, 80), "x") is not None
    assert list(search.remarks()) == []
