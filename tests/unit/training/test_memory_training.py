"""A memory is taught by all good images, and each image that calibrates is scored without its own block."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import pytest
import torch

from monitor.feature_memory.memory import kept_name
from monitor.images import preprocessing
from monitor.images.tiling import Grid
from monitor.inference.anomaly_network import build_networks
from monitor.inference.scorer import Scorer
from monitor.inference.torch_network import TorchNetwork
from monitor.model.memory_level import MEMORY_LEVELS, numbers_of
from monitor.model.recipe_json import REFERENCE, make_tiles
from monitor.model.recipe_version import RecipeVersion
from monitor.training.calibrate_recipe import CalibrationRequest, calibrate_recipe
from monitor.training.checkpoint import checkpoint_folder
from monitor.training.compare import Compare
from monitor.training.memory_training import GoodImages, LeftOutScorer
from monitor.training.readable_images import file_mark
from monitor.training.thresholds import CalibrationError
from monitor.training.train_recipe import TrainingError
from tests.real.parts import good_parts, part, save
from tests.real.small_training import train

pytestmark = pytest.mark.usefixtures("without_openvino")

CPU = torch.device("cpu")
LEVELS = numbers_of(MEMORY_LEVELS)


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> RecipeVersion:
    """It was trained beside the state of a student that was interrupted."""
    folder = tmp_path_factory.mktemp("memory")
    checkpoint_folder(folder / "recipes", "disc").mkdir(parents=True)
    return train(folder, good_parts(folder / "good", 12), compare=Compare.MEMORY)


def scorer_of(recipe: RecipeVersion, blocks: list[int]) -> LeftOutScorer:
    """What scores the 12 images with these blocks left out."""
    assert recipe.memory is not None
    owners = [np.repeat(np.arange(12), len(recipe.memory[kept_name(level)]) // 12) for level in LEVELS]
    pictures = [preprocessing.resize_image(part(number), recipe.size) for number in range(12)]
    return LeftOutScorer(GoodImages(pictures, Grid.whole(recipe.size), blocks), owners)


def left_out_scores(recipe: RecipeVersion, blocks: list[int]) -> list[float]:
    return scorer_of(recipe, blocks).scores(TorchNetwork(build_networks(recipe), CPU, half=False), range(12))


def test_a_memory_alone_needs_no_student_and_calibrates_with_nine_tenths(memory: RecipeVersion) -> None:
    loaded = RecipeVersion.load(memory.folder)
    assert loaded.student is None
    training = loaded.document.training
    assert training is not None
    assert (training.train, training.select, training.calibrate, training.epochs) == (0, 1, 11, 0)
    assert len(loaded.document.calibration[REFERENCE].scores) == 11
    assert not (loaded.folder / "training.png").exists()


def test_a_memory_keeps_the_state_of_an_interrupted_student(memory: RecipeVersion) -> None:
    assert checkpoint_folder(memory.folder.parent, memory.name).is_dir()


def test_training_says_how_many_images_have_which_use(tmp_path: Path) -> None:
    lines: list[str] = []
    good = good_parts(tmp_path / "good", 6)
    train(tmp_path, good, lines.append, name="memory", compare=Compare.MEMORY)
    assert (
        "6 images: 1 to fix the unit of scores, 5 to calibrate; the memory keeps features of all of them"
        in lines
    )
    train(tmp_path, good, lines.append, name="student", compare=Compare.STUDENT, epochs=1)
    assert "6 images: 2 to train, 1 to select, 3 to calibrate" in lines
    train(tmp_path, good, lines.append, name="paper", compare=Compare.STUDENT, epochs=1, as_paper=True)
    assert (
        "6 images: 4 to train, 2 to select, 2 to calibrate (the same as select, as in the paper: the "
        "threshold is too low)" in lines
    )


def test_a_defect_scores_above_every_good_part(memory: RecipeVersion) -> None:
    scorer = Scorer(memory, device="cpu", runtime="torch")
    good = scorer.score([part(number) for number in range(100, 105)])
    bad = scorer.score([part(number, defect=True) for number in range(100, 105)])
    assert min(result.score for result in bad) > max(result.score for result in good)


def test_leaving_more_out_only_raises_scores(memory: RecipeVersion) -> None:
    single = left_out_scores(memory, list(range(12)))
    blocks = left_out_scores(memory, [number // 4 for number in range(12)])
    whole = [
        result.score
        for result in Scorer(memory, device="cpu", runtime="torch").score([part(n) for n in range(12)])
    ]
    assert all(a >= b for a, b in zip(blocks, single, strict=True))
    assert all(a >= b * (1 - 1e-5) for a, b in zip(single, whole, strict=True))
    assert sum(single) > sum(whole)


def test_copies_of_a_part_are_left_out_together(tmp_path: Path) -> None:
    """Three near copies of each part: left in, their scores would be those of parts that the memory knows."""
    folder = tmp_path / "good"
    for number in range(8):
        for copy in range(3):
            image = part(number).astype(np.int16) + 4 * copy
            save(folder / f"part{number}-{copy}.png", np.clip(image, 0, 255).astype(np.uint8))
    named = train(tmp_path, folder, name="named", compare=Compare.MEMORY, part_of="^part[0-9]+")
    calibration = named.document.calibration[REFERENCE]
    assert len(set(calibration.parts)) == 7, "one of eight parts selects"
    assert calibration.guarantee == pytest.approx(1 / 8)
    single = train(tmp_path, folder, name="single", compare=Compare.MEMORY, part_of="^part[0-9]+-[0-9]")
    assert len(single.document.calibration[REFERENCE].parts or range(22)) == 22
    assert calibration.threshold > single.document.calibration[REFERENCE].threshold


def test_with_both_units_bring_student_and_memory_to_about_1(tmp_path: Path) -> None:
    document = train(tmp_path, good_parts(tmp_path / "good", 30), compare=Compare.BOTH).document
    assert document.memory is not None
    assert document.student is not None
    # The mean of both is below 1 where their highest places differ.
    assert 0.1 < statistics.median(document.calibration[REFERENCE].scores) < 1.2
    assert document.student_unit != 1


def test_tiles_have_one_memory(tmp_path: Path) -> None:
    recipe = train(
        tmp_path, good_parts(tmp_path / "good", 6), compare=Compare.MEMORY, tiles=make_tiles((48, 48))
    )
    (result,) = Scorer(recipe, device="cpu").score([part(1)])
    assert result.anomaly_map.shape == recipe.size


def test_the_same_seed_gives_the_same_memory(tmp_path: Path) -> None:
    folder = good_parts(tmp_path / "good", 8)
    first, again, other = (
        train(tmp_path, folder, name=name, compare=Compare.MEMORY, seed=seed)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first.document.memory == again.document.memory != other.document.memory
    assert first.document.calibration == again.document.calibration


def test_calibrating_anew_leaves_out_what_the_memory_knows(memory: RecipeVersion) -> None:
    request = CalibrationRequest(recipe=memory.folder, images=memory.folder.parents[1] / "good")
    with pytest.raises(CalibrationError, match="all of them trained this recipe"):
        calibrate_recipe(request, say=print)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"as_paper": True, "compare": Compare.BOTH}, "the paper's mode has a student alone"),
        ({"int8": True, "compare": Compare.MEMORY}, "int8 needs a student"),
    ],
)
def test_what_does_not_go_together_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        train(tmp_path, good_parts(tmp_path / "good", 4), **changes)


def test_a_memory_without_some_images_scores_them_as_if_it_had_never_seen_them(memory: RecipeVersion) -> None:
    scorer = scorer_of(memory, list(range(12)))
    network = TorchNetwork(build_networks(scorer.leave_out(memory, [3, 5])), CPU, half=False)
    expected = scorer.scores(TorchNetwork(build_networks(memory), CPU, half=False), [3], without=[5])
    image = torch.from_numpy(preprocessing.normalise_image(scorer.images.pictures[3])[None])
    assert float(network(image).max()) == pytest.approx(expected[0])
    assert scorer.leave_out(memory, range(12)) is memory, "no feature would be left"


def test_what_a_memory_knows_is_near_at_every_level(memory: RecipeVersion) -> None:
    """Training and scoring divide the channels by the same numbers."""
    network = TorchNetwork(build_networks(memory), CPU, half=False)
    known, new = (
        torch.from_numpy(preprocessing.prepare(part(number), memory.size)[None]) for number in (3, 40)
    )
    assert float(network(known).max()) < 0.05 * float(network(new).max())


def test_images_that_calibrate_move_no_deviation_and_no_projection(tmp_path: Path) -> None:
    """The guarantee rests on this: a calibrating image may not decide how others are compared."""
    good = good_parts(tmp_path / "good", 12)
    first = train(tmp_path, good, name="first", compare=Compare.MEMORY)
    calibrating = [file for file in sorted(good.iterdir()) if file_mark(file) in first.document.calibrated_on]
    assert len(calibrating) == 11
    for number, file in enumerate(calibrating[:5]):
        save(file, part(100 + number))
    again = train(tmp_path, good, name="again", compare=Compare.MEMORY)
    assert first.memory is not None
    assert again.memory is not None
    fixed = [name for name in first.memory if not name.startswith("kept.")]
    assert {"even.1", "even.4", "even.5", "projection.2", "projection.5"} <= set(fixed)
    for name in fixed:
        assert np.array_equal(first.memory[name], again.memory[name]), name
    assert not np.array_equal(first.memory["kept.4"], again.memory["kept.4"])
