"""A version that a person puts in force judges the next part of a running line, at all its cameras."""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from monitor.accounts.accounts_file import AccountsFile
from monitor.accounts.permissions import Role
from monitor.line_state import changeover
from monitor.line_state.board import Board
from monitor.line_state.changeover import ChangeoverState, RecipeStatus, Request
from monitor.line_state.recipe_set import REQUEST_FILE, SetDocument, write_set
from monitor.line_state.set_request import (
    SetRequest,
    SetStatus,
    read_set_status,
    write_set_request,
    write_set_status,
)
from monitor.line_state.worker_process import worker_names
from monitor.model.in_force import Approval, hold_in_force, put_in_force
from monitor.model.recipe_version import RecipeVersion
from monitor.scoring.recipes import RecipesInForce
from monitor.settings import RecipeSettings, Settings
from tests.real.parts import random_recipe

ANNA = Approval(who="anna", utc="2026-11-30T07:00:00.000Z", meaning="approved for production")


class Scene:
    """Two cameras with one recipe, of which there are two versions."""

    def __init__(self, folder: Path) -> None:
        camera = {"source": "simulated://plate", "recipe": "disc"}
        self.settings = Settings(
            line={"data": folder / "data"},  # type: ignore[arg-type]
            scoring={"device": "cpu", "runtime": "torch"},  # type: ignore[arg-type]
            camera=({"name": "left", **camera}, {"name": "right", **camera}),  # type: ignore[arg-type]
            recipes=RecipeSettings(
                sets={
                    "mixed": {"left": "disc@1", "right": "disc@2"},
                    "wrong": {"left": "disc@1", "right": "disc@9"},
                    "empty": {},
                    "elsewhere": {"left": "disc@1", "dome": "disc@1"},
                }
            ),
        )
        self.recipe = folder / "data/recipes/disc"
        Board.create(folder / "board", worker_names(self.settings))
        self.board = Board(folder / "board", worker_names(self.settings))
        self.recipes = self.start()

    def start(self) -> RecipesInForce:
        return RecipesInForce(self.settings, self.board, "session", logging.getLogger("test"))

    def settle(self) -> Sequence[str]:
        """Read the files again and carry out what follows. Return the cameras whose scorer was replaced."""
        self.recipes.watch.look()
        until, changed = time.monotonic() + 60, []
        self.recipes.step()
        while self.recipes._loading is not None and time.monotonic() < until:
            changed += self.recipes.step()
            time.sleep(0.01)
        return changed

    def ask(self, camera: str, recipe: str) -> RecipeStatus:
        number = self.status(camera).number + 1
        changeover.write_request(self.board, camera, Request(number, "a", recipe))
        self.settle()
        return self.status(camera)

    def status(self, camera: str) -> RecipeStatus:
        status = changeover.read_recipe_status(self.board, camera)
        assert status is not None
        return status

    def versions(self) -> list[int | None]:
        """By camera, the version that judges."""
        found = [self.status(camera.name).in_force for camera in self.settings.camera]
        assert all(one is not None and self.is_true(one.sha) for one in found)
        return [one.version for one in found if one]

    def is_true(self, sha: str) -> bool:
        return sha in {scorer.recipe.sha for scorer in self.recipes.scorers.values()}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    first = random_recipe(tmp_path_factory.mktemp("recipes") / "disc")
    first.with_changes(statement="second").commit()
    return first.folder


@pytest.fixture
def scene(tmp_path: Path, two: Path) -> Scene:
    shutil.copytree(two, tmp_path / "data/recipes/disc")
    return Scene(tmp_path)


def test_a_version_put_in_force_judges_at_all_cameras_without_a_restart(scene: Scene) -> None:
    assert scene.versions() == [2, 2]
    assert scene.settle() == []
    put_in_force(scene.recipe, 1, ANNA)
    assert scene.settle() == ["left", "right"]
    assert scene.versions() == [1, 1]
    status = scene.status("left")
    assert (status.state, status.recipe, status.who) == (ChangeoverState.IN_FORCE, "disc@1", "anna")
    assert scene.settle() == []
    scene.recipes = scene.start()
    assert scene.versions() == [1, 1], "a restart does not bring the newest version back"


def test_a_version_that_cant_be_used_is_refused_once_and_the_old_one_judges_on(scene: Scene) -> None:
    put_in_force(scene.recipe, 1, ANNA)
    next(scene.recipe.glob("student-*")).write_bytes(b"torn")
    assert scene.settle() == []
    assert scene.versions() == [2, 2]
    status = scene.status("right")
    assert (status.state, status.recipe) == (ChangeoverState.REFUSED, "disc@1")
    assert "damaged" in str(status.reason)
    scene.recipes.step()
    assert scene.recipes._loading is None, "it is not loaded again and again"


def use_set(scene: Scene, request_id: str, **recipes: str) -> None:
    cameras = {camera.name: camera.recipe for camera in scene.settings.camera}
    folder = scene.settings.line.data / "changeovers"
    document = SetDocument(
        name="both",
        recipes=recipes,
        instead_of={name: cameras.get(name, "") for name in recipes},
        request_id=request_id,
        who="anna",
        utc=ANNA.utc,
    )
    write_set(folder / REQUEST_FILE, document)


