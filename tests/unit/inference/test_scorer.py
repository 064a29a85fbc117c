"""Every backend agrees with the plain network, so the line runs what was trained."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from drivers.image_file import Image
from monitor.images.preprocessing import prepare, resize_image
from monitor.inference.anomaly_network import build_networks
from monitor.inference.batch_norm_folding import fold_batch_norm
from monitor.inference.presence import average_cells, learn_gate
from monitor.inference.scorer import Scorer, ScoreResult
from monitor.inference.torch_network import TorchNetwork, disable_tf32
from monitor.model.recipe_json import REFERENCE, FirstLook, RecipeError, Tiles
from monitor.model.recipe_version import RecipeVersion
from monitor.model.weights import Weights
from monitor.pyramid import anomaly_map, upsample
from monitor.teachers.architectures import LEVELS, build_trunk, fill
from tests.real.parts import empty_place, part, random_recipe

AGREEMENT = 1e-4
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def plain_map(recipe: RecipeVersion, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """The maps of the plain network: eager float32 on the CPU, with nothing folded or reordered."""

    def rebuilt(weights: Weights) -> torch.nn.Module:
        trunk = build_trunk(recipe.document.teacher.architecture)
        fill(trunk, {name: torch.from_numpy(array.copy()) for name, array in weights.items()})
        return trunk.eval()

    size = recipe.size
    batch = torch.from_numpy(np.stack([prepare(image, size) for image in images]))
    with torch.no_grad():
        product = anomaly_map(rebuilt(recipe.teacher)(batch), rebuilt(recipe.student)(batch))
        return np.asarray(upsample(product, size).numpy())


def apart(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


@pytest.mark.parametrize("way", ["torch", "openvino"])
@pytest.mark.parametrize("architecture", sorted(LEVELS.keys() - {"resnet34", "resnet50", "wide_resnet50_2"}))
def test_every_architecture_agrees_with_the_plain_network(
    tmp_path: Path, architecture: str, way: str
) -> None:
    recipe = random_recipe(tmp_path / "r", architecture, size=96)
    images = [part(1), part(2, defect=True), part(3, side=200)[:, :, 0]]
    results = Scorer(recipe, device="cpu", runtime=way).score(images)
    found = np.stack([result.anomaly_map for result in results])
    assert apart(found, plain_map(recipe, images)) <= AGREEMENT


@pytest.fixture
def switches() -> Iterator[tuple[Any, Any]]:
    """The two objects whose `allow_tf32` permits TensorFloat-32, both set to true."""
    both: tuple[Any, Any] = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [switch.allow_tf32 for switch in both]
    for switch in both:
        switch.allow_tf32 = True
    yield both
    for switch, was in zip(both, before, strict=True):
        switch.allow_tf32 = was


def test_the_process_s_switches_are_set_once_and_left_alone_while_a_network_runs(
    tmp_path: Path, switches: tuple[Any, Any]
) -> None:
    """A switch that is set back would change the results of another thread's network."""
    while_running: list[bool] = []
    network = TorchNetwork(build_networks(random_recipe(tmp_path / "r")), torch.device("cpu"), half=False)
    trunk: Any = network._network.teacher
    layer = next(one for one in trunk.modules() if isinstance(one, torch.nn.Conv2d))
    layer.register_forward_pre_hook(lambda *_: while_running.append(switches[0].allow_tf32))
    network(torch.zeros(1, 3, 64, 64))
    assert while_running == [True], "a CPU network does not change them"
    disable_tf32(torch.device("cuda", 0))
    assert not any(switch.allow_tf32 for switch in switches)
    network(torch.zeros(1, 3, 64, 64))
    assert while_running == [True, False]
    assert not any(switch.allow_tf32 for switch in switches)


def test_batch_normalisation_is_gone_from_the_running_trunk() -> None:
    for architecture in ("resnet18", "efficientnet_b0", "mobilenet_v3_large"):
        modules = fold_batch_norm(build_trunk(architecture)).modules()
        assert not [module for module in modules if isinstance(module, torch.nn.BatchNorm2d)]


