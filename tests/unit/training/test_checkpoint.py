"""A training that is interrupted anywhere ends with the same student as one that is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from drivers.image_file import Image
from monitor.images.preprocessing import resize_image
from monitor.model.recipe_version import RecipeVersion
from monitor.system.progress import SILENT
from monitor.teachers.architectures import build_trunk, fill
from monitor.training.checkpoint import Checkpoint, Position
from monitor.training.compare import Compare
from monitor.training.loop import FitSettings, TrainedStudent, fit
from monitor.training.student_precision import StudentPrecision
from tests.real.parts import good_parts, part, random_weights, save, teacher_file
from tests.real.small_training import train

pytestmark = pytest.mark.usefixtures("two_threads")
PICTURES = [resize_image(part(number), (32, 32)) for number in range(12)]
DRAWING = 16
"""How many times pictures are read to draw the defects."""
POSITION = Position(
    epoch=3,
    steps=1,
    total=0.1,
    losses=(0.5, 0.3),
    select_maps=(0.02, 0.01),
    told_apart=(0.9, 0.8),
    random_state="{}",
)
ARRAYS = {"student/a": np.arange(6, dtype=np.float32).reshape(2, 3)}


class PowerCut(Exception):
    """Ends a run in the middle."""


class Clock:
    """A clock that advances by `step_s` at every reading."""

    def __init__(self, step_s: float) -> None:
        self.now = 0.0
        self.step_s = step_s

    def __call__(self) -> float:
        self.now += self.step_s
        return self.now


class CutPictures:
    """Pictures that end the run after `reads` readings, each of which takes five seconds."""

    def __init__(self, reads: int, clock: Clock) -> None:
        self.left = reads
        self._clock = clock

    def __getitem__(self, index: int, /) -> Image:
        self._clock.now += 5.0
        self.left -= 1
        if self.left < 0:
            raise PowerCut
        return PICTURES[index]


def checkpoint(folder: Path, lines: list[str], clock: Clock | None = None, **run: str) -> Checkpoint:
    return Checkpoint(folder, {"images": "these", **run}, say=lines.append, clock=clock or Clock(0.0))


def learn(
    architecture: str,
    pictures: CutPictures,
    kept: Checkpoint | None,
    precision: StudentPrecision = StudentPrecision.F32,
) -> TrainedStudent:
    teacher = build_trunk(architecture)
    arrays = random_weights(architecture, seed=7)
    fill(teacher, {name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    teacher.eval().requires_grad_(False)
    return fit(
        teacher,
        pictures,
        range(9),
        range(9, 12),
        FitSettings(
            architecture=architecture,
            epochs=4,
            seed=1,
            device=torch.device("cpu"),
            batch=4,
            precision=precision,
        ),
        progress=SILENT,
        checkpoint=kept,
    )


def same(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("architecture", "feature_bytes"),
    [("squeezenet1_1", 2 << 30), ("squeezenet1_1", 0), ("resnet18", 200_000)],
    ids=["all features kept", "none", "some"],
)
def test_an_interrupted_run_ends_with_the_same_student(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, feature_bytes: int
) -> None:
    monkeypatch.setattr("monitor.training.loop._FEATURE_BYTES", feature_bytes)
    whole = learn(architecture, CutPictures(10**9, Clock(0.0)), None)
    states, lines = [], []
    for reads in (20, 20, 14):
        clock = Clock(0.0)
        with pytest.raises(PowerCut):
            learn(architecture, CutPictures(DRAWING + reads, clock), checkpoint(tmp_path, lines, clock))
        states.append(json.loads((tmp_path / "run.json").read_text())["place"])
    assert len({json.dumps(state) for state in states}) > 1, "a later run came further"
    clock = Clock(0.0)
    resumed = learn(architecture, CutPictures(10**9, clock), checkpoint(tmp_path, lines, clock))
    assert [line.startswith("resumed at epoch ") for line in lines] == [True] * 3
    assert (resumed.losses, resumed.select_maps) == (whole.losses, whole.select_maps)
    assert resumed.told_apart == whole.told_apart
    assert resumed.best_epoch == whole.best_epoch
    assert same(resumed.student, whole.student)


def test_training_again_in_one_process_gives_the_same_student() -> None:
    """Arrays that stay in memory change where the next training's arrays lie.

    Without MKL_CBWR the order of a sum depends on that place, and the student differs.
    """
    first = learn("squeezenet1_1", CutPictures(10**9, Clock(0.0)), None)
    held = []
    for size in (777, 65_537, 1_000_003):
        held.append((np.ones(size, np.uint8), torch.ones(size)))
        again = learn("squeezenet1_1", CutPictures(10**9, Clock(0.0)), None)
        assert again.losses == first.losses
        assert same(again.student, first.student)
    assert all(array.all() and tensor.all() for array, tensor in held), (
        "the arrays stay in memory during the trainings"
    )


def test_a_long_epoch_is_resumed_within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.training.loop._FEATURE_BYTES", 0)
    clock = Clock(0.0)
    with pytest.raises(PowerCut):
        learn("squeezenet1_1", CutPictures(DRAWING + 11, clock), checkpoint(tmp_path, [], clock))
    place = json.loads((tmp_path / "run.json").read_text())["place"]
    assert (place["epoch"], place["steps"]) == (1, 1)
    resumed = learn("squeezenet1_1", CutPictures(10**9, Clock(0.0)), checkpoint(tmp_path, []))
    assert same(resumed.student, learn("squeezenet1_1", CutPictures(10**9, Clock(0.0)), None).student)


def test_a_run_in_bfloat16_that_was_interrupted_ends_with_the_same_student(tmp_path: Path) -> None:
    whole = learn("resnet18", CutPictures(10**9, Clock(0.0)), None, StudentPrecision.BF16)
    lines: list[str] = []
    clock = Clock(0.0)
    kept = checkpoint(tmp_path, lines, clock)
    with pytest.raises(PowerCut):
        learn("resnet18", CutPictures(DRAWING + 40, clock), kept, StudentPrecision.BF16)
    kept = checkpoint(tmp_path, lines)
    resumed = learn("resnet18", CutPictures(10**9, Clock(0.0)), kept, StudentPrecision.BF16)
    assert len(lines) == 1
    assert lines[0].startswith("resumed at epoch ")
    assert resumed.losses == whole.losses
    assert same(resumed.student, whole.student)


def test_a_checkpoint_from_before_the_learning_rate_fell_is_not_used(tmp_path: Path) -> None:
    """The description of a run had no learning rate and no precision then."""
    lines: list[str] = []
    checkpoint(tmp_path, lines, seed="1").save(POSITION, ARRAYS)
    now = {"seed": "1", "learning rate": "rises and falls", "precision": "f32"}
    assert checkpoint(tmp_path, lines, **now).load() is None
    assert lines == [
        f"{tmp_path}: the interrupted training there had other learning rate, precision: starting anew"
    ]


def test_what_was_saved_comes_back_and_goes_when_the_run_is_over(tmp_path: Path) -> None:
    lines: list[str] = []
    kept = checkpoint(tmp_path / "run", lines)
    kept.save(
        Position(epoch=1, steps=0, total=0, losses=(), select_maps=(), told_apart=(), random_state="{}"), {}
    )
    (tmp_path / "run/.writing-crashed").touch()
    kept.save(POSITION, ARRAYS)
    assert len(list((tmp_path / "run").iterdir())) == 2, "older states and incomplete files are removed"
    found = checkpoint(tmp_path / "run", lines).load()
    assert found is not None
    assert found[0] == POSITION
    assert same(found[1], ARRAYS)
    assert lines == ["resumed at epoch 3"]
    kept.remove()
    assert not list(tmp_path.iterdir())
    assert checkpoint(tmp_path / "run", lines).load() is None
    assert len(lines) == 1, "no line where nothing was interrupted"


def test_another_run_s_state_is_not_used(tmp_path: Path) -> None:
    lines: list[str] = []
    checkpoint(tmp_path, lines, seed="1", size="64").save(POSITION, ARRAYS)
    assert checkpoint(tmp_path, lines, seed="2", size="64").load() is None
    assert len(lines) == 1
    assert lines[0].endswith("had other seed: starting anew")


@pytest.mark.parametrize(
    ("name", "content"),
    [("run.json", b"{}"), ("run.json", b""), ("run.json", b"\xff\xfe"), ("state", b"short")],
)
def test_a_damaged_state_starts_anew_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    lines: list[str] = []
    checkpoint(tmp_path, lines).save(POSITION, ARRAYS)
    next(file for file in tmp_path.iterdir() if file.name.startswith(name)).write_bytes(content)
    assert checkpoint(tmp_path, lines).load() is None
    assert len(lines) == 1
    assert "damaged" in lines[0]
    assert "\n" not in lines[0]


def test_a_missing_half_starts_anew(tmp_path: Path) -> None:
    lines: list[str] = []
    checkpoint(tmp_path, lines).save(POSITION, ARRAYS)
    next(tmp_path.glob("state-*")).unlink()
    assert checkpoint(tmp_path, lines).load() is None
    assert len(lines) == 1


def test_a_disk_that_refuses_costs_one_line(tmp_path: Path) -> None:
    (tmp_path / "full").write_text("a file where a folder should be")
    lines: list[str] = []
    kept = checkpoint(tmp_path / "full/run", lines)
    kept.save(POSITION, ARRAYS)
    kept.save(POSITION, ARRAYS)
    kept.remove()
    assert len(lines) == 1
    assert lines[0].startswith("warning: ")


def test_it_is_saved_after_epochs_and_in_long_ones_but_a_slow_disk_less_often(tmp_path: Path) -> None:
    clock = Clock(0.0)
    kept = checkpoint(tmp_path, [], clock)
    assert kept.due(epoch_ended=True)
    assert not kept.due(epoch_ended=False)
    clock.now += 30
    assert kept.due(epoch_ended=False)
    clock.step_s = 1.0  # Saving takes a second.
    kept.save(POSITION, ARRAYS)
    clock.step_s = 0.0
    clock.now += 45
    assert not kept.due(epoch_ended=True)
    clock.now += 10
    assert kept.due(epoch_ended=True)


def test_training_goes_on_after_kill_9(tmp_path: Path) -> None:
    """The command, killed in the middle and started again, makes the same recipe as without the kill.

    The test starts the command without MKL_CBWR, because the command sets it.
    """
    folder = good_parts(tmp_path / "good", 8)
    weights = teacher_file(tmp_path / "teachers")
    config = tmp_path / "line.toml"
    config.write_text(f'[line]\ndata = "{tmp_path}/data"\n')
    command = [sys.executable, "-P", "-m", "monitor.cli", "--config", str(config), "train", "disc"]
    command += ["--images", str(folder), "--teacher", "squeezenet1_1", "--teacher-weights", str(weights)]
    command += ["--size", "32", "--epochs", "60", "--device", "cpu", "--no-int8"]
    environment = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment)
    state = tmp_path / "data/recipes/.training-disc/run.json"
    limit = time.monotonic() + 60
    while not state.exists():
        assert process.poll() is None, "the training ended before it was killed"
        assert time.monotonic() < limit
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100, env=environment)
    assert again.returncode == 0, again.stderr
    assert sum(line.startswith("resumed at epoch ") for line in again.stderr.splitlines()) == 1
    assert not state.parent.exists()
    resumed = RecipeVersion.load(tmp_path / "data/recipes/disc").document
    whole = train(
        tmp_path,
        folder,
        openvino=True,
        size=32,
        epochs=60,
        compare=Compare.BOTH,
        teacher_weights=weights,
    ).document
    assert resumed.student == whole.student
    assert resumed.calibration == whole.calibration


def test_other_images_start_anew(tmp_path: Path) -> None:
    lines: list[str] = []
    folder = good_parts(tmp_path / "good", 5)

    class Stops:
        """Ends the run at the calibration."""

        def update(self, task: str, done: float, total: int, note: str = "") -> None:
            if task.startswith("calibrate"):
                raise PowerCut

        def make_room(self) -> None:
            """No bar is drawn."""

    with pytest.raises(PowerCut):
        train(tmp_path, folder, progress=Stops(), say=lines.append)
    save(folder / "new.png", part(77))
    train(tmp_path, folder, say=lines.append)
    assert sum(line.endswith("had other images, split: starting anew") for line in lines) == 1
    assert not (tmp_path / "recipes/.training-disc").exists()
