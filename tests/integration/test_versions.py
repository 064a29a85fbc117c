"""A version or a set is put in force while the line runs: it judges from the next part on, also after
kill -9."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from monitor import cli
from monitor.audit.trail import AuditTrail
from monitor.model.in_force import Approval, put_in_force
from monitor.model.recipe_json import REFERENCE
from monitor.model.recipe_version import RecipeVersion
from monitor.settings import load_settings
from tests.integration.test_changeover import ask, await_answer
from tests.integration.test_line import assert_one_verdict_a_frame, folder_camera
from tests.real import parts_folder
from tests.real.line import Line
from tests.real.mosquitto import Mosquitto
from tests.real.parts import draft_recipe

ANNA = Approval(who="anna", utc="2026-11-30T07:00:00.000Z", meaning="approved for production")


def make_version(folder: Path) -> RecipeVersion:
    """A version with a threshold 1 % higher."""
    newest = RecipeVersion.load(folder)
    return newest.with_calibration(
        {
            key: msgspec.structs.replace(one, threshold=one.threshold * 1.01)
            for key, one in newest.document.calibration.items()
        }
    ).commit()


def use_set(line: Line, payload: bytes, request_id: str | None, state: str) -> dict[str, Any]:
    """Ask for a set over MQTT, and wait for the answer on the line's own topic."""
    line.witness.say("recipe/set", payload)

    def is_last() -> bool:
        heard = line.witness.heard("recipe")
        return bool(heard) and (heard[-1].payload["request_id"], heard[-1].payload["state"]) == (
            request_id,
            state,
        )

    line.wait_for(is_last, 60, f"{state} answer")
    return line.witness.heard("recipe")[-1].payload


def await_judge(line: Line, version: RecipeVersion) -> None:
    def judges() -> bool:
        heard = line.witness.heard("top/verdict")
        return bool(heard) and heard[-1].payload["recipe_sha"] == version.sha

    line.wait_for(judges, 60, f"a verdict by version {version.number}")


@pytest.fixture
def config(tmp_path: Path, broker: Mosquitto) -> Path:
    """A line of one camera, with a recipe that passes all parts."""
    parts_folder.write_parts(tmp_path / "parts", 10, bad_every=5)
    draft = draft_recipe(tmp_path / "data/recipes/plate")
    own = msgspec.structs.replace(draft.document.calibration[REFERENCE], threshold=1e6)
    draft.with_calibration({REFERENCE: own}).commit()
    camera = folder_camera(tmp_path / "parts", fps=10).replace("deadline_ms = 500", "deadline_ms = 5000")
    config = tmp_path / "line.toml"
    config.write_text(
        '[line]\nsite = "plant"\nname = "line"\ndata = "data"\n'
        f"{camera}\n[mqtt]\nport = {broker.port}\n[metrics]\nport = 0\n[review]\nport = 0\n"
        '[scoring]\nruntime = "torch"\n[snapshots]\nmin_free_gb = 0.0\n'
        '[recipes.sets.plates]\ntop = "plate@1"\n[recipes.sets.unsigned]\ntop = "plate@4"\n'
    )
    return config


def test_use_rollback_a_killed_scorer_and_a_set_each_change_the_judge_between_two_parts(
    config: Path, broker: Mosquitto, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = config.parent / "data/recipes/plate"
    first = RecipeVersion.load(folder)
    put_in_force(folder, 1, ANNA)
    second, third, _ = make_version(folder), make_version(folder), make_version(folder)
    with Line(config, broker.port) as line:
        # The broker has it before the line subscribes.
        line.witness.say("recipe/set", b'{"request_id": "z", "recipe_set": "plates"}', retain=True)
        line.await_ready()
        ring = line.ring("top")
        await_judge(line, first)
        assert cli.main(["--config", str(config), "recipes", "use", "plate@2"]) == 0
        assert "plate@2 is in force" in capsys.readouterr().out
        await_judge(line, second)
        ask(line, "plate@3", "a")
        assert "plate@3 is not promoted" in await_answer(line, "a", "refused")["reason"]
        assert cli.main(["--config", str(config), "recipes", "rollback", "plate"]) == 0
        await_judge(line, first)
        killed = line.pid("scoring")
        put_in_force(folder, 3, ANNA)
        os.kill(killed, signal.SIGKILL)
        line.wait_for(lambda: line.pid("scoring") != killed, 60, "new scoring worker")
        await_judge(line, third)
        assert use_set(line, b"plates", None, "refused")["recipe_set"] is None
        answer = use_set(line, b'{"request_id": "b", "recipe_set": "x"}', "b", "refused")
        assert "no set 'x'; there are: plates, unsigned" in answer["reason"]
        answer = use_set(line, b'{"request_id": "c", "recipe_set": "unsigned"}', "c", "refused")
        assert "camera 'top': plate@4 is not promoted" in answer["reason"]
        answer = use_set(line, b'{"request_id": "d", "recipe_set": "plates"}', "d", "in_force")
        assert (answer["recipe_set"], answer["reason"]) == ("plates", None)
        await_judge(line, first)
        line.stop()
        states = [(one.payload["request_id"], one.payload["state"]) for one in line.witness.heard("recipe")]
        assert_one_verdict_a_frame(line, "top", ring)
        parts = [message.payload for message in line.witness.heard("top/verdict")]
    judged = [part for part in parts if part["recipe_sha"]]
    named = {1: first.sha, 2: second.sha, 3: third.sha}
    assert all(part["recipe_sha"] == named[part["version"]] for part in judged)
    order = [part["version"] for part in sorted(judged, key=lambda part: part["frame"])]
    changes = [one for one, before in zip(order, [0, *order], strict=False) if one != before]
    assert changes == [1, 2, 1, 3, 1], "each change is made once, between two parts"
    assert ("d", "loading") in states
    assert "z" not in dict(states), "a retained request is ignored"
    trail = AuditTrail.of(load_settings(config))
    assert trail.verify().is_whole
    assert [entry.kind for entry in trail.entries() if entry.subject == "recipe.plate.in_force"] == [
        "promotion",
        "rollback",
    ]
