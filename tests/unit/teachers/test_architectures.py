"""Teachers are found where they lie, are the same from any kind of file, and are refused in one line."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from monitor.teachers import architectures
from monitor.teachers.architectures import LEVELS, TeacherError, build_trunk, find_teacher, teacher_names


def weights_of(architecture: str, seed: int = 0) -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return dict(build_trunk(architecture).state_dict())


def no_network(url: str, file: Path) -> None:
    raise TeacherError(f"{url} can't be downloaded (no network)")


@pytest.fixture(autouse=True)
def _empty_download_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.mark.parametrize("architecture", LEVELS)
def test_every_architecture_gives_three_levels(architecture: str) -> None:
    trunk = build_trunk(architecture).eval()
    with torch.no_grad():
        levels = trunk(torch.zeros(1, 3, 128, 128))
    assert isinstance(levels, list)
    for level, stride in zip(levels, (4, 8, 16), strict=True):
        assert level.shape[2] == level.shape[3]
        assert abs(level.shape[2] - 128 / stride) <= 1
    assert not [name for name in trunk.state_dict() if name.startswith(("fc", "classifier", "layer4"))]


def test_the_same_weights_have_the_same_fingerprint_in_any_file(tmp_path: Path) -> None:
    trunk = weights_of("resnet18")
    whole = {**trunk, "layer4.0.conv1.weight": torch.zeros(3), "fc.bias": torch.zeros(1000)}
    half = {name: value.half() for name, value in trunk.items()}
    safetensors.torch.save_file(trunk, tmp_path / "trunk.safetensors")
    torch.save(whole, tmp_path / "whole.pth")
    torch.save({"state_dict": {f"module.{n}": v for n, v in whole.items()}}, tmp_path / "parallel.pth")
    safetensors.torch.save_file(half, tmp_path / "half.safetensors")
    torch.save({n: v.half().float() for n, v in trunk.items()}, tmp_path / "widened.pth")
    found = {
        file.name: find_teacher("resnet18", weights=file, folder=tmp_path, say=print).sha256
        for file in tmp_path.iterdir()
        if file.is_file()
    }
    assert found["trunk.safetensors"] == found["whole.pth"] == found["parallel.pth"]
    assert found["half.safetensors"] == found["widened.pth"] != found["whole.pth"]


def test_a_teacher_is_frozen_and_whole_precision(tmp_path: Path) -> None:
    torch.save({n: v.half() for n, v in weights_of("resnet18").items()}, tmp_path / "resnet18.pth")
    found = find_teacher("resnet18", weights=None, folder=tmp_path, say=print, download=no_network)
    assert not found.trunk.training
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in found.trunk.parameters())


def test_without_weights_or_network_the_carried_teacher_steps_in_and_says_so(tmp_path: Path) -> None:
    carried = tmp_path / "carried.safetensors"
    safetensors.torch.save_file({n: v.half() for n, v in weights_of("resnet18").items()}, carried)
    lines: list[str] = []
    found = find_teacher(
        None, weights=None, folder=tmp_path / "no", say=lines.append, bundled=carried, download=no_network
    )
    assert found.name == "resnet18-bundled"
    assert found.architecture == "resnet18"
    assert sum("resnet18-bundled" in line for line in lines) == 1
    assert "no network" in lines[-1]


def test_a_teacher_asked_for_by_name_is_never_replaced(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"resnet34 has no weights.*--teacher-weights") as refusal:
        find_teacher("resnet34", weights=None, folder=tmp_path, say=print, download=no_network)
    assert "\n" not in str(refusal.value)


def test_a_download_that_is_damaged_is_not_kept(tmp_path: Path) -> None:
    def damaged(url: str, file: Path) -> None:
        file.parent.mkdir(parents=True)
        file.write_bytes(b"a proxy's page")

    with pytest.raises(TeacherError, match="is damaged or another file"):
        find_teacher("resnet18", weights=None, folder=tmp_path, say=print, download=damaged)
    cache = tmp_path / "torch/hub/checkpoints"
    assert not list(cache.iterdir())
    (cache / "resnet18-f37072fd.pth").write_bytes(b"half a file")
    with pytest.raises(TeacherError, match="is damaged: delete it"):
        find_teacher("resnet18", weights=None, folder=tmp_path, say=print, download=no_network)


class Bomb:
    """A pickle that runs code when it is loaded, here one that makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


