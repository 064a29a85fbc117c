"""The learning rate over a training, and how many epochs a training has.

It knows nothing of networks, images or optimisers: these are pure functions of numbers of steps.

The rate rises to the optimiser's own rate, stays there, and falls in a straight line until the last step. The
number of steps is fixed before the first one, so a resumed run computes the same rates as an uninterrupted
run. In the paper's mode the rate is constant and there are 100 epochs. Measurements:
`tests/benchmarks/README.md`.
"""

from __future__ import annotations

import math

USUAL_EPOCHS = 15
"""The number of epochs, unless there are so few images that more are needed."""
PAPER_EPOCHS = 100
"""The paper's number of epochs. It is also the largest number that is chosen for few images."""
_ENOUGH_STEPS = 400
"""With few images there are more epochs, so that the optimiser makes this many steps."""
_RISE = 0.05
"""The share of all steps during which the rate rises."""
_FALL = 0.6
"""The share of all steps, the last ones, during which the rate falls."""

CONSTANT = "constant"
RISE_AND_FALL = f"rises for {100 * _RISE:g} % of the steps and falls for the last {100 * _FALL:g} %"


def share_of_rate(step: int, steps: int) -> float:
    """The share of the optimiser's rate that `step` (from 0) of `steps` uses: above 0, at most 1."""
    return min(1.0, (step + 1) / (_RISE * steps), (steps - step) / (_FALL * steps))


def describe_rate(*, as_paper: bool) -> str:
    """The rate's course in words, for records. Another course must have another description: the description
    decides whether an interrupted training may continue."""
    return CONSTANT if as_paper else RISE_AND_FALL


def choose_epochs(steps_an_epoch: int, *, as_paper: bool) -> int:
    """The number of epochs of a training for which none was given."""
    if as_paper:
        return PAPER_EPOCHS
    return min(PAPER_EPOCHS, max(USUAL_EPOCHS, math.ceil(_ENOUGH_STEPS / steps_an_epoch)))
