"""With a student and a memory the map is the larger of both in their units, the same in every runtime."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monitor.images.preprocessing import prepare
from monitor.inference.anomaly_network import AnomalyNetwork, Networks, build_networks
from monitor.inference.scorer import Scorer
from monitor.model.recipe_json import RecipeError
from monitor.model.recipe_version import RecipeVersion
from monitor.training.compare import Compare
from tests.real.parts import good_parts, part
from tests.real.small_training import train

IMAGES = [part(1), part(2, defect=True), part(3, side=200)[:, :, 0]]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> RecipeVersion:
    folder = tmp_path_factory.mktemp("both")
    return train(folder, good_parts(folder / "good", 10), compare=Compare.BOTH, epochs=1)


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> RecipeVersion:
    folder = tmp_path_factory.mktemp("memory")
    return train(folder, good_parts(folder / "good", 10), compare=Compare.MEMORY)


def batch(recipe: RecipeVersion) -> torch.Tensor:
    return torch.from_numpy(np.stack([prepare(image, recipe.size) for image in IMAGES]))


def test_the_map_is_the_larger_of_both_in_their_units(both: RecipeVersion) -> None:
    networks = build_networks(both)
    assert networks.student is not None
    with torch.no_grad():
        student = AnomalyNetwork(Networks(networks.teacher, networks.student))(batch(both))
        alone = AnomalyNetwork(Networks(networks.teacher, None, memory=networks.memory))(batch(both))
        found = AnomalyNetwork(networks)(batch(both))
    expected = torch.maximum(student / networks.student_unit, alone / networks.memory_unit)
    assert torch.allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["both", "memory"])
def test_openvino_agrees_with_torch(kind: str, request: pytest.FixtureRequest) -> None:
    recipe: RecipeVersion = request.getfixturevalue(kind)
    torch_maps, openvino_maps = (
        np.stack([result.anomaly_map for result in Scorer(recipe, device="cpu", runtime=way).score(IMAGES)])
        for way in ("torch", "openvino")
    )
    assert np.abs(torch_maps - openvino_maps).max() <= 1e-4 * np.abs(torch_maps).max()


def test_a_damaged_memory_is_one_clear_line(memory: RecipeVersion) -> None:
    assert memory.memory is not None
    broken = dict(memory.memory) | {"kept": np.ones((3, 5), np.float32)}
    damaged = RecipeVersion(memory.folder, memory.document, "", memory.teacher, None, broken)
    with pytest.raises(RecipeError, match="its memory is damaged"):
        build_networks(damaged)


def test_a_program_without_memories_refuses_a_recipe_with_one(both: RecipeVersion) -> None:
    assert both.document.resize.endswith(", with a memory")