def test_a_set_changes_all_cameras_at_once_or_none(scene: Scene) -> None:
    use_set(scene, "a", left="disc@1", right="disc@9")
    assert scene.settle() == []
    assert scene.versions() == [2, 2]
    statuses = [scene.status(camera) for camera in ("left", "right")]
    assert [(status.state, status.request_id) for status in statuses] == [(ChangeoverState.REFUSED, "a")] * 2
    assert all("there is no disc@9" in str(status.reason) for status in statuses)
    scene.recipes = scene.start()
    assert scene.versions() == [2, 2], "a refused set counts after no restart"
    use_set(scene, "b", left="disc@1", right="disc@2")
    assert scene.settle() == ["left", "right"]
    assert scene.versions() == [1, 2]
    scene.recipes = scene.start()
    assert scene.versions() == [1, 2], "a restart keeps the set"
    assert scene.settle() == [], "it is not loaded again"
    scene.ask("left", "disc@2")
    assert scene.versions() == [2, 2]
    scene.recipes = scene.start()
    assert scene.versions() == [2, 2], "a changeover after the set is newer than the set"


def ask_for_set(scene: Scene, number: int, name: str) -> SetStatus:
    write_set_request(scene.board, SetRequest(number, "job", name))
    scene.settle()
    status = read_set_status(scene.board)
    assert status is not None
    return status


def test_a_set_asked_for_over_mqtt_is_answered_and_changes_all_cameras_or_none(scene: Scene) -> None:
    assert read_set_status(scene.board) == SetStatus(0, None, ChangeoverState.IN_FORCE, None, None)
    reasons = {
        "wrong": "set wrong: camera 'right': .*there is no disc@9",
        "empty": "names no camera",
        "elsewhere": "no camera dome",
        "gone": "names no camera",
    }
    for number, (name, words) in enumerate(reasons.items(), 1):
        status = ask_for_set(scene, number, name)
        assert (status.number, status.state) == (number, ChangeoverState.REFUSED)
        assert (status.request_id, status.recipe_set) == ("job", name)
        assert re.search(words, str(status.reason))
        assert scene.versions() == [2, 2]
    done = SetStatus(5, "job", ChangeoverState.IN_FORCE, "mixed", None)
    assert ask_for_set(scene, 5, "mixed") == done
    assert scene.versions() == [1, 2]
    assert scene.status("left").who == "plant1/line1/recipe/set"
    use_set(scene, "page", left="disc@2", right="disc@2")
    scene.settle()
    assert read_set_status(scene.board) == SetStatus(5, "page", ChangeoverState.IN_FORCE, "both", None)


def test_a_set_during_whose_load_the_scoring_worker_died_is_refused_or_in_force_as_its_file_says(
    scene: Scene,
) -> None:
    ask_for_set(scene, 1, "mixed")
    loading = SetStatus(1, "job", ChangeoverState.LOADING, "mixed", None)
    write_set_status(scene.board, loading)
    scene.recipes = scene.start()
    assert read_set_status(scene.board) == SetStatus(1, "job", ChangeoverState.IN_FORCE, "mixed", None)
    write_set_request(scene.board, SetRequest(2, "job", "mixed"))
    write_set_status(scene.board, msgspec.structs.replace(loading, number=2))
    scene.recipes = scene.start()
    assert scene.settle() == [], "a second attempt could end this worker too"
    status = read_set_status(scene.board)
    assert status is not None
    assert (status.number, status.state) == (2, ChangeoverState.REFUSED)
    assert "died" in str(status.reason)
    assert scene.versions() == [1, 2]


def test_a_request_chooses_among_promoted_versions_and_that_camera_keeps_its_version(scene: Scene) -> None:
    put_in_force(scene.recipe, 2, ANNA)
    refused = scene.ask("left", "disc@1")
    assert refused.state is ChangeoverState.REFUSED
    assert "disc@1 is not promoted" in str(refused.reason)
    put_in_force(scene.recipe, 1, ANNA)
    scene.settle()
    assert scene.ask("left", "disc@2").state is ChangeoverState.IN_FORCE
    assert scene.versions() == [2, 1]
    put_in_force(scene.recipe, 1, ANNA)
    scene.settle()
    assert scene.versions() == [2, 1]
    scene.recipes = scene.start()
    assert scene.versions() == [2, 1], "a restart keeps the version"
    scene.ask("left", "disc")
    assert scene.versions() == [1, 1]


def test_with_accounts_a_request_for_a_version_that_nobody_signed_is_refused(scene: Scene) -> None:
    AccountsFile.of(scene.settings).add("root", Role.ADMIN, "a good password", ANNA.utc)
    refused = scene.ask("left", "disc@2")
    assert refused.state is ChangeoverState.REFUSED
    assert "disc@2 is not promoted" in str(refused.reason)
    put_in_force(scene.recipe, 2, ANNA)
    assert scene.ask("left", "disc@2").state is ChangeoverState.IN_FORCE


def test_a_version_that_nobody_signed_replaces_none_on_a_running_line(scene: Scene) -> None:
    RecipeVersion.load(scene.recipe).with_changes(statement="third").commit()
    hold_in_force(scene.recipe, ANNA.utc)
    assert scene.settle() == []
    assert scene.versions() == [2, 2]
    put_in_force(scene.recipe, 3, ANNA)
    assert scene.settle() == ["left", "right"]


def test_on_a_line_without_a_recipe_a_version_judges_once_somebody_signed_for_it(
    tmp_path: Path, two: Path
) -> None:
    scene = Scene(tmp_path)
    assert scene.recipes.scorers == {}
    shutil.copytree(two, scene.recipe)
    hold_in_force(scene.recipe, ANNA.utc)
    assert scene.settle() == []
    put_in_force(scene.recipe, 1, ANNA)
    assert scene.settle() == ["left", "right"]
    assert scene.versions() == [1, 1]
