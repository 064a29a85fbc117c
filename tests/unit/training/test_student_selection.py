"""The student is selected by defects drawn on good pictures, and of equals by the paper's rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from drivers.image_file import Image
from monitor.images.preprocessing import resize_image
from monitor.system.progress import SILENT
from monitor.teachers.architectures import build_trunk
from monitor.training.loop import FitSettings, fit
from monitor.training.student_selection import SelectionSet
from monitor.training.synthetic_defects import DefectKind, draw_defect
from tests.real.parts import part


def grey(side: int, level: int, channels: int) -> Image:
    shape = (side, side, channels) if channels > 1 else (side, side)
    return np.full(shape, level, np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("side", [32, 256, 500])
@pytest.mark.parametrize("kind", list(DefectKind))
def test_a_drawn_defect_can_be_seen_where_it_is_said_to_be_and_nowhere_else(
    kind: DefectKind, side: int, level: int, channels: int
) -> None:
    rng = np.random.default_rng(3)
    picture, source = grey(side, level, channels), grey(side, 255 - level, channels)
    source[:, ::2] //= 2
    for _ in range(5):
        drawn = draw_defect(kind, picture, source, rng)
        assert drawn.picture.shape == picture.shape
        assert drawn.picture.dtype == np.uint8
        assert drawn.where.any()
        change = np.abs(drawn.picture.astype(int) - level).reshape(side, side, -1).max(axis=2)
        assert change[drawn.where].max() >= 5
        assert not change[~drawn.where].max(initial=0) > 0.35 * change.max() + 1
        assert drawn.where.mean() < 0.2
    assert (picture == level).all(), "the good picture is unchanged"


def pictures(count: int) -> list[Image]:
    return [resize_image(part(number), (64, 64)) for number in range(count)]


def test_the_same_seed_draws_the_same_defects() -> None:
    one, same, other = (SelectionSet(pictures(8), range(5), range(5, 8), seed) for seed in (1, 1, 2))
    assert all(np.array_equal(one[index], same[index]) for index in one.indices)
    assert not all(np.array_equal(one[index], other[index]) for index in one.indices)


@pytest.mark.parametrize(("select", "drawn"), [(1, 12), (6, 18), (30, 48)])
def test_few_pictures_carry_several_defects_and_many_not_all_one(select: int, drawn: int) -> None:
    selection = SelectionSet(pictures(select + 2), range(2), range(2, select + 2), 0)
    assert list(selection.indices) == list(range(select + 2, select + 2 + drawn))


def test_pictures_of_several_kinds_can_be_drawn_on() -> None:
    mixed = [*pictures(4), grey(64, 90, 1)]
    selection = SelectionSet(mixed, [0, 4], [1, 2, 3], 0)
    assert all(selection[index].shape == (64, 64, 3) for index in selection.indices)


def test_a_drawn_defect_answers_only_where_it_was_drawn() -> None:
    selection = SelectionSet(pictures(4), range(3), [3], 0)
    index = selection.indices[0]
    where = np.abs(selection[index].astype(int) - selection[3]).max(axis=2) > 0
    anywhere = torch.ones(1, 16, 16)
    elsewhere = anywhere.clone()
    elsewhere[0, torch.from_numpy(where[2::4, 2::4])] = 0.5
    elsewhere[0, 0, 0] = 9.0
    assert selection.peaks(elsewhere, [index])[0] <= 1.0
    assert selection.peaks(elsewhere, [3])[0] == pytest.approx(9.0)


def kept_epoch(monkeypatch: pytest.MonkeyPatch, separations: Sequence[float], maps: Sequence[float]) -> int:
    """The epoch whose student is kept with these separations and select maps, one for each epoch."""
    separation, mean = iter(separations), iter(maps)
    monkeypatch.setattr(SelectionSet, "separation", staticmethod(lambda good, drawn: next(separation)))

    def one_map(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
        # A batch of one is the select picture. Those with drawn defects come in larger batches.
        if len(student[0]) == 1:
            return torch.full((1, 4, 4), next(mean))
        return torch.ones(len(student[0]), 4, 4)

    monkeypatch.setattr("monitor.training.loop.anomaly_map", one_map)
    teacher = build_trunk("squeezenet1_1").eval().requires_grad_(False)
    fitted = fit(
        teacher,
        pictures(5),
        range(4),
        [4],
        FitSettings(
            architecture="squeezenet1_1", epochs=len(separations), seed=0, device=torch.device("cpu"), batch=4
        ),
        progress=SILENT,
    )
    assert fitted.told_apart == tuple(separations)
    return fitted.best_epoch


def test_the_student_that_sees_drawn_defects_best_is_kept_though_later_maps_are_smaller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert kept_epoch(monkeypatch, (0.5, 0.9, 0.7, 0.6), (0.4, 0.3, 0.2, 0.1)) == 2


def test_of_students_that_see_them_alike_the_one_with_the_smallest_map_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert kept_epoch(monkeypatch, (0.5, 1.0, 1.0, 1.0), (0.4, 0.3, 0.1, 0.2)) == 3
