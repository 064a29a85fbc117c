"""The training images are split by use, and those that do not fit into memory are read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drivers import image_file
from monitor.images import preprocessing
from monitor.training import readable_images
from monitor.training.compare import Compare
from monitor.training.examples import Examples, split_images
from monitor.training.loop import TrainingError, batch_size
from tests.real.parts import good_parts, part


@pytest.mark.parametrize("compare", list(Compare))
@pytest.mark.parametrize("count", [3, 4, 5, 10, 99, 300])
def test_no_image_is_for_two_things(count: int, compare: Compare) -> None:
    by_use = split_images(range(count), 0, compare=compare)
    everything = [*by_use.train, *by_use.select, *by_use.calibrate]
    assert sorted(everything) == list(range(count))
    assert min(len(by_use.select), len(by_use.calibrate)) >= 1
    assert bool(by_use.train) == compare.has_student


@pytest.mark.parametrize(
    ("count", "overkill", "calibrating"), [(100, 0.01, 50), (300, 0.01, 99), (300, 0.05, 59), (40, 0.05, 19)]
)
def test_as_many_calibrate_as_the_rate_needs_about_a_fifth_at_least_and_at_most_half(
    count: int, overkill: float, calibrating: int
) -> None:
    by_use = split_images(range(count), 0, compare=Compare.BOTH, overkill=overkill)
    assert len(by_use.calibrate) == calibrating
    assert len(by_use.select) == count // 10


def test_a_memory_alone_calibrates_with_all_images_that_do_not_select() -> None:
    by_use = split_images(range(100), 0, compare=Compare.MEMORY)
    assert (len(by_use.train), len(by_use.select), len(by_use.calibrate)) == (0, 10, 90)


@pytest.mark.parametrize(
    ("count", "overkill", "calibrating"),
    [(110, 0.01, 99), (163, 0.01, 99), (220, 0.01, 99), (221, 0.01, 199), (332, 1 / 299, 298)],
)
def test_no_more_images_calibrate_than_guarantee_just_the_rate(
    count: int, overkill: float, calibrating: int
) -> None:
    by_use = split_images(range(count), 0, compare=Compare.MEMORY, overkill=overkill)
    assert (len(by_use.select), len(by_use.calibrate)) == (count - calibrating, calibrating)


def test_images_of_one_part_have_one_use() -> None:
    parts = [number // 3 for number in range(60)]
    by_use = split_images(parts, 0, compare=Compare.BOTH)
    uses = [{parts[image] for image in use} for use in (by_use.train, by_use.select, by_use.calibrate)]
    assert sum(map(len, uses)) == len(set.union(*uses)) == 20


def test_two_parts_are_too_few_however_many_images_show_them() -> None:
    with pytest.raises(TrainingError, match="10 images show 2 different parts"):
        split_images([0, 1] * 5, 0)


def test_images_left_out_make_more_calibrate() -> None:
    assert len(split_images(range(1000), 0, overkill=0.01, left_out=3).calibrate) == 396


def test_as_in_the_paper_it_is_80_to_20() -> None:
    by_use = split_images(range(200), 0, as_paper=True)
    assert (len(by_use.train), len(by_use.select)) == (160, 40)
    assert by_use.select == by_use.calibrate
    assert batch_size(160, as_paper=True) == 32
    assert len(split_images(range(206), 0, as_paper=True).select) == 42, "a fifth is rounded up"


def test_two_images_are_too_few() -> None:
    with pytest.raises(TrainingError, match="at least 3"):
        split_images(range(2), 0)


def test_pictures_that_do_not_fit_are_read_again(tmp_path: Path) -> None:
    folder = good_parts(tmp_path / "good", 4)
    examples = Examples((64, 64), memory_bytes=2 * 64 * 64 * 3)
    for found in readable_images.read_images(image_file.find(folder), print):
        examples.add(*found)
    for number in range(4):
        assert np.array_equal(examples[number], preprocessing.resize_image(part(number), (64, 64)))
    (folder / "003.png").unlink()
    with pytest.raises(TrainingError, match=r"003\.png: No such file"):
        examples[3]


def test_the_official_split_is_a_fifth_to_select() -> None:
    by_use = split_images(range(209), 0, as_paper=True)
    assert (len(by_use.train), len(by_use.select)) == (167, 42)
    assert not set(by_use.train) & set(by_use.select)
