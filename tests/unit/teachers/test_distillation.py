"""A made teacher can be made again from its seed, and the written weights calculate what was learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from monitor.pyramid import ResNetTrunk
from monitor.teachers.architectures import TeacherError, build_trunk, fill, read_tensors
from monitor.teachers.distillation import DistillationResult, DistillationSettings, make_teacher, storable

CARRIED = Path(__file__).parents[3] / "monitor" / "teachers" / "resnet18-bundled.safetensors"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random SqueezeNet weights; a student can learn their features too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        tensors = {name: t.contiguous() for name, t in build_trunk("squeezenet1_1").state_dict().items()}
    file = tmp_path_factory.mktemp("source") / "squeezenet1_1.safetensors"
    save_file(tensors, file)
    return file


def small_run(source: Path, out: Path, *, steps: int = 2, seed: int = 3) -> DistillationResult:
    settings = DistillationSettings(steps=steps, seed=seed, side=32, batch=4, canvases=4)
    return make_teacher(settings, source_weights=source, out=out)


def weights_of(file: Path) -> dict[str, Tensor]:
    return read_tensors(file)


def trunk_of(tensors: dict[str, Tensor]) -> ResNetTrunk:
    trunk = ResNetTrunk()
    fill(trunk, tensors)
    return trunk.eval()


def test_the_same_seed_gives_the_same_weights(source: Path, tmp_path: Path) -> None:
    names = ("first", "again", "other")
    for name, seed in zip(names, (3, 3, 4), strict=True):
        small_run(source, tmp_path / f"{name}.safetensors", seed=seed)
    first, again, other = (weights_of(tmp_path / f"{name}.safetensors") for name in names)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_the_caller_keeps_its_random_numbers(source: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    small_run(source, tmp_path / "out", steps=1)
    assert torch.equal(torch.rand(3), expected)


def test_it_learns(source: Path, tmp_path: Path) -> None:
    early = small_run(source, tmp_path / "out", steps=1)
    late = small_run(source, tmp_path / "out", steps=80)
    assert late.steps == 80
    assert sum(late.unexplained) < 0.9 * sum(early.unexplained)


def test_the_clock_ends_it_and_a_usable_file_is_there(source: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    result = make_teacher(
        DistillationSettings(steps=1_000_000, minutes=0.01, side=32, batch=4, canvases=2),
        source_weights=source,
        out=tmp_path / "deep" / "out.safetensors",
        say=lines.append,
    )
    assert result.steps < 1_000_000
    assert lines
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["out.safetensors"]
    with safe_open(tmp_path / "deep" / "out.safetensors", "pt") as file:
        about = file.metadata()
    assert about["source"] == "squeezenet1_1"
    assert about["steps"] == str(result.steps)
    assert "seed 0" in about["settings"]


def test_what_is_written_has_the_names_of_a_resnet18(source: Path, tmp_path: Path) -> None:
    small_run(source, tmp_path / "out.safetensors")
    tensors = weights_of(tmp_path / "out.safetensors")
    assert {name: t.shape for name, t in tensors.items()} == {
        name: t.shape for name, t in ResNetTrunk().state_dict().items()
    }
    assert {t.dtype for t in tensors.values()} == {torch.float16, torch.int64}


def test_half_precision_calculates_the_same_also_with_dead_and_violent_channels() -> None:
    torch.manual_seed(0)
    trunk = ResNetTrunk().eval()
    with torch.no_grad():
        trunk.bn1.running_var[0] = 1e-12
        trunk.bn1.running_var[1] = 1e6
        trunk.bn1.running_mean[:] = torch.randn(64) * 0.1
    trunk.requires_grad_(False)
    images = torch.randn(2, 3, 64, 64)
    exact = trunk(images)
    held = storable(trunk.state_dict())
    assert float(held["bn1.running_var"].min()) > 5e-5
    for level, again in zip(exact, trunk_of(held).requires_grad_(False)(images), strict=True):
        assert float((level - again).abs().max()) < 1e-2 * float(level.abs().max())


def test_weights_beyond_half_precision_are_refused() -> None:
    state = ResNetTrunk().state_dict()
    state["conv1.weight"] = state["conv1.weight"] * 1e9
    with pytest.raises(FloatingPointError, match=r"conv1\.weight"):
        storable(state)


@pytest.mark.parametrize("wrong", [{"side": 40}, {"side": 16}, {"steps": 0}, {"batch": 1}])
def test_impossible_arguments_are_refused(source: Path, tmp_path: Path, wrong: dict[str, int]) -> None:
    arguments = {"side": 32, "steps": 1, "batch": 4} | wrong
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make_teacher(DistillationSettings(**arguments), source_weights=source, out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="no such file"):
        make_teacher(
            DistillationSettings(steps=1), source_weights=tmp_path / "none.safetensors", out=tmp_path / "out"
        )


def test_both_grids_lie_on_the_same_pixels() -> None:
    """A cell's gradient is largest around the pixel that `FIRST_CELLS` and the stride give."""
    torch.manual_seed(0)
    for source, side, first in (("squeezenet1_1", 191, (3, 7, 15)), ("resnet18", 192, (0, 0, 0))):
        trunk = build_trunk(source).eval()
        images = torch.randn(8, 3, side, side, requires_grad=True)
        for features, stride, origin in zip(trunk(images), (4, 8, 16), first, strict=True):
            cell = features.shape[-1] // 2
            chosen = features[:, :, cell, cell]
            (gradient,) = torch.autograd.grad(
                (chosen * torch.randn_like(chosen)).sum(), images, retain_graph=True
            )
            weight = gradient.square().sum((0, 1)).sum(0)
            middle = float((weight * torch.arange(side)).sum() / weight.sum())
            assert middle == pytest.approx(origin + cell * stride, abs=0.3 * stride)


@pytest.mark.parametrize("size", [(128, 128), (224, 256), (512, 128)])
def test_the_carried_teacher_works_at_any_size(size: tuple[int, int]) -> None:
    tensors = weights_of(CARRIED)
    assert CARRIED.stat().st_size < 6_000_000
    trunk = trunk_of(tensors)
    rng = np.random.default_rng(0)
    hard = [torch.zeros(3, *size), torch.full((3, *size), 2.6), torch.full((3, *size), -2.1)]
    noise = torch.from_numpy(rng.standard_normal((3, *size), dtype=np.float32))
    with torch.no_grad():
        levels = trunk(torch.stack([*hard, noise]))
    for level, channels, stride in zip(levels, (64, 128, 256), (4, 8, 16), strict=True):
        assert level.shape == (4, channels, size[0] // stride, size[1] // stride)
        assert bool(torch.isfinite(level).all())
        assert float(level.abs().max()) < 1e4, "far below the largest value of half precision"


def test_the_carried_teacher_says_how_it_was_made() -> None:
    with safe_open(CARRIED, "pt") as file:
        about = file.metadata()
    assert about["source"] == "squeezenet1_1"
    assert "procedural only" in about["images"]
    assert "seed" in about["settings"]
    variances = [t for name, t in weights_of(CARRIED).items() if name.endswith("running_var")]
    assert len(variances) == 15
    assert min(float(v.min()) for v in variances) >= 9e-5
