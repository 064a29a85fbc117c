"""Commands on recipes: invalid names, the device, a lack of memory, and exchanged teachers."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from monitor.cli import main
from monitor.images.preprocessing import as_size
from monitor.inference.scorer import Scorer
from monitor.model.recipe_version import RecipeVersion
from monitor.training.automatic_size import AutomaticSize
from tests.real.parts import good_parts, random_recipe, teacher_file

pytestmark = pytest.mark.usefixtures("without_openvino")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The settings of a line with a recipe `disc`, images in `good/` and a teacher's weights on disk."""
    random_recipe(tmp_path / "data/recipes/disc")
    good_parts(tmp_path / "good", 4)
    teacher_file(tmp_path / "data/teachers")
    file = tmp_path / "line.toml"
    file.write_text('[line]\ndata = "data"\n')
    return file


def commands(config: Path, recipe: str) -> dict[str, list[str]]:
    """The arguments of each command that works on a recipe."""
    good = str(config.parent / "good")
    settings = ["--config", str(config)]
    train = ["--size", "64", "--teacher", "squeezenet1_1", "--compare", "student", "--no-int8"]
    return {
        "train": [*settings, "train", recipe, "--images", good, *train],
        "calibrate": [*settings, "calibrate", recipe, "--images", good],
        "score": [*settings, "score", recipe, f"{good}/000.png"],
        "evaluate": [*settings, "evaluate", recipe, "--dataset", str(config.parent / "set")],
    }


def data_set(config: Path) -> None:
    shutil.copytree(config.parent / "good", config.parent / "set/test/good")
    shutil.copytree(config.parent / "good", config.parent / "set/test/bad")


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr that explains the failure."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("line-monitor: ")]
    assert len(lines) == 1, lines
    return lines[0]


