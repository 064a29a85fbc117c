"""The teacher's features are computed once where they fit into memory, and they are always the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from monitor.images.preprocessing import resize_image
from monitor.system.memory import usable_memory
from monitor.teachers.architectures import build_trunk, fill
from monitor.training.teacher_features import TeacherFeatures
from tests.real.parts import part, random_weights

PICTURES = [resize_image(part(number), (32, 32)) for number in range(20)]


def features(memory_bytes: int) -> TeacherFeatures:
    teacher = build_trunk("squeezenet1_1")
    arrays = random_weights("squeezenet1_1", seed=7)
    fill(teacher, {name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    teacher.eval().requires_grad_(False)
    return TeacherFeatures(teacher, PICTURES, range(20), torch.device("cpu"), memory_bytes)


def bytes_of_one() -> int:
    _, levels = features(0).of([0])
    return sum(level.numel() * level.element_size() for level in levels)


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def pictures_computed(watched: TeacherFeatures, indices: list[int]) -> int:
    """How many pictures went through the teacher."""
    batches: list[int] = []
    handle = watched._teacher.register_forward_pre_hook(lambda _, images: batches.append(len(images[0])))
    watched.of(indices)
    handle.remove()
    return sum(batches)


@pytest.mark.parametrize("fitting", [0, 5, 12, 20])
def test_as_many_as_fit_are_looked_at_once(fitting: int) -> None:
    watched = features(fitting * bytes_of_one())
    everything = list(range(20))
    assert pictures_computed(watched, everything) == 20
    assert pictures_computed(watched, everything) == 20 - fitting


@pytest.mark.parametrize("fitting", [12, 20])
def test_what_is_kept_does_not_depend_on_what_was_asked_before(fitting: int) -> None:
    one, other = features(fitting * bytes_of_one()), features(fitting * bytes_of_one())
    one.of([3, 4, 5])
    for start in range(0, 20, 4):
        other.of(list(range(start, start + 4))[::-1])
    for wanted in ([0, 7, 11], [9, 3, 2, 1], [19, 0]):
        assert same(one.of(wanted)[1], other.of(wanted)[1])


def test_kept_features_are_those_of_their_pictures() -> None:
    kept, anew = features(12 * bytes_of_one()), features(0)
    for wanted in ([15, 2, 8, 19], [2, 15]):
        images, levels = kept.of(wanted)
        expected_images, expected = anew.of(wanted)
        assert torch.equal(images, expected_images)
        for level, other in zip(levels, expected, strict=True):
            assert torch.allclose(level, other, rtol=1e-3, atol=1e-4)


def test_a_control_group_s_limit_counts(tmp_path: Path) -> None:
    machine = usable_memory(tmp_path / "missing")
    assert machine > 1 << 28
    (tmp_path / "limit").write_text("max\n")
    assert usable_memory(tmp_path / "limit") == machine
    (tmp_path / "limit").write_text("1048576\n")
    assert usable_memory(tmp_path / "limit") == 1 << 20
