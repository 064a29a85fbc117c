"""A recipe is changed while the line runs: every part is still judged, and every request is answered."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from monitor.model.recipe_version import RecipeVersion
from tests.integration.test_line import assert_one_verdict_since, folder_camera
from tests.real import parts_folder
from tests.real.line import Line
from tests.real.mosquitto import Mosquitto
from tests.real.recipe_request import answers, ask, await_answer
from tests.real.shared_line import SharedLine

WriteConfig = Callable[..., Path]


def another(recipes: Path, name: str, *, roi: tuple[int, int, int, int] | None = None) -> str:
    """Commit a copy of recipe `plate` with a higher threshold. Returns its sha."""
    shutil.copytree(recipes / "plate", recipes / name)
    recipe = RecipeVersion.load(recipes / name)
    document = msgspec.structs.replace(recipe.document, name=name, roi=roi)
    calibration = {
        key: msgspec.structs.replace(one, threshold=one.threshold * 1.01)
        for key, one in document.calibration.items()
    }
    document = msgspec.structs.replace(document, calibration=calibration)
    return RecipeVersion(recipes / name, document, "", recipe.teacher, recipe.student).commit().sha


@pytest.fixture
def config(tmp_path: Path, write_config: WriteConfig) -> Path:
    parts_folder.write_parts(tmp_path / "parts", 20, bad_every=5)
    written = write_config(folder_camera(tmp_path / "parts", fps=20))
    written.write_text(written.read_text().replace("deadline_ms = 500", "deadline_ms = 2000"))
    return written


def test_parts_are_judged_by_the_old_recipe_until_the_new_one_is_in_force(shared_line: SharedLine) -> None:
    line = shared_line
    old, new = RecipeVersion.load(line.recipes / "plate").sha, another(line.recipes, "disc")
    # A start is answered too, with the recipe of the settings.
    started = await_answer(line, None, "in_force")
    assert (started["recipe"], started["recipe_sha"], started["reason"]) == ("plate", old, None)
    ring = line.ring("top")
    first = ring.last_frame()
    ask(line, "disc", "change")
    answer = await_answer(line, "change", "in_force")
    assert [one["state"] for one in answers(line, "change")] == ["loading", "in_force"]
    assert (answer["recipe"], answer["recipe_sha"]) == ("disc", new)
    last = ring.last_frame()
    line.wait_for(lambda: ring.last_frame() > last + 15, 10, "frames")
    assert_one_verdict_since(line, "top", ring, first + 1)
    parts = [message.payload for message in line.witness.heard("top/verdict")]
    during = [part for part in parts if part["frame"] > first]
    assert [part["reason"] for part in during if part["verdict"] == "uninspected"] == []
    loading, in_force = (
        message for message in line.witness.heard("top/recipe") if message.payload["request_id"] == "change"
    )
    while_loading = [
        frame
        for message in line.witness.heard("top/verdict", since=loading.at)
        if message.at < in_force.at
        and (frame := ring.frame(message.payload["frame"]))
        and frame.captured_ns > loading.at * 1e9
    ]
    assert while_loading, "parts are judged while the recipe is loaded"
    named = {"plate": old, "disc": new}
    assert all(part["recipe_sha"] == named[part["recipe"]] for part in during)
    by = [part["recipe"] for part in sorted(during, key=lambda part: part["frame"])]
    assert by == sorted(by, reverse=True), "the recipe changes once, between two frames"
    assert set(by) == {"plate", "disc"}


def test_a_recipe_that_cant_judge_is_refused_with_the_reason_and_the_old_one_stays(
    shared_line: SharedLine,
) -> None:
    line, recipes = shared_line, shared_line.recipes
    another(recipes, "elsewhere", roi=(1, 2, 30, 40))
    another(recipes, "torn")
    (recipes / "torn/recipe.json").write_text('{"schema": 1')
    another(recipes, "headless")
    next((recipes / "headless").glob("teacher-*")).unlink()
    reasons = {
        "no-such": "no such file",
        "elsewhere": "trained on roi [1, 2, 30, 40]",
        "torn": "not a recipe",
        "headless": "teacher-",
        "../plate": "can't be a recipe's name",
        "x" * 1000: "can't be a recipe's name",
    }
    for number, (recipe, words) in enumerate(reasons.items()):
        ask(line, recipe, f"r{number}")
        answer = await_answer(line, f"r{number}", "refused")
        assert words in answer["reason"]
        assert answer["recipe"] == recipe
        assert answer["recipe_sha"] is None
        assert answer["in_force"]["recipe"] == "plate"
    for garbage in (
        b"",
        b"plate",
        b"null",
        b"[" * 5000,
        b'{"recipe": "plate"}',
        b'{"request_id": "\xff"}',
    ):
        line.witness.say("top/recipe/set", garbage)
    line.witness.say("no-such/recipe/set", '{"request_id": "n", "recipe": "plate"}')
    line.wait_for(lambda: bool(line.witness.heard("no-such/recipe")), 5, "the answer on no camera's topic")
    (elsewhere,) = line.witness.heard("no-such/recipe")
    assert (elsewhere.payload["state"], elsewhere.payload["request_id"]) == ("refused", "n")
    malformed = [message.payload for message in line.witness.heard("top/recipe")][-6:]
    assert [(answer["state"], answer["request_id"]) for answer in malformed] == [("refused", None)] * 6
    assert line.witness.status()["ready"] is True
    recent = line.witness.heard("top/verdict", since=time.monotonic() - 0.5)
    assert recent
    assert all(message.payload["recipe"] == "plate" for message in recent)
    assert "Traceback" not in line.said()


@pytest.mark.slow
def test_the_recipe_in_force_outlives_the_service_until_the_settings_name_another(
    config: Path, broker: Mosquitto
) -> None:
    recipes = config.parent / "data/recipes"
    new = another(recipes, "disc")
    with Line(config, broker.port) as line:
        line.await_ready()
        ask(line, "disc", "a")
        await_answer(line, "a", "in_force")
        line.process.kill()
        line.process.wait()
        ask(line, "disc", "b", retain=True)
        back = time.monotonic()
        line.start()
        line.wait_for(lambda: bool(line.witness.heard("top/verdict", since=back + 2)), 60, "verdicts")
        # If a reject was on its way when the service was killed, the line waits for a reset.
        line.witness.say("reset")
        line.await_ready()
        answer = line.witness.heard("top/recipe", since=back)[-1].payload
        assert (answer["state"], answer["request_id"]) == ("in_force", "a")
        assert (answer["recipe"], answer["recipe_sha"]) == ("disc", new)
        assert line.witness.heard("top/verdict")[-1].payload["recipe"] == "disc"
        line.stop()
        config.write_text(config.read_text().replace('recipe = "plate"', 'recipe = "plate2"'))
        another(recipes, "plate2")
        line.start()
        line.wait_for(
            lambda: any(answer["recipe"] == "plate2" for answer in answers(line, None)),
            60,
            "the settings' recipe",
        )
        line.stop()
        config.write_text(config.read_text().replace('recipe = "plate2"', 'recipe = "plate"'))
        line.start()
        line.wait_for(
            lambda: line.witness.heard("top/recipe")[-1].payload["recipe"] == "plate",
            60,
            "the settings' recipe",
        )
        assert answers(line, "b") == [], "a retained request is ignored"


@pytest.mark.parametrize("worker", [pytest.param("scoring", marks=pytest.mark.timing), "publish"])
def test_a_request_is_answered_although_a_worker_dies_during_it(worker: str, shared_line: SharedLine) -> None:
    line, request = shared_line, f"{worker} dies"
    another(line.recipes, f"disc-{worker}")
    killed = line.pid(worker)
    ask(line, f"disc-{worker}", request)
    await_answer(line, request, "loading")
    os.kill(killed, signal.SIGKILL)
    line.wait_for(lambda: line.pid(worker) != killed, 10, f"new {worker}")
    line.wait_for(
        lambda: any(answer["state"] != "loading" for answer in answers(line, request)), 60, "final answer"
    )
    answer = answers(line, request)[-1]
    in_force = f"disc-{worker}" if answer["state"] == "in_force" else "plate"
    assert answer["in_force"]["recipe"] == in_force
    line.wait_for(
        lambda: any(
            message.payload["recipe_sha"] == answer["in_force"]["recipe_sha"]
            for message in line.witness.heard("top/verdict", since=time.monotonic() - 1)
        ),
        20,
        "verdicts by the recipe in force",
    )


@pytest.mark.slow
def test_a_camera_without_a_recipe_is_repaired_by_a_changeover(config: Path, broker: Mosquitto) -> None:
    config.write_text(config.read_text().replace('recipe = "plate"', 'recipe = "no-such"'))
    with Line(config, broker.port) as line:
        line.wait_for(lambda: line.witness.status().get("reason") == "no_recipe", 60, "no_recipe")
        answer = await_answer(line, None, "refused")
        assert answer["in_force"] is None
        ask(line, "plate", "a")
        await_answer(line, "a", "in_force")
        line.await_ready()
        line.wait_for(
            lambda: any(m.payload["verdict"] == "pass" for m in line.witness.heard("top/verdict")),
            10,
            "a pass",
        )