def test_folding_leaves_the_trunk_as_it_was() -> None:
    trunk = build_trunk("resnet18").eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = trunk(image)
        fold_batch_norm(trunk)
        assert all(torch.equal(a, b) for a, b in zip(before, trunk(image), strict=True))


@pytest.mark.parametrize("way", ["torch", "openvino"])
def test_a_wide_frame_s_map_has_the_size_that_was_asked_for(tmp_path: Path, way: str) -> None:
    recipe = random_recipe(tmp_path / "r", "resnet18", size=(64, 160))
    images = [part(1), part(2, side=300)]
    results = Scorer(recipe, device="cpu", runtime=way).score(images)
    found = np.stack([result.anomaly_map for result in results])
    assert found.shape == (2, 64, 160)
    assert apart(found, plain_map(recipe, images)) <= AGREEMENT


@pytest.mark.parametrize("way", ["torch", pytest.param("openvino", marks=pytest.mark.slow)])
def test_tiles_show_what_the_network_shows_of_the_whole_frame(tmp_path: Path, way: str) -> None:
    """Tiles that overlap by half leave a third of the difference that tiles without overlap leave."""
    frame = np.random.default_rng(0).integers(0, 256, (192, 576, 3), dtype=np.uint8)

    def map_of(name: str, tiles: Tiles | None) -> NDArray[np.float32]:
        recipe = random_recipe(tmp_path / name, size=(192, 576), tiles=tiles)
        return Scorer(recipe, device="cpu", runtime=way).score([frame])[0].anomaly_map

    whole = map_of("whole", None)
    overlapping = map_of("overlapping", Tiles(rows=192, columns=192, overlap=96))
    touching = map_of("touching", Tiles(rows=192, columns=192, overlap=0))
    assert overlapping.shape == whole.shape
    assert apart(overlapping, whole) <= 0.1
    assert np.square(overlapping - whole).mean() < np.square(touching - whole).mean() / 9


def test_a_score_is_its_map_s_maximum_at_the_network_s_resolution(tmp_path: Path) -> None:
    scorer = Scorer(random_recipe(tmp_path / "r", size=64), device="cpu", runtime="torch")
    for result in scorer.score([part(1), part(2, side=300)]):
        assert result.anomaly_map.shape == (64, 64)
        assert result.anomaly_map.dtype == np.float32
        assert result.score == float(result.anomaly_map.max())


