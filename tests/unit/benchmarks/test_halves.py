"""What chose the settings is told apart from what chose nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.inference.scorer import Scorer
from tests.benchmarks.halves import Half, Scored, halves, scores, table
from tests.real.parts import part, random_recipe, save

pytestmark = pytest.mark.usefixtures("without_openvino")

SCORED = [
    *(Scored("blowhole", score) for score in (5.0, 1.5)),
    *(Scored("break", score) for score in (0.5, 9.0)),
    *(Scored("fray", score) for score in (2.5,)),
    *(Scored("good", score) for score in (1.0, 2.0, 3.0, 0.0, 1.0)),
]


def test_each_image_is_in_one_half() -> None:
    chose, rest = halves(SCORED, ["blowhole"])
    assert chose == Half(good=(1.0, 3.0, 1.0), bad=(5.0, 1.5))
    assert rest == Half(good=(2.0, 0.0), bad=(0.5, 9.0, 2.5))


def test_each_half_has_its_own_auroc() -> None:
    """Counted by hand: of the pairs, those where the defect scores higher."""
    chose, rest = halves(SCORED, ["blowhole"])
    assert chose.image_auroc == pytest.approx(5 / 6)
    assert rest.image_auroc == pytest.approx(5 / 6)
    whole = Half(chose.good + rest.good, chose.bad + rest.bad)
    assert whole.image_auroc == pytest.approx(18 / 25)
    assert halves(SCORED, ["blowhole", "break", "fray"])[1].image_auroc is None


def test_the_table_says_of_how_many_images_a_figure_is() -> None:
    cell = {"teacher": "resnet18-bundled", "mode": "default"}
    head, _, row = table([(cell, SCORED)], ["blowhole"]).splitlines()
    assert "chosen on (blowhole)" in head
    assert [text.strip() for text in row.strip("|").split("|")] == [
        "resnet18-bundled",
        "default",
        "0.833 (3 + 2)",
        "0.833 (2 + 3)",
        "0.720 (5 + 5)",
    ]


def test_a_recipe_s_scores_come_in_the_order_of_the_paths(tmp_path: Path) -> None:
    recipe = random_recipe(tmp_path / "r")
    for number, name in enumerate(("good/b.png", "good/a.png", "blowhole/c.png")):
        save(tmp_path / "set/test" / name, part(number))
    found = scores(recipe.folder, tmp_path / "set")
    assert [one.kind for one in found] == ["blowhole", "good", "good"]
    alone = [Scorer(recipe).score([part(number)])[0].score for number in (2, 1, 0)]
    assert [one.score for one in found] == pytest.approx(alone)
