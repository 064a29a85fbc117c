"""A person is told which version judges the parts, not only which one is promoted."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.line_state.changeover import RecipeIdentity
from monitor.model.version_files import VersionFile
from monitor.review.judged_cameras import Judges, find_use

DISC = VersionFile(1, Path("recipes/disc/recipe.json"), "0" * 16)
ITSELF = RecipeIdentity("disc", "0" * 64, 1)
PLATE = RecipeIdentity("plate", "1" * 64, 3)


@pytest.mark.parametrize(
    ("judges", "configured", "is_judging", "words"),
    [
        ({"top": ITSELF}, "disc", True, "It judges the parts of camera top."),
        ({"top": PLATE}, "plate", False, "Camera top is judged by plate@3. To use it, change a camera over"),
        ({"top": RecipeIdentity("disc", "2" * 64, 2)}, "disc", False, "judged by disc@2. A camera takes it"),
        ({}, "disc", False, "It judges the parts of camera top once the line inspects"),
        ({}, "plate", False, "To use it, change a camera over to recipe disc"),
    ],
)
def test_who_judges_is_named_with_the_next_step(
    judges: Judges, configured: str, is_judging: bool, words: str
) -> None:
    use = find_use(DISC, judges, {"top": configured})
    assert use.is_judging is is_judging
    assert words in use.text
