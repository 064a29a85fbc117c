"""One recipe is trained by one process at a time, and other recipes beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.training.loop import TrainingError
from monitor.training.training_lock import hold_recipe


def test_a_recipe_is_trained_once_at_a_time(tmp_path: Path) -> None:
    with hold_recipe(tmp_path, "plate"):
        with (
            pytest.raises(TrainingError, match="plate is being trained already"),
            hold_recipe(tmp_path, "plate"),
        ):
            pass
        with hold_recipe(tmp_path, "disc"):
            pass
    with hold_recipe(tmp_path, "plate"):
        pass
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_a_training_that_failed_frees_its_recipe(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold_recipe(tmp_path, "plate"):
        raise ZeroDivisionError
    with hold_recipe(tmp_path, "plate"):
        assert len(list(tmp_path.iterdir())) == 1
    assert not list(tmp_path.iterdir())
