"""The CUDA transfer changes no score. These tests need a CUDA device."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from drivers.image_file import Image
from monitor.inference.anomaly_network import build_networks
from monitor.inference.backends import MAX_MAP_DIFFERENCE
from monitor.inference.cuda_transfer import CudaTransfer, choose_transfer
from monitor.inference.device_scoring import DeviceScoring, PlainTransfer
from monitor.inference.scorer import Scorer
from monitor.inference.torch_network import TorchNetwork
from monitor.model.recipe_json import Tiles
from tests.real.parts import part, random_recipe

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def mixed(count: int = 16) -> list[Image]:
    images = [part(seed, side=60 + 70 * (seed % 5), defect=seed % 3 == 0) for seed in range(count)]
    images[3] = images[3][:, :, 0]
    images[5] = images[5][::-1]
    return images


def apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


def device() -> torch.device:
    return torch.device("cuda:0")


def test_the_lane_is_cuda_s_and_nothing_had_to_be_done_the_plain_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert isinstance(choose_transfer(device()), CudaTransfer)
        scorer = Scorer(random_recipe(tmp_path / "r", "resnet18", size=256), device="cuda")
        scorer.warm_up()
        scorer.score(mixed())
    assert caplog.messages == []


@pytest.mark.parametrize("precision", ["f32", "f16"])
@pytest.mark.parametrize("tiles", [None, Tiles(rows=128, columns=128, overlap=32)])
def test_recorded_runs_of_mixed_frames_agree_with_the_plain_lane_and_the_cpu(
    tmp_path: Path, precision: str, tiles: Tiles | None
) -> None:
    recipe = random_recipe(tmp_path / "r", "resnet18", size=(256, 320), tiles=tiles)
    scorer = Scorer(recipe, device="cuda", precision=precision)
    scorer.warm_up()
    plain = DeviceScoring(
        TorchNetwork(build_networks(recipe), device(), half=precision == "f16"),
        recipe.grid,
        device(),
        PlainTransfer(device()),
        max_batch=16,
        agreement=MAX_MAP_DIFFERENCE[precision],
    )
    on_cpu = Scorer(recipe, device="cpu", runtime="torch").score(mixed())
    for _ in range(3):
        found = scorer.score(mixed())
        for result, (score, own), before in zip(found, plain.score(mixed()), on_cpu, strict=True):
            assert result.score == float(result.anomaly_map.max())
            assert result.score == pytest.approx(score, rel=MAX_MAP_DIFFERENCE[precision])
            assert apart(result.anomaly_map, own.cpu().numpy()) <= MAX_MAP_DIFFERENCE[precision]
            assert apart(result.anomaly_map, before.anomaly_map) <= 1e-2


def test_a_map_outlives_later_runs_and_its_memory_goes_with_it(tmp_path: Path) -> None:
    scorer = Scorer(random_recipe(tmp_path / "r", "resnet18", size=256), device="cuda")
    scorer.warm_up()
    parts = [part(seed) for seed in range(16)]
    scorer.score(parts)
    before = torch.cuda.memory_allocated()
    kept = scorer.score(parts)
    for _ in range(5):
        scorer.score(parts[::-1])
    assert all(result.score == float(result.anomaly_map.max()) for result in kept)
    del kept
    assert torch.cuda.memory_allocated() == before


def test_more_frames_than_fit_into_pinned_memory_at_once_are_not_mixed_up(tmp_path: Path) -> None:
    """Each buffer is used again while the network still reads the frame before."""
    scorer = Scorer(random_recipe(tmp_path / "r", "resnet18", size=256), device="cuda")
    scorer.warm_up()
    frames = [
        np.random.default_rng(seed).integers(0, 256, (1080, 1920, 3), dtype=np.uint8) // (1 + seed % 7)
        for seed in range(40)
    ]
    together = [result.score for result in scorer.score(frames)]
    alone = [scorer.score([frame])[0].score for frame in frames]
    assert together == pytest.approx(alone, rel=1e-2)


def test_a_recipe_is_recorded_while_another_one_scores(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lock = threading.Lock()
    scorer = Scorer(random_recipe(tmp_path / "one", "resnet18", size=256), device="cuda", network_lock=lock)
    scorer.warm_up()
    expected = [result.score for result in scorer.score(mixed())]
    other = random_recipe(tmp_path / "two", "resnet18", size=256, seed=5)
    loaded: list[Scorer] = []

    def load() -> None:
        loaded.append(Scorer(other, device="cuda", network_lock=lock))
        loaded[0].warm_up()

    thread = threading.Thread(target=load)
    with caplog.at_level(logging.WARNING):
        thread.start()
        turns = 0
        while thread.is_alive() or turns < 3:
            with lock:
                found = [result.score for result in scorer.score(mixed())]
            assert found == pytest.approx(expected, rel=1e-4)
            turns += 1
        thread.join()
    assert caplog.messages == []
    on_cpu = Scorer(other, device="cpu", runtime="torch").score(mixed())
    for result, before in zip(loaded[0].score(mixed()), on_cpu, strict=True):
        assert apart(result.anomaly_map, before.anomaly_map) <= 1e-2
