"""A bfloat16 score only passes clearly good parts, and every verdict is the same as float32's."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from monitor.images.preprocessing import resize_image
from monitor.inference import backends
from monitor.inference.scorer import Scorer
from monitor.model.recipe_json import RecipeError
from monitor.model.recipe_version import RecipeVersion
from monitor.training import first_look
from monitor.training.first_look import add_first_looks, add_first_looks_of_files
from tests.real.parts import good_parts, part, random_recipe

IMAGES = [part(200 + n, defect=n % 3 == 0) for n in range(12)]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecipeVersion]:
    """A recipe with pairs. On a processor without bfloat16 the same is computed more slowly."""
    folder = tmp_path_factory.mktemp("first-look")
    with pytest.MonkeyPatch.context() as patch:
        for module in (backends, first_look):
            patch.setattr(module, "has_native_bf16", lambda: True)
        made = random_recipe(folder / "r")
        yield add_first_looks_of_files(made, sorted(good_parts(folder / "good", 8).iterdir()))


def at_threshold(recipe: RecipeVersion, threshold: float) -> RecipeVersion:
    return recipe.with_calibration(
        {
            key: msgspec.structs.replace(own, threshold=threshold)
            for key, own in recipe.document.calibration.items()
        }
    )


def scores(scorer: Scorer) -> list[float]:
    """One image at a time, since torch's last digits depend on the number of images."""
    return [scorer.score([image])[0].score for image in IMAGES]


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_wherever_the_threshold_lies_the_verdicts_are_float32_s(recipe: RecipeVersion, runtime: str) -> None:
    exact = scores(Scorer(recipe, device="cpu", runtime=runtime, precision="f32"))
    for threshold in sorted(exact)[::6]:
        scorer = Scorer(at_threshold(recipe, threshold), device="cpu", runtime=runtime, precision="bf16")
        assert [score > threshold for score in scores(scorer)] == [b > threshold for b in exact]


def test_a_clearly_good_part_has_one_look_and_a_reject_float32_s_score(recipe: RecipeVersion) -> None:
    exact = scores(Scorer(recipe, device="cpu", runtime="torch"))
    ways = [
        Scorer(at_threshold(recipe, threshold), device="cpu", runtime="torch", precision="bf16")
        for threshold in (10 * max(exact), min(exact) / 10)
    ]
    passed, rejected = map(scores, ways)
    assert passed != exact
    assert passed == pytest.approx(exact, rel=0.1)
    assert rejected == exact


def test_without_pairs_bfloat16_is_refused_with_the_way_to_them(recipe: RecipeVersion) -> None:
    bare = recipe.with_changes(first_looks={})
    with pytest.raises(RecipeError, match="line-monitor calibrate r --images DIR"):
        Scorer(bare, device="cpu", runtime="torch", precision="bf16")


def test_a_processor_without_bfloat16_makes_no_pairs_and_keeps_those_of_another_machine(
    recipe: RecipeVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (backends, first_look):
        monkeypatch.setattr(module, "has_native_bf16", lambda: False)
    images = [part(n) for n in range(8)]
    assert add_first_looks(recipe, images, range(8), range(8), seed=0) is recipe
    with pytest.raises(RecipeError, match="no bfloat16 instructions"):
        Scorer(recipe, device="cpu", runtime="torch", precision="bf16")


def test_a_calibration_from_few_images_forgets_no_pairs_of_this_processor(
    recipe: RecipeVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_look, "has_native_bf16", lambda: True)
    few = [resize_image(part(n), recipe.size) for n in range(2)]
    again = add_first_looks(recipe, few, range(2), range(2), seed=0)
    assert again.document.first_looks == recipe.document.first_looks
    elsewhere = msgspec.structs.replace(recipe.document.first_looks["torch-bf16"], made_with="another")
    moved = recipe.with_changes(first_looks={"torch-bf16": elsewhere})
    made = add_first_looks(moved, few, range(2), range(2), seed=0).document.first_looks["torch-bf16"]
    assert made.made_with != "another"


def test_a_memory_alone_has_pairs_from_the_images_that_fix_its_unit(recipe: RecipeVersion) -> None:
    """No image trains it."""
    bare = recipe.with_changes(first_looks={})
    images = [resize_image(part(n), recipe.size) for n in range(4)]
    made = add_first_looks(bare, images, (), range(4), seed=0)
    assert len(made.document.first_looks["torch-bf16"].pairs) >= 8
