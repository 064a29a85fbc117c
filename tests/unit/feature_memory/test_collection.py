"""Every image gives its own features, whatever the other images are: the guarantee rests on this."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monitor.feature_memory import collection
from monitor.feature_memory.collection import Collection, collect_features
from monitor.feature_memory.memory import KEPT, PROJECTION
from monitor.images.preprocessing import resize_image
from monitor.teachers.architectures import build_trunk
from tests.real.parts import part

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def teacher() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_trunk("resnet18").eval()


def collect(teacher: torch.nn.Module, numbers: list[int], seed: int = 0) -> Collection:
    pictures = [resize_image(part(number), (64, 64)) for number in numbers]
    return collect_features(teacher, pictures, [[i] for i in range(len(pictures))], seed=seed, device=CPU)


def test_an_image_s_features_do_not_depend_on_other_images(teacher: torch.nn.Module) -> None:
    first, second = collect(teacher, [1, 2, 3]), collect(teacher, [1, 8, 9])
    own = first.owners == 0
    assert own.any()
    for kept, projection in zip(KEPT, PROJECTION, strict=True):
        assert np.array_equal(first.arrays[kept][own], second.arrays[kept][second.owners == 0])
        assert np.array_equal(first.arrays[projection], second.arrays[projection])


def test_the_same_seed_keeps_the_same_features(teacher: torch.nn.Module) -> None:
    first, again, other = collect(teacher, [1, 2]), collect(teacher, [1, 2]), collect(teacher, [1, 2], seed=1)
    for kept in KEPT:
        assert np.array_equal(first.arrays[kept], again.arrays[kept])
        assert not np.array_equal(first.arrays[kept], other.arrays[kept])


def test_images_share_the_memory_equally_and_it_stays_within_its_bound(
    teacher: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "KEPT_FEATURES", 7)
    few = collect(teacher, [1, 2, 3])
    assert np.bincount(few.owners).tolist() == [2, 2, 2]
    monkeypatch.setattr(collection, "KEPT_FEATURES", 2)
    many = collect(teacher, [1, 2, 3])
    assert sorted(np.bincount(many.owners, minlength=3).tolist()) == [0, 1, 1]


def test_all_tiles_of_an_image_give_features(teacher: torch.nn.Module) -> None:
    pictures = [resize_image(part(number), (64, 64)) for number in range(4)]
    found = collect_features(teacher, pictures, [[0, 1], [2, 3]], seed=0, device=CPU)
    assert np.bincount(found.owners).tolist() == [128, 128], "64 places in each of two tiles"


def test_a_kept_place_has_a_feature_of_each_level(teacher: torch.nn.Module) -> None:
    """With all 64 places of level 2 kept, each of the 16 places of level 3 is around four of them."""
    found = collect(teacher, [1])
    repeats = [set(np.unique(found.arrays[kept], axis=0, return_counts=True)[1].tolist()) for kept in KEPT]
    assert repeats == [{1}, {1}, {4}]
