"""Students are chosen by defects drawn on good pictures, and by nothing else that is not the paper's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from drivers.image_file import Image
from monitor.images.preprocessing import squashed
from monitor.system.progress import SILENT
from monitor.teachers.architectures import build_trunk
from monitor.training.loop import FitSettings, fit
from monitor.training.student_selection import Trial
from monitor.training.synthetic_defects import Kind, draw
from tests.real.parts import part


def grey(side: int, level: int, channels: int) -> Image:
    shape = (side, side, channels) if channels > 1 else (side, side)
    return np.full(shape, level, np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("side", [32, 256, 500])
@pytest.mark.parametrize("kind", list(Kind))
def test_a_drawn_defect_can_be_seen_where_it_is_said_to_be_and_nowhere_else(
    kind: Kind, side: int, level: int, channels: int
) -> None:
    rng = np.random.default_rng(3)
    picture, source = grey(side, level, channels), grey(side, 255 - level, channels)
    source[:, ::2] //= 2
    for _ in range(5):
        drawn = draw(kind, picture, source, rng)
        assert drawn.picture.shape == picture.shape
        assert drawn.picture.dtype == np.uint8
        assert drawn.where.any()
        change = np.abs(drawn.picture.astype(int) - level).reshape(side, side, -1).max(axis=2)
        assert change[drawn.where].max() >= 5
        assert not change[~drawn.where].max(initial=0) > 0.35 * change.max() + 1
        assert drawn.where.mean() < 0.2
    assert (picture == level).all(), "the good picture is left as it was"


def pictures(count: int) -> list[Image]:
    return [squashed(part(number), (64, 64)) for number in range(count)]


def test_the_same_seed_draws_the_same_defects() -> None:
    one, same, other = (Trial(pictures(8), range(5), range(5, 8), seed) for seed in (1, 1, 2))
    assert all(np.array_equal(one[index], same[index]) for index in one.indices)
    assert not all(np.array_equal(one[index], other[index]) for index in one.indices)


@pytest.mark.parametrize(("select", "drawn"), [(1, 12), (6, 18), (30, 48)])
def test_few_pictures_carry_several_defects_and_many_not_all_one(select: int, drawn: int) -> None:
    trial = Trial(pictures(select + 2), range(2), range(2, select + 2), 0)
    assert list(trial.indices) == list(range(select + 2, select + 2 + drawn))


def test_pictures_of_several_kinds_can_be_drawn_on() -> None:
    mixed = [*pictures(4), grey(64, 90, 1)]
    trial = Trial(mixed, [0, 4], [1, 2, 3], 0)
    assert all(trial[index].shape == (64, 64, 3) for index in trial.indices)


def test_a_drawn_defect_answers_only_where_it_was_drawn() -> None:
    trial = Trial(pictures(4), range(3), [3], 0)
    index = trial.indices[0]
    where = np.abs(trial[index].astype(int) - trial[3]).max(axis=2) > 0
    anywhere = torch.ones(1, 16, 16)
    elsewhere = anywhere.clone()
    elsewhere[0, torch.from_numpy(where[2::4, 2::4])] = 0.5
    elsewhere[0, 0, 0] = 9.0
    assert trial.peaks(elsewhere, [index])[0] <= 1.0
    assert trial.peaks(elsewhere, [3])[0] == pytest.approx(9.0)


def course(monkeypatch: pytest.MonkeyPatch, answers: Sequence[float], maps: Sequence[float]) -> int:
    """The epoch whose student is kept when the trial and the select maps went like that."""
    said, means = iter(answers), iter(maps)
    monkeypatch.setattr(Trial, "told_apart", staticmethod(lambda good, drawn: next(said)))

    def one_map(seen: Sequence[Tensor], mine: Sequence[Tensor]) -> Tensor:
        if len(mine[0]) == 1:  # the select picture; the drawn ones come in larger batches
            return torch.full((1, 4, 4), next(means))
        return torch.ones(len(mine[0]), 4, 4)

    monkeypatch.setattr("monitor.training.loop.anomaly_map", one_map)
    teacher = build_trunk("squeezenet1_1").eval().requires_grad_(False)
    fitted = fit(
        teacher,
        pictures(5),
        range(4),
        [4],
        FitSettings(
            architecture="squeezenet1_1", epochs=len(answers), seed=0, device=torch.device("cpu"), batch=4
        ),
        progress=SILENT,
    )
    assert fitted.told_apart == tuple(answers)
    return fitted.best_epoch


def test_the_student_that_sees_drawn_defects_best_is_kept_though_later_maps_are_smaller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert course(monkeypatch, (0.5, 0.9, 0.7, 0.6), (0.4, 0.3, 0.2, 0.1)) == 2


def test_of_students_that_see_them_alike_the_one_with_the_smallest_map_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert course(monkeypatch, (0.5, 1.0, 1.0, 1.0), (0.4, 0.3, 0.1, 0.2)) == 3
