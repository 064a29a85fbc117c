"""Every image gives its own features, whatever the other images are: the guarantee rests on this."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from monitor.feature_memory import collection
from monitor.feature_memory.collection import Collection, collect_features
from monitor.feature_memory.memory import kept_name, projection_name
from monitor.images.preprocessing import resize_image
from monitor.model.memory_level import MEMORY_LEVELS, numbers_of
from monitor.pyramid import Features
from monitor.teachers.architectures import build_trunk
from monitor.teachers.lite_trunk import LiteTrunk
from tests.real.parts import part

CPU = torch.device("cpu")
LEVELS = numbers_of(MEMORY_LEVELS)
KEPT = [kept_name(level) for level in LEVELS]
PROJECTION = [projection_name(level) for level in LEVELS]

Teachers = Callable[[torch.Tensor], Features]


@pytest.fixture(scope="module")
def teachers() -> Teachers:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk, own = build_trunk("resnet18").eval(), LiteTrunk().eval()
    return lambda images: [*trunk(images), *own(images)]


def collect(teachers: Teachers, numbers: list[int], seed: int = 0) -> Collection:
    pictures = [resize_image(part(number), (64, 64)) for number in numbers]
    return collect_features(teachers, pictures, [[i] for i in range(len(pictures))], seed=seed, device=CPU)


def test_an_image_s_features_do_not_depend_on_other_images(teachers: Teachers) -> None:
    first, second = collect(teachers, [1, 2, 3]), collect(teachers, [1, 8, 9])
    for level, (kept, projection) in enumerate(zip(KEPT, PROJECTION, strict=True)):
        own, again = first.owners[level] == 0, second.owners[level] == 0
        assert own.any()
        assert np.array_equal(first.arrays[kept][own], second.arrays[kept][again])
        assert np.array_equal(first.arrays[projection], second.arrays[projection])


def test_the_same_seed_keeps_the_same_features(teachers: Teachers) -> None:
    first, again, other = (
        collect(teachers, [1, 2]),
        collect(teachers, [1, 2]),
        collect(teachers, [1, 2], seed=1),
    )
    for kept in KEPT:
        assert np.array_equal(first.arrays[kept], again.arrays[kept])
        assert not np.array_equal(first.arrays[kept], other.arrays[kept])


def test_images_share_the_memory_equally_and_it_stays_within_its_bound(
    teachers: Teachers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "KEPT_FEATURES", (7, 12, 7, 3))
    few = collect(teachers, [1, 2, 3])
    assert [np.bincount(own).tolist() for own in few.owners] == [[2, 2, 2], [4, 4, 4], [2, 2, 2], [1, 1, 1]]
    monkeypatch.setattr(collection, "KEPT_FEATURES", (2, 5, 2, 2))
    many = collect(teachers, [1, 2, 3])
    counts = [np.bincount(own, minlength=3).tolist() for own in many.owners]
    assert list(map(sorted, counts)) == [[0, 1, 1], [0, 2, 2], [0, 1, 1], [0, 1, 1]]
    assert counts[0] == counts[2] == [min(1, count) for count in counts[1]], "the same images give all levels"


def test_all_tiles_of_an_image_give_features(teachers: Teachers) -> None:
    pictures = [resize_image(part(number), (64, 64)) for number in range(4)]
    found = collect_features(teachers, pictures, [[0, 1], [2, 3]], seed=0, device=CPU)
    assert [np.bincount(own).tolist() for own in found.owners] == [[32, 32], [32, 32], [32, 32], [8, 8]], (
        "16 places of levels 2, 3 and 4, and 4 of level 5, in each of two tiles"
    )


def test_no_place_of_an_image_is_kept_twice(teachers: Teachers) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    found = collect_features(teachers, [noise], [[0]], seed=0, device=CPU)
    assert [len(np.unique(found.arrays[kept], axis=0)) for kept in KEPT] == [64, 64, 64, 16]
