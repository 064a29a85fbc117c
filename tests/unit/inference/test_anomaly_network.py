"""With a student and a memory the map is the mean of both in their units, the same in every runtime."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch

from monitor.feature_memory.embedding import JoinedEmbedding, draw_projection
from monitor.feature_memory.memory import (
    JOINED_KEPT,
    JOINED_PROJECTION,
    FeatureMemory,
    kept_name,
    projection_name,
)
from monitor.images.preprocessing import prepare
from monitor.inference.anomaly_network import AnomalyNetwork, Networks, build_networks
from monitor.inference.scorer import Scorer
from monitor.inference.torch_network import TorchNetwork
from monitor.model.channel_scaling import TENSOR_NAMES
from monitor.model.memory_level import FIRST_MEMORY_LEVELS, MemoryLevel
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


def both_maps(recipe: RecipeVersion) -> tuple[torch.Tensor, torch.Tensor]:
    """The student's and the memory's maps, each in its unit."""
    networks = build_networks(recipe)
    assert networks.student is not None
    with torch.no_grad():
        student = AnomalyNetwork(Networks(networks.teacher, networks.student))(batch(recipe))
        memory = replace(networks, student=None, memory_unit=1.0, memory_share=None)
        alone = AnomalyNetwork(memory)(batch(recipe))
    return student / networks.student_unit, alone / networks.memory_unit


def test_the_map_is_the_weighted_mean_of_both_in_their_units(both: RecipeVersion) -> None:
    student, alone = both_maps(both)
    with torch.no_grad():
        found = AnomalyNetwork(build_networks(both))(batch(both))
    assert torch.allclose(found, (student + 2 * alone) / 3, rtol=1e-5)


def test_a_recipe_without_a_share_keeps_the_larger_of_both(both: RecipeVersion) -> None:
    student, alone = both_maps(both)
    with torch.no_grad():
        found = AnomalyNetwork(replace(build_networks(both), memory_share=None))(batch(both))
    assert torch.allclose(found, torch.maximum(student, alone), rtol=1e-5)


def test_a_recipe_of_an_earlier_version_keeps_its_joined_memory(memory: RecipeVersion) -> None:
    assert memory.memory is not None
    assert memory.document.memory is not None
    levels = build_networks(memory).teacher(batch(memory))
    projection = draw_projection(levels[1].shape[1] + levels[2].shape[1], 0, 64)
    kept = torch.rand(20, projection.shape[1], generator=torch.Generator().manual_seed(0))
    arrays = {name: memory.memory[name] for name in TENSOR_NAMES}
    arrays |= {JOINED_KEPT: kept.numpy(), JOINED_PROJECTION: projection.numpy()}
    entry = msgspec.structs.replace(memory.document.memory, by_level=False, levels=(), teacher=None)
    earlier = replace(memory.with_changes(memory=entry), memory=arrays)
    joined = JoinedEmbedding(projection, levels[1].shape[1])(levels)
    expected = torch.cdist(joined, kept.expand(len(IMAGES), 1, -1, -1)).square().amin(dim=-1)
    networks = build_networks(earlier)
    assert networks.memory is not None
    assert torch.allclose(networks.memory(levels), expected, atol=1e-5)


@pytest.mark.parametrize("levels", [(), FIRST_MEMORY_LEVELS], ids=["not recorded", "without numbers"])
def test_a_recipe_of_an_earlier_version_compares_the_levels_of_one_teacher(
    memory: RecipeVersion, levels: tuple[MemoryLevel, ...]
) -> None:
    assert memory.memory is not None
    assert memory.document.memory is not None
    entry = msgspec.structs.replace(memory.document.memory, levels=levels, teacher=None)
    found = build_networks(memory).teacher(batch(memory))
    channels, arrays = [level.shape[1] for level in found], dict(memory.memory)
    for level, count in enumerate(channels, start=1):
        arrays[projection_name(level)] = draw_projection(count, 0, 8).numpy()
        arrays[kept_name(level)] = np.random.default_rng(level).random((20, 8), np.float32)
    first = build_networks(replace(memory.with_changes(memory=entry), memory=arrays, memory_teacher=None))
    assert first.memory is not None
    assert first.memory_teacher is None
    assert torch.equal(first.memory(found), FeatureMemory(arrays, channels, FIRST_MEMORY_LEVELS)(found))


@pytest.mark.parametrize("kind", ["both", "memory"])
def test_openvino_agrees_with_torch(kind: str, request: pytest.FixtureRequest) -> None:
    recipe: RecipeVersion = request.getfixturevalue(kind)
    torch_maps, openvino_maps = (
        np.stack([result.anomaly_map for result in Scorer(recipe, device="cpu", runtime=way).score(IMAGES)])
        for way in ("torch", "openvino")
    )
    assert np.abs(torch_maps - openvino_maps).max() <= 1e-4 * np.abs(torch_maps).max()


@pytest.mark.parametrize(
    ("name", "array"),
    [
        pytest.param("kept.2", np.ones((3, 5), np.float32), id="features"),
        pytest.param("even.4", None, id="a missing deviation"),
        pytest.param("even.5", np.ones(7, np.float32), id="deviations of another network"),
        pytest.param("even.5", np.zeros(192, np.float32), id="a deviation of 0"),
    ],
)
def test_a_damaged_memory_is_one_clear_line(
    memory: RecipeVersion, name: str, array: np.ndarray | None
) -> None:
    broken = dict(memory.memory or {})
    if array is None:
        del broken[name]
    else:
        broken[name] = array
    with pytest.raises(RecipeError, match="its memory is damaged"):
        build_networks(replace(memory, memory=broken))


def test_a_damaged_channel_scaling_is_one_clear_line(both: RecipeVersion) -> None:
    broken = {name: array for name, array in (both.student or {}).items() if name != TENSOR_NAMES[1]}
    with pytest.raises(RecipeError, match=r"its channel scaling is damaged \(even\.2 is missing\)"):
        build_networks(replace(both, student=broken))


def test_a_teacher_of_the_memory_that_is_not_known_is_one_clear_line(memory: RecipeVersion) -> None:
    entry = memory.document.memory
    assert entry is not None
    assert entry.teacher is not None
    newer = msgspec.structs.replace(entry.teacher, architecture="lite_of_the_future")
    changed = memory.with_changes(memory=msgspec.structs.replace(entry, teacher=newer))
    with pytest.raises(RecipeError, match="lite_of_the_future is not known here: update the program"):
        build_networks(changed)
    with pytest.raises(RecipeError, match="its memory is damaged"):
        build_networks(replace(memory, memory_teacher={}))


def test_half_precision_leaves_the_networks_that_it_was_made_from_as_they_are(memory: RecipeVersion) -> None:
    networks = build_networks(memory)
    TorchNetwork(networks, torch.device("cpu"), half=True)
    assert networks.memory_teacher is not None
    assert {parameter.dtype for parameter in networks.memory_teacher.parameters()} == {torch.float32}


def test_bfloat16_moves_the_map_of_a_new_part_little(memory: RecipeVersion) -> None:
    exact, quick = (
        TorchNetwork(build_networks(memory), torch.device("cpu"), half=False, bfloat16=bfloat16)
        for bfloat16 in (False, True)
    )
    new = torch.from_numpy(np.stack([prepare(part(number, defect=True), memory.size) for number in (40, 41)]))
    assert torch.allclose(quick(new).amax((1, 2)), exact(new).amax((1, 2)), rtol=0.15)


def test_a_program_refuses_recipes_of_a_kind_that_it_does_not_know(
    both: RecipeVersion, memory: RecipeVersion
) -> None:
    assert both.document.resize.endswith(", averaged with a memory by recorded levels of two teachers")
    assert memory.document.resize.endswith(", with a memory by recorded levels of two teachers")
