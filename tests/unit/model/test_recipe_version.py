"""Loading a recipe gives one complete version, or an error of one line with the fix."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from monitor.inference.scorer import Scorer
from monitor.model.recipe_json import RecipeError
from monitor.model.recipe_version import RecipeVersion, weights_file
from monitor.model.version_files import list_versions
from monitor.names import InvalidNameError, check_name
from tests.real.crashes import run_until_crash
from tests.real.parts import draft_recipe, random_recipe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return random_recipe(tmp_path / "bottle-top").folder


def edit(folder: Path, **fields: Any) -> None:
    """Change top-level fields of recipe.json; the value ... removes a field."""
    file = folder / "recipe.json"
    content = {**json.loads(file.read_text()), **fields}
    file.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))


def test_what_was_committed_is_what_is_loaded(folder: Path) -> None:
    for path in (folder, folder / "recipe.json", str(folder)):
        loaded = RecipeVersion.load(path)
        assert loaded.name == "bottle-top"
        assert loaded.sha == hashlib.sha256((folder / "recipe.json").read_bytes()).hexdigest()
    again = random_recipe(folder.parent / "other")
    assert all(np.array_equal(loaded.student[name], again.student[name]) for name in again.student)


def test_every_version_keeps_its_document_and_weights_are_shared_by_hash(folder: Path) -> None:
    first = RecipeVersion.load(folder)
    stricter = first.with_changes(statement="stricter").commit()
    other = random_recipe(folder, seed=5)
    assert [first.number, stricter.number, other.number] == [1, 2, 3]
    kept = list_versions(folder)
    assert [RecipeVersion.load(version.file).sha for version in kept] == [first.sha, stricter.sha, other.sha]
    assert [version.name for version in kept] == ["bottle-top@1", "bottle-top@2", "bottle-top@3"]
    weights = [file for file in folder.iterdir() if file.suffix == ".safetensors"]
    assert len(weights) == 4, "the first two versions share their weights"
    assert all(hashlib.sha256(file.read_bytes()).hexdigest()[:16] in file.name for file in weights)


def test_a_version_that_was_removed_by_hand_loses_its_weights_at_the_next_commit(folder: Path) -> None:
    random_recipe(folder, seed=5)
    list_versions(folder)[0].file.unlink()
    assert random_recipe(folder, seed=5).number == 2, "the same document is no new version"
    assert len(list(folder.glob("*.safetensors"))) == 2


def test_the_recipe_of_an_earlier_program_becomes_the_first_version(folder: Path) -> None:
    shutil.rmtree(folder / "versions")
    old = RecipeVersion.load(folder)
    assert (old.number, [version.file.name for version in list_versions(folder)]) == (1, ["recipe.json"])
    assert random_recipe(folder, seed=5).number == 2
    assert RecipeVersion.load(list_versions(folder)[0].file).sha == old.sha


def test_a_crash_at_any_step_of_a_commit_leaves_a_whole_version(folder: Path) -> None:
    old = RecipeVersion.load(folder).sha
    new = random_recipe(folder.parent / "new" / folder.name, seed=9).sha
    draft = draft_recipe(folder, seed=9)
    seen = set()
    steps = [(os, "fsync"), (Path, "replace"), (Path, "unlink")]
    for _ in run_until_crash(draft.commit, steps, most=40):
        loaded = RecipeVersion.load(folder)
        seen.add(loaded.sha)
        assert loaded.number == (1 if loaded.sha == old else 2)
        assert all(RecipeVersion.load(version.file).number for version in list_versions(folder))
    assert seen == {old, new}
    assert len(list(folder.iterdir())) == 6, "the files that crashes left behind are removed"
    assert len(list((folder / "versions").iterdir())) == 2


def test_a_version_committed_while_another_is_loaded_is_loaded_instead(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old version and its weights are removed after recipe.json was read and before the weights are
    read."""
    read = Path.read_bytes
    newer: list[str] = []
    (old,) = list_versions(folder)

    def commit_after(self: Path) -> bytes:
        content = read(self)
        if self.name == "recipe.json" and not newer:
            newer.append("")
            random_recipe(folder, seed=3)
            old.file.unlink()
            newer[0] = random_recipe(folder, seed=4).sha
        return content

    monkeypatch.setattr(Path, "read_bytes", commit_after)
    assert RecipeVersion.load(folder).sha == newer[0]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"schema": 2}, "schema"),
        ({"name": "../../etc"}, "name"),
        ({"size": 10**9}, "size"),
        ({"size": "big"}, "size"),
        ({"student": ...}, "student"),
        ({"student": {"file": "../student-0123456789abcdef.safetensors", "sha256": "0" * 64}}, "student"),
        ({"levels": ["layer1"]}, "levels"),
        ({"calibration": {}}, "threshold"),
        ({"resize": "letterbox"}, "letterbox"),
        ({"colour_order": "BGR"}, "colour_order"),
    ],
)
def test_a_recipe_that_says_something_impossible_is_refused(
    folder: Path, fields: dict[str, Any], says: str
) -> None:
    edit(folder, **fields)
    with pytest.raises(RecipeError, match=says) as refusal:
        RecipeVersion.load(folder)
    assert str(folder / "recipe.json") in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_fields_of_a_newer_program_are_ignored(folder: Path) -> None:
    edit(folder, colour_of_the_operators_shirt="blue")
    assert RecipeVersion.load(folder).name == "bottle-top"


