"""The learning rate rises, stays and falls over a number of steps that is fixed beforehand."""

from __future__ import annotations

import pytest

from monitor.training.learning_rate import (
    CONSTANT,
    PAPER_EPOCHS,
    USUAL_EPOCHS,
    choose_epochs,
    describe_rate,
    share_of_rate,
)


def test_the_rate_rises_stays_and_falls_to_almost_nothing() -> None:
    shares = [share_of_rate(step, 400) for step in range(400)]
    assert shares[0] == pytest.approx(1 / 20)
    assert shares[:20] == sorted(set(shares[:20])), "it rises with every step at first"
    assert shares[20:160] == [1.0] * 140
    assert shares[160:] == sorted(set(shares[160:]), reverse=True), "then it falls with every step"
    assert shares[-1] == pytest.approx(1 / 240)


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_a_training_of_few_steps_has_a_rate_at_every_step(steps: int) -> None:
    assert all(0 < share_of_rate(step, steps) <= 1 for step in range(steps))


def test_few_images_get_more_epochs_and_the_paper_s_mode_a_hundred() -> None:
    assert choose_epochs(30, as_paper=False) == choose_epochs(1000, as_paper=False) == USUAL_EPOCHS
    assert choose_epochs(10, as_paper=False) == 40
    assert choose_epochs(1, as_paper=False) == 100
    assert choose_epochs(1, as_paper=True) == choose_epochs(1000, as_paper=True) == PAPER_EPOCHS == 100


def test_the_paper_s_mode_has_a_constant_rate() -> None:
    assert describe_rate(as_paper=True) == CONSTANT != describe_rate(as_paper=False)
