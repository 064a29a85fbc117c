"""An int8 score only passes clearly good parts, and every verdict is the same as float32's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from drivers.image_file import Image
from monitor.images.preprocessing import resize_image
from monitor.inference.backends import available_backends
from monitor.inference.scorer import Scorer
from monitor.model.recipe_json import REFERENCE, RecipeError
from monitor.model.recipe_version import RecipeVersion
from monitor.training.quantisation import quantise_recipe, rank_correlation
from monitor.training.train_recipe import TrainingError, TrainingRequest, train_recipe
from tests.real.parts import draft_recipe, part

SIZE = 64
TRAIN, SELECT = range(12), range(12, 16)


@pytest.fixture(scope="module")
def pictures() -> list[Image]:
    return [resize_image(part(n), (SIZE, SIZE)) for n in range(16)]


def test_a_clearly_good_part_is_judged_in_eight_bits_and_a_reject_in_float32(made: RecipeVersion) -> None:
    assert made.document.quantised is not None
    assert made.document.quantised.agreement > 0.9
    images = [part(100 + n, defect=n % 2 == 1) for n in range(30)]
    generous = at_threshold(made, 5 * made.document.calibration[REFERENCE].threshold)
    coarse, exact = (Scorer(generous, device="cpu", precision=name) for name in ("int8", "f32"))
    quick, plain = coarse.score(images), exact.score(images)
    in_eight_bits = [a.score != b.score for a, b in zip(quick, plain, strict=True)]
    assert in_eight_bits == [True, False] * 15
    assert np.array_equal(quick[1].anomaly_map, plain[1].anomaly_map)
    verdicts = [[result.score > coarse.threshold for result in results] for results in (quick, plain)]
    assert verdicts == [[False, True] * 15] * 2


def at_threshold(recipe: RecipeVersion, threshold: float) -> RecipeVersion:
    return recipe.with_calibration(
        {
            key: msgspec.structs.replace(own, threshold=threshold)
            for key, own in recipe.document.calibration.items()
        }
    )


def test_wherever_the_threshold_lies_the_verdicts_are_float32_s(made: RecipeVersion) -> None:
    """In the middle of all scores int8 alone would judge some parts differently."""
    images = [part(200 + n, defect=n % 3 == 0) for n in range(30)]
    exact = Scorer(made, device="cpu", precision="f32").score(images)
    scores = sorted(result.score for result in exact)
    for threshold in (scores[0], scores[14], scores[29]):
        quick = Scorer(at_threshold(made, threshold), device="cpu", precision="int8").score(images)
        assert [a.score > threshold for a in quick] == [b.score > threshold for b in exact]


def test_where_nothing_is_known_of_the_two_float32_judges_everything(made: RecipeVersion) -> None:
    assert made.document.quantised is not None
    unknown = msgspec.structs.replace(made.document.quantised, pairs=())
    blind = replace(made, document=msgspec.structs.replace(made.document, quantised=unknown))
    images = [part(100 + n) for n in range(5)]
    quick = Scorer(blind, device="cpu", precision="int8").score(images)
    plain = Scorer(made, device="cpu", precision="f32").score(images)
    assert [a.score for a in quick] == [b.score for b in plain]


@pytest.mark.slow
def test_the_same_pictures_make_the_same_model(tmp_path: Path, pictures: list[Image]) -> None:
    once, again = (
        quantise_recipe(draft_recipe(tmp_path / name), pictures, TRAIN, SELECT, seed=0) for name in ("a", "b")
    )
    assert once.document.quantised == again.document.quantised


def test_it_is_kept_with_the_recipe_and_has_float32_s_threshold(made: RecipeVersion) -> None:
    loaded = RecipeVersion.load(made.folder)
    thresholds = {key: one.threshold for key, one in loaded.document.calibration.items()}
    assert list(thresholds) == ["torch-f32", "openvino-f32", "openvino-int8"]
    assert thresholds["openvino-f32"] == pytest.approx(thresholds["torch-f32"], rel=1e-4)
    assert thresholds["openvino-int8"] == thresholds["openvino-f32"]
    scorer = Scorer(loaded, device="cpu", precision="int8")
    scorer.warm_up()
    assert scorer.threshold == thresholds["openvino-int8"]
    assert Scorer(loaded, device="cpu").calibration_key == "openvino-f32", "int8 is used only on request"


def test_another_way_s_threshold_is_none_for_it(made: RecipeVersion) -> None:
    bare = made.with_calibration({REFERENCE: made.document.calibration[REFERENCE]})
    with pytest.raises(RecipeError, match="no threshold for openvino-int8: calibrate it where OpenVINO is"):
        Scorer(bare, device="cpu", precision="int8").warm_up()


def test_training_says_when_it_can_not_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.training.training_inputs.can_quantise", lambda: False)
    with pytest.raises(TrainingError, match="int8 needs OpenVINO and NNCF: pip install"):
        train_recipe(
            TrainingRequest(
                name="disc",
                recipes=tmp_path,
                images=tmp_path,
                teacher=None,
                teacher_weights=None,
                teachers=tmp_path,
                int8=True,
            ),
            say=lambda line: None,
        )


def test_a_recipe_without_one_is_calibrated_without_it(made: RecipeVersion) -> None:
    cpu = torch.device("cpu")
    assert ("openvino", "int8") in available_backends(made, cpu)
    assert ("openvino", "int8") not in available_backends(replace(made, quantised=None), cpu)


def test_a_model_of_another_size_is_refused(made: RecipeVersion) -> None:
    larger = replace(made, document=msgspec.structs.replace(made.document, size=96))
    with pytest.raises(RecipeError, match=r"can't use its int8 model .*train the recipe again"):
        Scorer(larger, device="cpu", precision="int8")


def test_ranks_are_compared_as_an_independent_library_does() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 20, 50).astype(float)
    second = first + rng.integers(0, 10, 50)
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second)[0])
    assert rank_correlation([1.0, 1.0], [1.0, 2.0]) == 0
