"""An exported model compares with the memory too, without this program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import openvino.properties.hint as hints
import pytest

from monitor.images.preprocessing import resize_image
from monitor.inference.export import export
from monitor.inference.scorer import Scorer
from monitor.model.recipe_version import RecipeVersion
from monitor.training.compare import Compare
from tests.real.parts import good_parts, part
from tests.real.small_training import train

onnxruntime = pytest.importorskip("onnxruntime", reason="only the tests of exported models need it")


@pytest.fixture(scope="module", params=[Compare.MEMORY, Compare.BOTH])
def recipe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RecipeVersion:
    folder = tmp_path_factory.mktemp("recipe")
    return train(folder, good_parts(folder / "good", 6), compare=request.param, epochs=1)


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_maps_and_scores_are_the_line_s(recipe: RecipeVersion, tmp_path: Path, form: str) -> None:
    file = export(recipe.folder, form=form, precision="f32", out=tmp_path, force=False, say=lambda line: None)
    image = resize_image(part(50, defect=True), recipe.size)
    if form == "onnx":
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        anomaly_map, score = session.run(["anomaly_map", "score"], {"image": image[None]})
    else:
        model = ov.Core().compile_model(str(file), "CPU", {hints.inference_precision: ov.Type.f32})
        found = model({"image": image[None]})
        anomaly_map, score = found["anomaly_map"], found["score"]
    (expected,) = Scorer(recipe, device="cpu", runtime="torch").score([image])
    assert np.abs(anomaly_map[0] - expected.anomaly_map).max() <= 1e-4 * expected.score
    assert float(score[0]) == pytest.approx(expected.score, rel=1e-4)
