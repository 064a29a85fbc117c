"""Teachers are listed without a network and copied as one file; an interrupted making keeps its last save."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from monitor.cli import main
from monitor.model.weights import fingerprint
from monitor.teachers import catalogue, weight_files
from monitor.teachers.architectures import (
    LEVELS,
    TeacherError,
    find_teacher,
    load_trunk,
    teacher_names,
    trunk_weights,
)
from monitor.teachers.distillation import DistillationResult, DistillationSettings, make_teacher
from tests.real.parts import random_weights, teacher_file
from tests.unit.teachers.published_lite import published_weights


@pytest.fixture(autouse=True)
def _nothing_but_this_test_s_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("LINE_MONITOR_CONFIG", raising=False)
    monkeypatch.setattr("monitor.settings.loader.DEFAULT_FILES", (tmp_path / "line.toml",))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder of a line with a settings file."""
    (tmp_path / "line.toml").write_text(f'[line]\ndata = "{tmp_path}/data"\n')
    return tmp_path / "data"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keeps the server's lines out of the tests' output."""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with SqueezeNet's weights; a local server offers it in place of torchvision's server."""
    folder = tmp_path / "served"
    folder.mkdir()
    weights = random_weights("squeezenet1_1", seed=3)
    whole = {name: torch.from_numpy(array.copy()) for name, array in weights.items()}
    torch.save({**whole, "classifier.1.bias": torch.zeros(1000)}, folder / "new.pth")
    digits = hashlib.sha256((folder / "new.pth").read_bytes()).hexdigest()[:8]
    file = (folder / "new.pth").rename(folder / f"squeezenet1_1-{digits}.pth")
    handler = functools.partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/{file.name}"
        monkeypatch.setattr(weight_files, "_address", lambda architecture: address)
        yield folder
        server.shutdown()
        thread.join()


def one_line(text: str) -> str:
    assert len(text.splitlines()) == 1, text
    return text


