"""On a CPU `auto` takes the fastest runtime and precision that keeps float32's verdicts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from monitor.inference import backend_choice, backends
from monitor.inference.backend_choice import (
    Backend,
    BackendWish,
    build_fastest_scorer,
    choose_backend,
    choose_fastest,
    find_backends,
)
from monitor.inference.kept_choices import FILE, BackendChoice
from monitor.model.recipe_json import FirstLook
from monitor.model.recipe_version import RecipeVersion
from tests.real.parts import random_recipe

OPENVINO, TORCH = Backend("openvino", "f32", 0.0), Backend("torch", "f32", 0.0)
ON_CPU = BackendWish(device="cpu")


@pytest.fixture
def bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with bfloat16, where torch alone is installed; other processors compute the same slower."""
    for module in (backends, backend_choice):
        monkeypatch.setattr(module, "has_native_bf16", lambda: True)
        monkeypatch.setattr(module, "has_openvino", lambda: False)


def with_pairs(recipe: RecipeVersion) -> RecipeVersion:
    look = FirstLook(pairs=((0.3, 0.3),) * 10)
    return recipe.with_changes(first_looks={"torch-bf16": look}).commit()


@pytest.mark.parametrize(
    ("second_looks", "seconds", "chosen"),
    [
        (0.1, {"openvino-f32": 0.02, "openvino-bf16": 0.01}, "bf16"),
        (0.7, {"openvino-f32": 0.02, "openvino-bf16": 0.01}, "f32"),
        (0.0, {"openvino-f32": 0.02, "openvino-bf16": 0.019}, "f32"),
        (0.0, {"openvino-f32": 0.02}, "f32"),
    ],
)
def test_a_first_look_is_taken_where_it_pays_with_its_second_looks(
    second_looks: float, seconds: dict[str, float], chosen: str
) -> None:
    found = choose_fastest([OPENVINO, Backend("openvino", "bf16", second_looks)], seconds)
    assert found.precision == chosen
    assert "openvino-f32 20.0 ms" in found.reason


def test_the_faster_runtime_is_taken() -> None:
    assert choose_fastest([OPENVINO, TORCH], {"openvino-f32": 0.03, "torch-f32": 0.02}).runtime == "torch"


def test_only_what_keeps_the_verdicts_may_be_chosen(tmp_path: Path, bf16: None) -> None:
    bare = random_recipe(tmp_path / "r")
    known = with_pairs(bare)
    close = msgspec.structs.replace(known.document.calibration["torch-f32"], scores=(0.49, 0.5))
    near = known.with_calibration({"torch-f32": close})
    keys = [[own.key for own in find_backends(recipe, ON_CPU)] for recipe in (bare, known, near)]
    assert keys == [["torch-f32"], ["torch-f32", "torch-bf16"], ["torch-f32"]]
    assert "line-monitor calibrate r --images DIR" in choose_backend(bare, ON_CPU, tmp_path).reason


def test_it_is_measured_once_and_never_written_into_the_recipe(
    tmp_path: Path, bf16: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = with_pairs(random_recipe(tmp_path / "r"))
    before = {file: file.read_bytes() for file in recipe.folder.iterdir() if file.is_file()}
    said: list[str] = []
    scorer = build_fastest_scorer(recipe, ON_CPU, tmp_path / "cache", say=said.append)
    assert f"recipe r runs on {scorer.calibration_key}: fastest for a good part" in said[0]
    monkeypatch.setattr(backend_choice, "_measure", lambda *rest: pytest.fail("measured again"))
    again = choose_backend(recipe, ON_CPU, tmp_path / "cache")
    assert (again.runtime, again.precision) == (scorer.runtime, scorer.precision)
    assert again.reason.endswith("(measured before)")
    assert {file: file.read_bytes() for file in recipe.folder.iterdir() if file.is_file()} == before


def test_nothing_is_measured_while_parts_wait(tmp_path: Path, bf16: None) -> None:
    recipe = with_pairs(random_recipe(tmp_path / "r"))
    running = choose_backend(recipe, ON_CPU, tmp_path / "cache", measure=False)
    assert (running.runtime, running.precision) == ("torch", "f32")
    assert not (tmp_path / "cache").exists(), "the next start measures"
    kept = choose_backend(recipe, ON_CPU, tmp_path / "cache")
    again = choose_backend(recipe, ON_CPU, tmp_path / "cache", measure=False)
    assert (again.runtime, again.precision) == (kept.runtime, kept.precision)
    assert "measured before" in again.reason


def test_a_kept_choice_that_the_recipe_can_not_run_with_is_measured_again(
    tmp_path: Path, bf16: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = with_pairs(random_recipe(tmp_path / "r"))
    monkeypatch.setattr(backend_choice, "_measure", lambda *rest: BackendChoice("torch", "f32", "measured"))
    choose_backend(recipe, ON_CPU, tmp_path)
    file = tmp_path / FILE
    file.write_bytes(file.read_bytes().replace(b'"f32"', b'"int8"'))
    assert choose_backend(recipe, ON_CPU, tmp_path).precision == "f32"
    assert b"int8" not in file.read_bytes()


def test_a_student_that_differs_nowhere_from_the_teacher_runs_too(tmp_path: Path, bf16: None) -> None:
    """Its maps are 0, so there is nothing to compare them by."""
    recipe = with_pairs(random_recipe(tmp_path / "r"))
    blind = replace(recipe, student=recipe.teacher)
    assert choose_backend(blind, ON_CPU, tmp_path / "cache", keep=False).runtime == "torch"


def test_what_the_settings_name_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_choice, "_measure", lambda *rest: pytest.fail("measured"))
    recipe = random_recipe(tmp_path / "r")
    named = choose_backend(recipe, BackendWish("cpu", "torch", "f32"), tmp_path)
    assert (named.runtime, named.precision, named.reason) == ("torch", "f32", "")