def test_a_size_is_width_by_height_and_an_overlap_needs_tiles(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = commands(config, "wide")["train"] + ["--epochs", "1", "--size", "96x64"]
    assert main([*train, "--overlap", "16"]) == 2
    assert "give --tile too" in one_line(capsys)
    assert main([*train, "--tile", "64", "--overlap", "16"]) == 0
    made = RecipeVersion.load(config.parent / "data/recipes/wide")
    assert made.size == (64, 96)
    assert made.document.tiles is not None
    assert (made.document.tiles.rows, made.document.tiles.overlap) == (64, 16)
    with pytest.raises(SystemExit, match="2"):
        main([*train, "--size", "large"])
    assert "use 256 or 1024x512 (width x height)" in capsys.readouterr().err


def test_without_a_size_it_is_found_from_the_images_within_the_shortest_deadline(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[Any] = []

    def remember(request: Any, **_: Any) -> Any:
        requests.append(request)
        return RecipeVersion.load(config.parent / "data/recipes/disc")

    monkeypatch.setattr("monitor.training.train_recipe.train_recipe", remember)
    camera = '[[camera]]\nname = "{0}"\nsource = "simulated://disc"\nrecipe = "{1}"\ndeadline_ms = {2}\n'
    settings = config.read_text()
    train = ["--config", str(config), "train", "disc", "--images", str(config.parent / "good")]
    assert main([*train]) == 0
    config.write_text(
        settings
        + camera.format("top", "disc", 300)
        + camera.format("side", "disc", 200)
        + camera.format("back", "other", 20)
    )
    assert main([*train, "--size", "auto", "--smallest-defect", "12"]) == 0
    assert main([*train, "--as-paper"]) == 0
    assert main([*train, "--size", "96x64"]) == 0
    assert [request.automatic_size for request in requests] == [
        AutomaticSize(None, None),
        AutomaticSize(12, 200),
        None,
        None,
    ]
    assert [as_size(request.size) for request in requests[2:]] == [(256, 256), (64, 96)]
    for other in (["--size", "64"], ["--as-paper"]):
        assert main([*train, "--smallest-defect", "12", *other]) == 2
        assert "--smallest-defect chooses the size" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "name"),
    [("train", "../recipes/disc"), ("calibrate", "Disc"), ("score", "/etc"), ("evaluate", ".")],
)
def test_a_recipe_s_name_leads_nowhere_else(
    config: Path, command: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(commands(config, name)[command]) == 1
    assert f"{name!r} can't be a recipe's name" in one_line(capsys)


@pytest.mark.parametrize("command", ["train", "calibrate", "score", "evaluate"])
def test_the_settings_device_is_used(config: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    data_set(config)
    config.write_text(config.read_text() + '[scoring]\ndevice = "cuda:77"\n')
    assert main(commands(config, "disc")[command]) == 1
    assert "device 'cuda:77'" in one_line(capsys)


def refusing(error: Exception) -> Any:
    """A function that raises `error`."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise error

    return refuse


def cpu_error() -> RuntimeError:
    """Torch's own error when the main memory is too small, from an attempt to allocate a petabyte."""
    with pytest.raises(RuntimeError) as refusal:
        torch.empty(1 << 50, dtype=torch.uint8)
    return refusal.value


# A test machine may have no GPU, so CUDA's error is written here and raised in its usual place.
CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


@pytest.mark.parametrize(
    ("error", "fixes"),
    [
        (CUDA, ("GPU is out of memory", "smaller --size", "--device cpu")),
        (MemoryError(), ("out of memory", "smaller --size")),
        (cpu_error(), ("out of memory", "smaller --size")),
    ],
)
def test_memory_that_runs_out_in_training_is_one_line_and_leaves_the_old_recipe(
    config: Path,
    error: Exception,
    fixes: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("monitor.training.train_recipe.fit", refusing(error))
    recipe = config.parent / "data/recipes/disc"
    before = {file: file.read_bytes() for file in recipe.rglob("*") if file.is_file()}
    assert main(commands(config, "disc")["train"]) == 1
    message = one_line(capsys)
    assert all(fix in message for fix in fixes)
    assert {file: file.read_bytes() for file in recipe.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("command", ["calibrate", "score", "evaluate"])
def test_memory_that_runs_out_in_scoring_is_one_line(
    config: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data_set(config)
    for error, fix in ((CUDA, 'device = "cpu" under [scoring]'), (MemoryError(), "out of memory: end")):
        monkeypatch.setattr(Scorer, "score", refusing(error))
        assert main(commands(config, "disc")[command]) == 1
        assert fix in one_line(capsys)


def test_other_errors_are_not_taken_for_memory(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scorer, "score", refusing(RuntimeError("a defect of the program")))
    with pytest.raises(RuntimeError, match="a defect of the program"):
        main(commands(config, "disc")["score"])


def test_training_anew_may_change_the_teacher_but_exchanging_its_file_is_refused(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line's device is stronger than that of the settings."""
    folder = config.parent / "data/recipes/disc"
    old = RecipeVersion.load(folder).document.teacher
    settings = config.read_text()
    config.write_text(settings + '[scoring]\ndevice = "cuda:77"\n')
    assert main([*commands(config, "disc")["train"], "--device", "cpu", "--epochs", "1"]) == 0
    config.write_text(settings)
    new = RecipeVersion.load(folder).document.teacher
    assert new.sha256 != old.sha256
    other = random_recipe(config.parent / "other", seed=9)
    shutil.copy(other.folder / other.document.teacher.weights.file, folder / new.weights.file)
    capsys.readouterr()
    for command in ("score", "calibrate"):
        assert main(commands(config, "disc")[command]) == 1
        assert new.weights.file in one_line(capsys)


def test_a_terminal_that_lacks_a_letter_still_gets_its_table(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_set(config)
    (config.parent / "set/test/bad").rename(config.parent / "set/test/Prüfling")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    assert main(commands(config, "disc")["evaluate"]) == 0
    assert b"Pr\\xfcfling" in written.getvalue()


def test_figures_that_can_not_be_written_are_refused_before_anything_is_scored(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data_set(config)
    evaluate = [*commands(config, "disc")["evaluate"], "--json"]
    for nowhere in (config.parent / "missing/figures.json", config.parent / "good"):
        for command in (evaluate, ["bench", "--json"]):
            assert main([*command, str(nowhere)]) == 1
            output = capsys.readouterr()
            assert output.out == ""
            assert len(output.err.splitlines()) == 1
            assert str(nowhere) in output.err


def test_figures_are_written_whole(config: Path) -> None:
    data_set(config)
    file = config.parent / "figures.json"
    file.write_text("the last ones")
    with file.open() as before:
        assert main([*commands(config, "disc")["evaluate"], "--json", str(file)]) == 0
        assert before.read() == "the last ones", "a reader never gets half of the new figures"
    assert json.loads(file.read_text())["images"] == 8
    assert not list(config.parent.glob(".writing-*"))
