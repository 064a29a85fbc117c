"""`--help` is fast; wrong input gives one clear line and a non-zero exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from monitor.cli import main
from tests.real import parts_folder
from tests.real.bmp_bytes import wrap
from tests.real.mosquitto import Mosquitto
from tests.real.port import free_port

COMMANDS = (
    "demo",
    "check",
    "cameras",
    "collect",
    "train",
    "calibrate",
    "score",
    "evaluate",
    "teacher",
    "run",
)


Ended = subprocess.CompletedProcess[str]
Run = Callable[..., Ended]


def run_program(*arguments: str | Path) -> Ended:
    """What the program does as a process of its own."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "monitor.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process, which has loaded torch already; a new process loads it for seconds."""

    def run_here(*arguments: str | Path) -> Ended:
        code = exit_code(*map(str, arguments))
        out, err = capfd.readouterr()
        return Ended(arguments, code, out, err)

    return run_here


def assert_one_line(result: Ended, *words: str) -> None:
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]


@pytest.mark.timing
def test_help_does_not_wait_for_torch() -> None:
    times = []
    for _ in range(3):
        start = time.monotonic()
        result = run_program("--help")
        times.append(time.monotonic() - start)
        assert result.returncode == 0
        assert all(command in result.stdout for command in COMMANDS)
    assert min(times) < 0.5


def exit_code(*arguments: str) -> int:
    """The exit code of the program when it runs in this process."""
    try:
        return main([*arguments])
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(command, "--help") == 0
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("no-such-command",),
        ("train",),
        ("teacher",),
        ("teacher", "make", "-o", "x.safetensors", "--steps", "1", "--minutes", "1"),
        ("demo", "--seconds", "0"),
        ("train", "x", "--images", "y", "--seed", "-1"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    assert exit_code(*arguments) == 2


def test_a_wrong_key_is_named_with_its_path(tmp_path: Path, run: Run) -> None:
    config = tmp_path / "line.toml"
    config.write_text('[line]\nsite = "a"\n[mqtt]\npasword = "x"\n')
    for command in (("check",), ("run",)):
        result = run("--config", config, *command)
        assert result.returncode == 1
        said = result.stdout + result.stderr
        assert "mqtt.pasword: unknown key; did you mean 'password'?" in said
        assert "Traceback" not in said


def test_a_missing_or_broken_settings_file_is_one_line(tmp_path: Path, run: Run) -> None:
    assert_one_line(run("--config", tmp_path / "no.toml", "run"), "no.toml", "no such file")
    broken = tmp_path / "broken.toml"
    broken.write_text("[line\n")
    assert_one_line(run("--config", broken, "run"), "not valid TOML")
    assert_one_line(run("run", "--config", broken), "not valid TOML")


def test_a_line_without_cameras_has_nothing_to_run(tmp_path: Path, run: Run) -> None:
    config = tmp_path / "line.toml"
    config.write_text(f'[line]\ndata = "{tmp_path}/data"\n')
    assert_one_line(run("--config", config, "run"), "no [[camera]]")


@pytest.fixture
def data_config(tmp_path: Path, trained: Path) -> Path:
    config = tmp_path / "line.toml"
    config.write_text(f'[line]\ndata = "{trained.parent.parent}"\n')
    return config


def test_scores_are_json_lines_and_an_image_that_is_none_does_not_stop_the_rest(
    tmp_path: Path, data_config: Path
) -> None:
    parts_folder.write_parts(tmp_path / "parts", 4, bad_every=4)
    none = tmp_path / "parts" / "broken.png"
    none.write_bytes(b"not an image")
    images = [tmp_path / "parts/0000.png", none, tmp_path / "parts/0003.png"]
    result = run_program("--config", data_config, "score", "plate", *images, "--heatmaps", tmp_path / "maps")
    assert result.returncode == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line.get("verdict") for line in lines] == ["pass", None, "reject"]
    assert lines[0]["score"] <= lines[0]["threshold"]
    assert "error" in lines[1]
    assert lines[1]["image"] == str(none)
    assert len(list((tmp_path / "maps").iterdir())) == 2
    assert "Traceback" not in result.stderr


def test_a_missing_and_a_corrupt_recipe_are_one_line(tmp_path: Path, data_config: Path, run: Run) -> None:
    image = tmp_path / "part.png"
    cv2.imwrite(str(image), parts_folder.good(0))
    assert_one_line(run("--config", data_config, "score", "no-such", image), "no-such")
    data = tmp_path / "data"
    (data / "recipes/broken").mkdir(parents=True)
    (data / "recipes/broken/recipe.json").write_text('{"schema": 1')
    config = tmp_path / "other.toml"
    config.write_text(f'[line]\ndata = "{data}"\n')
    assert_one_line(run("--config", config, "score", "broken", image), "recipe.json")


def test_training_names_what_it_leaves_out_and_makes_a_recipe_that_scores(
    tmp_path: Path, run: Run, without_openvino: None
) -> None:
    good = tmp_path / "good"
    parts_folder.write_parts(good, 12, bad_every=0)
    (good / "readme.png").write_text("no image")
    config = tmp_path / "line.toml"
    config.write_text(f'[line]\ndata = "{tmp_path}/data"\n')
    arguments = ("--images", good, "--teacher", "resnet18-bundled", "--size", "64", "--epochs", "2")
    result = run("--config", config, "train", "plate", *arguments)
    assert result.returncode == 0, result.stderr
    assert "readme.png" in result.stderr
    assert (tmp_path / "data/recipes/plate/recipe.json").exists()
    parts_folder.write_parts(good, 15, bad_every=0)
    again = run("--config", config, "calibrate", "plate", "--images", good, "--overkill", "0.1")
    assert again.returncode == 0, again.stderr
    assert "left out: 12 images that the recipe was trained on" in again.stderr
    assert "3 calibration images" in again.stderr, "the memory has the other images' features"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert_one_line(run("--config", config, "train", "plate", "--images", empty), "empty")


def test_collect_saves_what_the_scorer_would_get(tmp_path: Path, run: Run) -> None:
    parts_folder.write_parts(tmp_path / "parts", 5, bad_every=0)
    config = tmp_path / "line.toml"
    config.write_text(
        f'[line]\ndata = "{tmp_path}/data"\n[[camera]]\nname = "top"\nrecipe = "plate"\n'
        f'source = "folder://{tmp_path}/parts?fps=50&loop=1"\nroi = [10, 20, 100, 80]\n'
    )
    result = run("--config", config, "collect", "top", "--count", "7", "--to", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    saved = sorted((tmp_path / "out").iterdir())
    assert len(saved) == 7
    assert f"reads {tmp_path}/parts (5 images)" in result.stdout
    assert np.array_equal(cv2.imread(str(saved[0])), parts_folder.good(0)[20:100, 10:110])
    assert_one_line(
        run("--config", config, "collect", "side", "--count", "1", "--to", tmp_path), "side", "top"
    )


def test_a_folder_of_damaged_files_is_one_line_with_the_reason(tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "lot#5"
    folder.mkdir()
    (tmp_path / "lot").mkdir()
    (folder / "0.bmp").write_bytes(wrap(b"", 131392, 131392, 24))
    os.mkfifo(folder / "1.png")
    config = tmp_path / "line.toml"
    config.write_text(
        f'[line]\ndata = "{tmp_path}/data"\n[[camera]]\nname = "top"\nrecipe = "plate"\n'
        f'source = "folder://{folder}?fps=50"\n'
    )
    collected = run("--config", config, "collect", "top", "--count", "1", "--to", tmp_path / "out")
    assert_one_line(collected, "0 of 1", "0.bmp is not a readable image", "131392x131392")
    checked = run("--config", config, "check")
    assert "FAIL  camera top: its frames are unusable: 0.bmp is not a readable image" in checked.stdout
    assert checked.stderr == ""
    for command in (["train", "plate"], ["calibrate", "plate"]):
        refused = run("--config", config, *command, "--images", folder)
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr


def test_check_says_what_is_wrong_with_the_fix_and_no_secret(
    tmp_path: Path, write_config: Callable[..., Path], broker: Mosquitto, run: Run, without_openvino: None
) -> None:
    parts_folder.write_parts(tmp_path / "parts", 5, bad_every=0)
    camera = (
        '[[camera]]\nname = "{}"\nrecipe = "{}"\n'
        f'source = "folder://{tmp_path}/parts?fps=50&loop=1"\ndeadline_ms = 500\n'
    )
    well = run("--config", write_config(camera.format("top", "plate"), 'password = "s3cret"'), "check")
    assert well.returncode == 0, well.stdout
    assert "FAIL" not in well.stdout
    assert "s3cret" not in well.stdout + well.stderr
    for item in ("settings", "device", "recipe plate", "camera top", "broker", "disk", "clock"):
        assert f" {item}: " in well.stdout

    gone = camera.format("side", "no-such").replace(f"{tmp_path}/parts", f"{tmp_path}/nowhere")
    rtsp = (
        '[[camera]]\nname = "dome"\nrecipe = "plate"\n'
        f'source = "rtsp://operator:s3cret@127.0.0.1:{free_port()}/live"\n'
    )
    config = write_config(camera.format("top", "plate") + gone + rtsp)
    broker.stop()
    ill = run("--config", config, "check")
    assert ill.returncode == 1
    failed = [line for line in ill.stdout.splitlines() if line.startswith("FAIL")]
    assert len(failed) == 4, ill.stdout
    for word in ("recipe no-such", "camera side", "camera dome", "broker"):
        assert any(word in line for line in failed)
    assert "s3cret" not in ill.stdout + ill.stderr
    assert "Traceback" not in ill.stderr