def test_an_image_s_score_does_not_depend_on_its_company(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.inference.scorer.BATCH", 4)
    scorer = Scorer(random_recipe(tmp_path / "r"), device="cpu", runtime="torch")
    images = [part(seed, side=40 + 10 * seed) for seed in range(9)]
    together = [result.score for result in scorer.score(images)]
    alone = [scorer.score([image])[0].score for image in images]
    assert together == pytest.approx(alone, rel=1e-4)
    assert scorer.score([]) == []


@pytest.mark.usefixtures("two_threads")
def test_side_by_side_on_openvino_each_has_the_score_that_it_has_alone(tmp_path: Path) -> None:
    scorer = Scorer(random_recipe(tmp_path / "r"), device="cpu", runtime="openvino")
    images = [part(seed, side=40 + 10 * seed) for seed in range(5)]
    together = scorer.score(images)
    for image, result in zip(images, together, strict=True):
        (alone,) = scorer.score([image])
        assert result.score == alone.score
        assert np.array_equal(result.anomaly_map, alone.anomaly_map)


@pytest.mark.usefixtures("two_threads")
def test_a_lane_takes_the_next_image_when_it_is_free_and_each_score_is_the_one_alone(tmp_path: Path) -> None:
    scorer = Scorer(random_recipe(tmp_path / "r"), device="cpu", runtime="openvino")
    images = [part(seed, side=40 + 10 * seed) for seed in range(5)]
    taken, done = [], {}

    def choose() -> Iterator[Image]:
        for place, image in enumerate(images):
            taken.append((place, len(done)))
            yield image

    for place, result in scorer.stream(choose()):
        done[place] = result
    assert [place for place, _ in taken] == [0, 1, 2, 3, 4]
    assert all(place - finished <= 1 for place, finished in taken), "not before a lane is free"
    for place, image in enumerate(images):
        (alone,) = scorer.score([image])
        assert done[place].score == alone.score
        assert np.array_equal(done[place].anomaly_map, alone.anomaly_map)
    assert list(scorer.stream([])) == []
    assert [place for place, _ in scorer.stream([None, images[0], None])] == [1], "None takes no lane"


@pytest.mark.usefixtures("two_threads")
def test_without_lanes_nothing_streams(tmp_path: Path) -> None:
    recipe = random_recipe(tmp_path / "r")
    with pytest.raises(TypeError, match="torch-f32 has no lanes"):
        next(Scorer(recipe, device="cpu", runtime="torch").stream([part(1)]))


@pytest.mark.usefixtures("two_threads")
def test_in_lanes_a_part_near_the_threshold_has_its_second_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.inference.backends.has_native_bf16", lambda: True)
    pairs = FirstLook(pairs=((0.3, 0.3),) * 10)
    recipe = random_recipe(tmp_path / "r").with_changes(first_looks={"openvino-bf16": pairs}).commit()
    images = [part(seed, side=40 + 10 * seed) for seed in range(4)]
    exact = Scorer(recipe, device="cpu", runtime="openvino", precision="f32").score(images)
    scorer = Scorer(recipe, device="cpu", runtime="openvino", precision="bf16")
    assert scorer.lanes == 2
    for limit, expected in ((1e9, None), (-1.0, exact)):
        scorer.quick_pass_limit = limit
        together = expected or [scorer.score([image])[0] for image in images]
        streamed = dict(scorer.stream(images))
        assert [streamed[place].score for place in range(4)] == [result.score for result in together]


def gated(recipe: RecipeVersion) -> RecipeVersion:
    """The recipe with a presence gate for frames of 80x80 pixels in colour."""
    resized = [resize_image(empty_place(number), recipe.size) for number in range(12)]
    return recipe.with_presence(
        learn_gate(np.stack([average_cells(image) for image in resized]), (80, 80, 3))
    )


def test_inspect_scores_the_images_that_show_a_part_and_no_other(tmp_path: Path) -> None:
    scorer = Scorer(gated(random_recipe(tmp_path / "r")), device="cpu", runtime="torch")
    images = [empty_place(100), part(1), part(2, defect=True), empty_place(101), part(3, side=200)]
    results = scorer.inspect(images)
    assert [result is None for result in results] == [True, False, False, True, False]
    expected = scorer.score([image for image, result in zip(images, results, strict=True) if result])
    assert [result.score for result in results if result] == [result.score for result in expected]
    assert scorer.inspect([empty_place(100)]) == [None]
    assert scorer.inspect([]) == []


def test_inspect_without_a_gate_is_score(tmp_path: Path) -> None:
    scorer = Scorer(random_recipe(tmp_path / "r"), device="cpu", runtime="torch")
    images = [empty_place(100), part(1)]
    found = [result.score if result else None for result in scorer.inspect(images)]
    assert found == [result.score for result in scorer.score(images)]


def test_inspect_resizes_an_image_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second resize of a large frame would take as long as the first."""
    scorer = Scorer(gated(random_recipe(tmp_path / "r")), device="cpu", runtime="torch")
    scored: list[tuple[int, ...]] = []
    score = scorer.score

    def recording(images: Sequence[Image]) -> list[ScoreResult]:
        scored.extend(image.shape for image in images)
        return score(images)

    monkeypatch.setattr(scorer, "score", recording)
    scorer.inspect([part(1), empty_place(100), part(2, side=200)])
    assert scored == [(*scorer.recipe.size, 3)] * 2, "they have the network's size already"


def test_inspect_refuses_what_is_no_image(tmp_path: Path) -> None:
    not_an_image: Any = np.zeros((4, 4), np.float32)
    for recipe in (random_recipe(tmp_path / "a"), gated(random_recipe(tmp_path / "b"))):
        with pytest.raises(ValueError, match="an image is uint8"):
            Scorer(recipe, device="cpu", runtime="torch").inspect([part(1), not_an_image])


def test_not_a_number_comes_out_as_it_is(tmp_path: Path) -> None:
    recipe = random_recipe(tmp_path / "r")
    broken = {name: np.full_like(array, np.nan) for name, array in recipe.student.items()}
    recipe = RecipeVersion(recipe.folder, recipe.document, recipe.sha, recipe.teacher, broken)
    scorer = Scorer(recipe, device="cpu", runtime="torch")
    assert np.isnan(scorer.score([part(1)])[0].score)


def test_the_threshold_is_the_one_of_this_way_of_running(tmp_path: Path) -> None:
    recipe = random_recipe(tmp_path / "r")
    way = "openvino-f32"
    reference = recipe.document.calibration[REFERENCE]
    own = msgspec.structs.replace(reference, threshold=0.7)
    both = recipe.with_calibration({REFERENCE: reference, way: own})
    assert Scorer(both, device="cpu", runtime="torch").threshold == 0.5
    assert Scorer(both, device="cpu", runtime="openvino").threshold == 0.7
    assert Scorer(recipe, device="cpu", runtime="openvino").threshold == 0.5, (
        "torch's threshold where OpenVINO has none"
    )


def test_auto_takes_openvino_on_a_cpu_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = random_recipe(tmp_path / "r")
    assert Scorer(recipe, device="cpu").calibration_key == "openvino-f32"
    monkeypatch.setattr("monitor.inference.backends.has_openvino", lambda: False)
    assert Scorer(recipe, device="cpu").calibration_key == "torch-f32"
    with pytest.raises(RecipeError, match=r"pip install \"line-monitor\[openvino\]\""):
        Scorer(recipe, device="cpu", runtime="openvino")


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"runtime": "openvino", "device": "cuda:0"}, "this machine has"),
        (
            {"precision": "int8", "device": "cpu"},
            "has no int8 model: train it again with --int8",
        ),
        ({"precision": "int8", "runtime": "torch"}, "runs on OpenVINO"),
        ({"precision": "f16", "device": "cpu"}, "use auto or f32"),
        ({"device": "cuda:99"}, "this machine has"),
        ({"device": "tpu"}, "use auto, cpu, cuda"),
        ({"device": "cuda:-1"}, "use auto, cpu, cuda"),
        ({"runtime": "onnx"}, "use auto, torch or openvino"),
        ({"precision": "f8"}, "use auto, f32, bf16, f16 or int8"),
    ],
)
def test_what_this_machine_can_not_do_is_refused_with_what_it_can(
    tmp_path: Path, wish: dict[str, str], says: str
) -> None:
    recipe = random_recipe(tmp_path / "r")
    with pytest.raises(RecipeError, match=says) as refusal:
        Scorer(recipe, **wish)
    assert "\n" not in str(refusal.value)


def test_a_resnet_scorer_starts_without_torchvision_and_torchs_compiler(tmp_path: Path) -> None:
    """Importing either would add seconds to the time until a killed scoring process runs again."""
    folder = random_recipe(tmp_path / "r", "resnet18").folder
    code = (
        "import sys; from monitor.recipe import Recipe\n"
        f"Recipe.load({str(folder)!r}).scorer(device='cpu').warm_up()\n"
        "print({'torchvision', 'torch._dynamo'} & sys.modules.keys())"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "set()"


@pytest.mark.cuda
@cuda
@pytest.mark.parametrize(("precision", "agreement"), [("f32", AGREEMENT), ("f16", 5e-2)])
def test_cuda_agrees_with_the_plain_network(tmp_path: Path, precision: str, agreement: float) -> None:
    recipe = random_recipe(tmp_path / "r", "resnet18", size=256)
    images = [part(1), part(2, defect=True)]
    results = Scorer(recipe, device="cuda", precision=precision).score(images)
    found = np.stack([result.anomaly_map for result in results])
    assert apart(found, plain_map(recipe, images)) <= agreement