def test_damage_names_the_file_and_the_fix(folder: Path) -> None:
    """Each file in turn is shortened, emptied, changed by one bit, replaced or removed."""
    for file in sorted(file for file in folder.iterdir() if file.is_file()):
        whole = file.read_bytes()
        # A bit of the first byte, because a changed bit in a number of recipe.json gives another valid
        # number.
        flipped = bytes([whole[0] ^ 0x10]) + whole[1:]
        for damaged in (b"", whole[: len(whole) // 2], flipped, b"\x80\x04N.", b"[]", None):
            file.unlink()
            if damaged is not None:
                file.write_bytes(damaged)
            with pytest.raises(RecipeError, match=r"restore|train") as refusal:
                RecipeVersion.load(folder)
            assert file.name in str(refusal.value)
            assert "\n" not in str(refusal.value)
            file.write_bytes(whole)
    assert RecipeVersion.load(folder)


def test_no_recipe_at_all_is_a_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such file: train the recipe"):
        RecipeVersion.load(tmp_path / "nothing")
    (tmp_path / "recipe.json").mkdir()
    with pytest.raises(RecipeError, match="directory"):
        RecipeVersion.load(tmp_path)


def test_a_different_teacher_is_refused(folder: Path) -> None:
    """The other teacher's file itself is valid."""
    other = random_recipe(folder.parent / "other", seed=20)
    recipe = RecipeVersion.load(folder)
    mixed = msgspec.structs.replace(
        recipe.document,
        teacher=msgspec.structs.replace(recipe.document.teacher, weights=other.document.teacher.weights),
    )
    weights = other.folder / other.document.teacher.weights.file
    (folder / weights.name).write_bytes(weights.read_bytes())
    (folder / "recipe.json").write_bytes(msgspec.json.encode(mixed))
    with pytest.raises(RecipeError, match="not the teacher this recipe was trained with"):
        RecipeVersion.load(folder)


def test_weights_of_another_architecture_are_refused(folder: Path) -> None:
    recipe = RecipeVersion.load(folder)
    teacher = msgspec.structs.replace(recipe.document.teacher, architecture="resnet18")
    document = msgspec.structs.replace(
        recipe.document, teacher=teacher, levels=("layer1", "layer2", "layer3")
    )
    (folder / "recipe.json").write_bytes(msgspec.json.encode(document))
    with pytest.raises(RecipeError, match="not resnet18's"):
        Scorer(RecipeVersion.load(folder), device="cpu")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_disk_that_refuses_is_a_line(folder: Path) -> None:
    folder.chmod(0o500)
    with pytest.raises(RecipeError, match="can't be written"):
        random_recipe(folder, seed=1)


def test_a_full_disk_leaves_the_old_version(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    before = {file.name for file in folder.rglob("*")}
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecipeError, match="No space left on device"):
        random_recipe(folder, seed=1)
    assert {file.name for file in folder.rglob("*")} == before
    RecipeVersion.load(folder)


@pytest.mark.parametrize("name", ["", "Bottle", "a b", "../x", "x" * 33, "ä"])
def test_names_that_are_no_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidNameError, match="a-z, 0-9 and -"):
        check_name(name)


def test_a_recipe_is_checked_without_waiting_for_torch(folder: Path) -> None:
    code = (
        "import sys; from monitor.recipe import Recipe\n"
        f"Recipe.load({str(folder)!r}); print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    recipe = random_recipe(tmp_path / "r")
    broken = {name: np.full_like(array, np.nan) for name, array in recipe.student.items()}
    document = msgspec.structs.replace(recipe.document, student=weights_file("student", broken))
    RecipeVersion(recipe.folder, document, "", recipe.teacher, broken).commit()
    with pytest.raises(RecipeError, match=r"student-.* not finite: train the recipe again"):
        RecipeVersion.load(recipe.folder)