def test_the_list_needs_no_settings_and_no_network(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    requests: list[object] = []
    monkeypatch.setattr("urllib.request.urlopen", lambda *given, **_: requests.append(given))
    assert main(["teacher", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == teacher_names()
    assert "line-monitor teacher fetch resnet50" in next(line for line in lines if "resnet50 " in line)
    *_, carried, own = lines
    assert "carried" in carried
    assert "licence is in" in carried
    assert "2.8 M" in carried
    assert "every memory also has efficientnet-lite0-bundled" in own
    assert not requests


def test_the_list_message_where_weights_are_and_which_are_unusable(
    tmp_path: Path, data: Path, served: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = teacher_file(data / "teachers", "mobilenet_v3_large")
    (data / "teachers/resnet18.pth").write_text("no weights")
    cache = tmp_path / "torch/hub/checkpoints"
    cache.mkdir(parents=True)
    cached = next(served.iterdir()).rename(cache / next(served.iterdir()).name)
    assert main(["teacher", "list"]) == 0
    output = {line.split()[0]: " ".join(line.split()) for line in capsys.readouterr().out.splitlines()}
    assert f"data folder {fingerprint(random_weights('mobilenet_v3_large', 7))[:16]}" in output[here.stem]
    assert str(here) in output[here.stem]
    assert f"torch's cache {fingerprint(random_weights('squeezenet1_1', 3))[:16]}" in output["squeezenet1_1"]
    assert str(cached) in output["squeezenet1_1"]
    assert "unusable: " in output["resnet18"]
    assert "resnet18.pth" in output["resnet18"]


def test_settings_that_are_named_must_be_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["teacher", "list", "--config", str(tmp_path / "no.toml")]) == 1
    assert "no.toml: no such file" in one_line(capsys.readouterr().err)


def test_what_is_fetched_is_what_training_finds(
    data: Path, served: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["teacher", "fetch", "squeezenet1_1"]) == 0
    file = data / "teachers/squeezenet1_1.safetensors"
    sha256 = fingerprint(random_weights("squeezenet1_1", 3))
    output = capsys.readouterr().out
    assert f"{file}: squeezenet1_1, sha256 {sha256}" in output
    assert "--teacher-weights" in output
    next(served.iterdir()).unlink()  # From here on there is nothing to download.
    found = find_teacher("squeezenet1_1", weights=None, folder=data / "teachers", say=print)
    assert (found.sha256, found.origin) == (sha256, file.name)
    assert main(["teacher", "fetch", "squeezenet1_1"]) == 0, "it is there already"
    usb = data.parent / "usb"
    usb.mkdir()
    assert main(["teacher", "fetch", "squeezenet1_1", "-o", str(usb)]) == 0
    assert find_teacher("squeezenet1_1", weights=usb / file.name, folder=usb, say=print).sha256 == sha256
    assert len(list(usb.iterdir())) == len(list(file.parent.iterdir())) == 1


def test_without_a_network_fetching_is_one_line_and_leaves_nothing(
    data: Path, served: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    next(served.iterdir()).unlink()
    assert main(["teacher", "fetch", "squeezenet1_1"]) == 1
    output = one_line(capsys.readouterr().err)
    assert "can't be downloaded" in output
    assert "where there is a network" in output
    assert not data.exists()
    assert main(["teacher", "fetch", "vgg"]) == 1
    assert "no teacher is called 'vgg'" in one_line(capsys.readouterr().err)


def test_the_carried_teacher_can_be_fetched_too_and_no_file_is_replaced_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["teacher", "fetch", "resnet18-bundled"]) == 1
    assert "-o FILE" in one_line(capsys.readouterr().err), "without settings there is no data folder"
    file = tmp_path / "deep/carried.safetensors"
    command = ["teacher", "fetch", "resnet18-bundled", "-o", str(file)]
    assert main(command) == 0
    carried = find_teacher("resnet18-bundled", weights=None, folder=tmp_path, say=print)
    assert find_teacher("resnet18", weights=file, folder=tmp_path, say=print).sha256 == carried.sha256
    file.write_text("something precious")
    capsys.readouterr()
    assert main(command) == 1
    assert "--force" in one_line(capsys.readouterr().err)
    assert file.read_text() == "something precious"
    assert main([*command, "--force"]) == 0
    load_trunk("resnet18", file)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Distillation with images that are small enough for a test."""

    def make(settings: DistillationSettings, **more: Any) -> DistillationResult:
        return make_teacher(dataclasses.replace(settings, side=32, batch=4, canvases=2), **more)

    monkeypatch.setattr(catalogue, "make_teacher", make)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("student", ["resnet18", "resnet34"])
def test_a_teacher_that_was_made_can_teach(
    data: Path, student: str, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher_file(data / "teachers")
    out = data.parent / "made.safetensors"
    assert main(["teacher", "make", "-o", str(out), "--steps", "2", "--student", student]) == 0
    found = find_teacher(student, weights=out, folder=data, say=print)
    output = capsys.readouterr().err
    assert found.sha256 in output
    assert f"--teacher {student} --teacher-weights {out}" in output


class _Interrupting:
    """A progress display that raises KeyboardInterrupt at a step, as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        self._left = step

    def update(self, task: str, done: float, total: int, note: str = "") -> None:
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("step", "message"), [(1, "nothing was saved yet"), (4, "until the last save .*3 steps")]
)
def test_ctrl_c_leaves_the_last_saved_state_and_says_so(tmp_path: Path, step: int, message: str) -> None:
    out = tmp_path / "out" / "made.safetensors"
    with pytest.raises(TeacherError, match=f"^interrupted; .*{message}"):
        catalogue.make_teacher_file(
            DistillationSettings(steps=100, save_every_s=0.0),
            source_weights=teacher_file(tmp_path),
            out=out,
            force=False,
            folder=None,
            say=print,
            progress=_Interrupting(step),
        )
    assert [file.name for file in out.parent.iterdir()] == ([] if step == 1 else [out.name])
    if step > 1:
        assert fingerprint(trunk_weights(load_trunk("resnet18", out)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--source", "resnet18-bundled"), f"there are: {', '.join(LEVELS)}"),
        (("--source-weights", "no.pth"), "no.pth does not hold the weights of squeezenet1_1"),
        (("-o", "out.pth"), "must end in .safetensors"),
        (("-o", "/proc/no/out.safetensors"), "can't write to /proc/no"),
        (("-o", "taken.safetensors"), "is there already"),
    ],
)
def test_what_can_not_be_made_is_told_before_the_work(
    tmp_path: Path,
    data: Path,
    arguments: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    teacher_file(data / "teachers")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.safetensors").write_text("something precious")
    assert main(["teacher", "make", "-o", "out.safetensors", *arguments]) == 1
    assert message in one_line(capsys.readouterr().err)
    assert (tmp_path / "taken.safetensors").read_text() == "something precious"


def test_the_memory_s_teacher_is_converted_from_its_published_weights_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published, file = tmp_path / "published.pth", tmp_path / "made.safetensors"
    torch.save(published_weights(), published)
    command = ["teacher", "convert", "--weights", str(published), "-o", str(file)]
    assert main(command) == 0
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    output = one_line(capsys.readouterr().out)
    assert f"sha256 of the file {sha256}, other bytes than the carried file" in output
    assert main(command) == 1
    assert "--force to replace it" in one_line(capsys.readouterr().err)
    assert main([*command, "--weights", str(tmp_path / "no.pth"), "--force"]) == 1
    assert "no.pth: there is no such file" in one_line(capsys.readouterr().err)
    assert hashlib.sha256(file.read_bytes()).hexdigest() == sha256, "nothing was lost"