def test_files_that_hold_no_weights_are_refused_in_one_line(tmp_path: Path) -> None:
    torch.save(weights_of("squeezenet1_1"), tmp_path / "other.pth")
    torch.save([1, 2, 3], tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "bomb.pth").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    torch.save({"a": Bomb(tmp_path / "exploded")}, tmp_path / "zipped-bomb.pth")
    torch.save({**weights_of("resnet18"), "bn1.bias": torch.full((64,), torch.nan)}, tmp_path / "nan.pth")
    for file in [*tmp_path.iterdir(), tmp_path / "missing.pth"]:
        with pytest.raises(TeacherError, match=file.name) as refusal:
            find_teacher("resnet18", weights=file, folder=tmp_path, say=print)
        assert "\n" not in str(refusal.value)
        assert "weights_only" not in str(refusal.value), "torch advises to run the code in the file"
    assert not (tmp_path / "exploded").exists()


def refusal_of(file: Path) -> str:
    try:
        architectures.read_tensors(file)
    except TeacherError as refusal:
        return str(refusal)
    return ""


def test_damage_anywhere_in_a_file_is_one_line(tmp_path: Path) -> None:
    tensors = {name: tensor.flatten()[:1] for name, tensor in weights_of("squeezenet1_1").items()}
    rng = np.random.default_rng(0)
    refusals: list[str] = []
    for zipped in (True, False):
        file = tmp_path / "w.pth"
        torch.save(tensors, file, _use_new_zipfile_serialization=zipped)
        whole = file.read_bytes()
        for _ in range(200):
            damaged = bytearray(whole)
            for place in rng.integers(0, 4000, 3):
                damaged[place] = rng.integers(256)
            file.write_bytes(damaged)
            refusals.append(refusal_of(file))
    assert all("\n" not in line for line in refusals)
    assert sum(line != "" for line in refusals) > 100


def test_weights_of_another_architecture_need_their_name(tmp_path: Path) -> None:
    torch.save(weights_of("squeezenet1_1"), tmp_path / "w.pth")
    with pytest.raises(TeacherError, match="name their architecture with --teacher"):
        find_teacher(None, weights=tmp_path / "w.pth", folder=tmp_path, say=print)
    assert (
        find_teacher("squeezenet1_1", weights=tmp_path / "w.pth", folder=tmp_path, say=print).origin
        == "w.pth"
    )


def test_a_deeper_network_does_not_pass_for_a_shallow_one(tmp_path: Path) -> None:
    torch.save(weights_of("resnet34"), tmp_path / "w.pth")
    with pytest.raises(TeacherError, match=r"it has layer1\.2\.\S+, which is another network's"):
        find_teacher("resnet18", weights=tmp_path / "w.pth", folder=tmp_path, say=print)
    with_own_head = {**weights_of("resnet18"), "head.0.weight": torch.zeros(2)}
    torch.save(with_own_head, tmp_path / "h.pth")
    find_teacher("resnet18", weights=tmp_path / "h.pth", folder=tmp_path, say=print)


def test_unknown_teachers_are_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=", ".join(teacher_names())):
        find_teacher("vgg", weights=None, folder=tmp_path, say=print)
    with pytest.raises(TeacherError, match="has its own weights"):
        find_teacher("resnet18-bundled", weights=tmp_path / "x.pth", folder=tmp_path, say=print)


def test_the_memory_s_own_teacher_is_told_from_those_that_students_learn_from(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="is every memory's own teacher already"):
        find_teacher("efficientnet-lite0-bundled", weights=None, folder=tmp_path, say=print)
