"""The training images are split by use, and those that do not fit into memory are read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drivers import image_file
from monitor.images import preprocessing
from monitor.training import readable_images
from monitor.training.examples import Examples, split_images
from monitor.training.loop import TrainingError, batch_size
from tests.real.parts import good_parts, part


@pytest.mark.parametrize("count", [3, 4, 5, 10, 99, 300])
def test_no_image_is_for_two_things(count: int) -> None:
    by_use = split_images(count, 0, as_paper=False)
    everything = [*by_use.train, *by_use.select, *by_use.calibrate]
    assert sorted(everything) == list(range(count))
    assert min(map(len, (by_use.train, by_use.select, by_use.calibrate))) >= 1
    if count >= 10:
        assert len(by_use.train) == pytest.approx(0.7 * count, abs=1)
        assert len(by_use.calibrate) == pytest.approx(0.2 * count, abs=1)


def test_as_in_the_paper_it_is_80_to_20() -> None:
    by_use = split_images(200, 0, as_paper=True)
    assert (len(by_use.train), len(by_use.select)) == (160, 40)
    assert by_use.select == by_use.calibrate
    assert batch_size(160, as_paper=True) == 32
    assert len(split_images(206, 0, as_paper=True).select) == 42, "a fifth is rounded up"


def test_two_images_are_too_few() -> None:
    with pytest.raises(TrainingError, match="at least 3"):
        split_images(2, 0, as_paper=False)


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
    by_use = split_images(209, 0, as_paper=True)
    assert (len(by_use.train), len(by_use.select)) == (167, 42)
    assert not set(by_use.train) & set(by_use.select)
