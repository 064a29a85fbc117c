"""A recipe remembers image files by their content."""

from __future__ import annotations

from pathlib import Path

from monitor.model.image_mark import content_mark, known_marks
from tests.real.parts import random_recipe


def test_a_mark_follows_from_the_content_alone() -> None:
    assert content_mark(b"") == "e3b0c44298fc1c14"
    assert content_mark(b"a") != content_mark(b"b")


def test_a_recipe_that_records_no_training_remembers_no_image(tmp_path: Path) -> None:
    assert known_marks(random_recipe(tmp_path / "r").document) == frozenset()
