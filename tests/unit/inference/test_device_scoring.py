"""Scoring on a device gives the CPU's scores. The tests run every step except CUDA's, on the CPU."""

from __future__ import annotations

import copy
import logging
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from drivers.image_file import Image
from monitor.commands.bench.scoring import measure_device
from monitor.inference.anomaly_network import Networks, build_networks
from monitor.inference.device_scoring import DeviceScoring, PlainTransfer, Run
from monitor.inference.scorer import Scorer, ScoreResult
from monitor.inference.torch_network import TorchNetwork
from monitor.model.recipe_json import Tiles
from monitor.model.recipe_version import RecipeVersion
from monitor.pyramid import ScaledTrunk
from monitor.teachers.architectures import build_trunk
from tests.real.parts import part, random_recipe

CPU = torch.device("cpu")


class Replaying(PlainTransfer):
    """Its runs write to the same result tensors each time, as recorded runs do."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.replays = 0

    def record_run(self, run: Run, network_lock: AbstractContextManager[object]) -> Run | None:
        with network_lock:
            results = tuple(torch.empty_like(result) for result in run())

        def replay() -> tuple[Tensor, Tensor]:
            self.replays += 1
            for old, new in zip(results, run(), strict=True):
                old.copy_(new)
            return results[0], results[1]

        return replay


class Stale(PlainTransfer):
    """Its recorded runs return the results of the recording, whatever the input is."""

    def record_run(self, run: Run, network_lock: AbstractContextManager[object]) -> Run | None:
        maps, tops = run()
        return lambda: (maps, tops)


class Counting(PlainTransfer):
    """It counts the uploaded frames."""

    uploads = 0

    def upload(self, image: Image) -> Tensor:
        self.uploads += 1
        return super().upload(image)


class Lossy(PlainTransfer):
    """It loses the lower half of large frames."""

    def upload(self, image: Image) -> Tensor:
        there = super().upload(image)
        if len(image) > 100:
            there[len(there) // 2 :] = 0
        return there


def scoring_of(
    recipe: RecipeVersion, transfer: PlainTransfer | None = None, *, max_batch: int = 4, half: bool = False
) -> DeviceScoring:
    network = TorchNetwork(build_networks(recipe), CPU, half=half)
    return DeviceScoring(
        network, recipe.grid, CPU, transfer or PlainTransfer(CPU), max_batch=max_batch, agreement=1e-4
    )


def varied() -> list[Image]:
    """More images than a batch, colour and mono, of several shapes larger and smaller than the network's
    input."""
    images = [part(seed, side=40 + 50 * seed, defect=seed % 2 == 1) for seed in range(6)]
    return [*images, part(7, side=200)[:, :, 0], part(8)[20:60], part(9, side=300)[::-1]]


def apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    ("size", "tiles"),
    [(64, None), ((64, 96), None), ((96, 160), Tiles(rows=64, columns=64, overlap=16))],
    ids=["square", "wide", "in tiles"],
)
def test_scores_and_maps_are_those_of_the_cpu_s_way(
    tmp_path: Path, size: int | tuple[int, int], tiles: Tiles | None, half: bool
) -> None:
    recipe = random_recipe(tmp_path / "r", "resnet18", size=size, tiles=tiles)
    expected = Scorer(recipe, device="cpu", runtime="torch").score(varied())
    found = scoring_of(recipe, half=half).score(varied())
    assert len(found) == len(expected)
    for (score, own), before in zip(found, expected, strict=True):
        assert apart(own.numpy(), before.anomaly_map) <= 1e-2
        assert score == pytest.approx(before.score, rel=1e-2)


def test_half_precision_agrees_on_the_same_input_and_stays_in_the_trunks(tmp_path: Path) -> None:
    recipe = random_recipe(tmp_path / "r", "resnet18", size=96)
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    plain, half = (TorchNetwork(build_networks(recipe), CPU, half=half)(images) for half in (False, True))
    assert half.dtype == torch.float32
    assert apart(half.numpy(), plain.numpy()) <= 1e-2


def test_channels_that_hardly_vary_do_not_leave_half_precision_s_range() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pair = [build_trunk("resnet18").eval() for _ in range(2)]
    deviations = [torch.full((channels,), 1e-5) for channels in (64, 128, 256)]
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    plain, half = (
        TorchNetwork(
            Networks(*(ScaledTrunk(copy.deepcopy(trunk), deviations) for trunk in pair)), CPU, half=half
        )(images)
        for half in (False, True)
    )
    assert apart(half.numpy(), plain.numpy()) <= 1e-2


@pytest.mark.parametrize("tiles", [None, Tiles(rows=48, columns=48, overlap=16)])
def test_a_score_is_exactly_its_map_s_maximum(tmp_path: Path, tiles: Tiles | None) -> None:
    recipe = random_recipe(tmp_path / "r", size=64, tiles=tiles)
    scoring = scoring_of(recipe, Replaying())
    scoring.warm_up()
    for score, own in scoring.score(varied()):
        result = ScoreResult(score, own)
        assert result.anomaly_map.dtype == np.float32
        assert result.anomaly_map.shape == (64, 64)
        assert result.score == float(result.anomaly_map.max())
        assert result.anomaly_map is result.anomaly_map, "copied to the CPU once"


def test_a_map_outlives_the_next_run_and_keeps_no_other_map_alive(tmp_path: Path) -> None:
    transfer = Replaying()
    scoring = scoring_of(random_recipe(tmp_path / "r"), transfer)
    scoring.warm_up()
    transfer.replays = 0
    kept = scoring.score(varied())
    before = [own.clone() for _, own in kept]
    scoring.score([255 - image for image in varied()])
    assert transfer.replays == 6, "nine images in batches of four, twice"
    assert all(torch.equal(own, copy) for (_, own), copy in zip(kept, before, strict=True))
    assert all(own.untyped_storage().nbytes() == 4 * own.numel() for _, own in kept)


def test_a_batch_that_is_filled_up_scores_its_images_as_each_alone(tmp_path: Path) -> None:
    scoring = scoring_of(random_recipe(tmp_path / "r"), max_batch=16)
    images = varied()
    alone = [scoring.score([image])[0][0] for image in images]
    for count in range(len(images) + 1):
        together = [score for score, _ in scoring.score(images[:count])]
        assert together == pytest.approx(alone[:count], rel=1e-4)


def test_a_recorded_run_that_gives_something_else_is_not_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = random_recipe(tmp_path / "r")
    scoring, plain = scoring_of(recipe, Stale(CPU)), scoring_of(recipe)
    with caplog.at_level(logging.WARNING):
        scoring.warm_up()
    assert sum("the plain one is used" in line for line in caplog.messages) == 3, "sizes 1, 2 and 4"
    found, expected = scoring.score(varied()), plain.score(varied())
    assert [score for score, _ in found] == [score for score, _ in expected]


def test_frames_that_a_device_spoils_are_squashed_by_the_cpu(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = random_recipe(tmp_path / "r")
    scoring = scoring_of(recipe, Lossy(CPU))
    large, small = part(1, side=200), part(2, side=80)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            found = scoring.score([large, small])
    warnings = [line for line in caplog.messages if "are resized by the CPU" in line]
    assert len(warnings) == 1, "one warning, about the large frames"
    assert "200x200" in warnings[0]
    expected = Scorer(recipe, device="cpu", runtime="torch").score([large, small])
    assert [score for score, _ in found] == pytest.approx([one.score for one in expected], rel=1e-4)


def test_not_a_number_comes_out_as_it_is(tmp_path: Path) -> None:
    recipe = random_recipe(tmp_path / "r")
    broken = {name: np.full_like(array, np.nan) for name, array in recipe.student.items()}
    recipe = RecipeVersion(recipe.folder, recipe.document, recipe.sha, recipe.teacher, broken)
    scoring = scoring_of(recipe, Replaying())
    scoring.warm_up()
    assert np.isnan(scoring.score([part(1)])[0][0])


def test_what_is_no_image_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    scoring = scoring_of(random_recipe(tmp_path / "r"))
    with pytest.raises(ValueError, match="an image is uint8"):
        scoring.score([part(1), np.zeros((4, 4), np.float32)])  # type: ignore[list-item]


def test_recording_is_done_while_no_other_network_runs(tmp_path: Path) -> None:
    class Lock:
        entered = 0

        def __enter__(self) -> None:
            self.entered += 1

        def __exit__(self, *raised: object) -> None:
            pass

    lock = Lock()
    scoring_of(random_recipe(tmp_path / "r"), Replaying()).warm_up(lock)  # type: ignore[arg-type]
    assert lock.entered == 3


def test_the_bench_measures_a_device_as_a_line_uses_it() -> None:
    (row,) = measure_device("squeezenet1_1", 64, "cpu", 0.4, resident=4)
    assert row.precision == "f32"
    assert row.ms_to_score > 0
    assert row.frames_a_second > 0


def test_a_recipe_s_first_frame_finds_its_way_tried_out_in_colour_and_in_mono(tmp_path: Path) -> None:
    recipe, transfer = random_recipe(tmp_path / "r"), Counting(CPU)
    scorer = Scorer(recipe, device="cpu", runtime="torch")
    scorer._device_scoring = scoring_of(recipe, transfer)
    scorer.warm_up()
    for frame in (part(1, side=64), part(1, side=64)[:, :, 0]):
        before = transfer.uploads
        scorer.score([frame])
        assert transfer.uploads == before + 1, "no second frame was uploaded to compare the preprocessing"
