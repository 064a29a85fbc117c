"""Every request for a set of recipes is answered once and in order, and changes no single camera's topic."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from monitor.journal.writer import JournalWriter
from monitor.line_state.board import Board
from monitor.line_state.changeover import ChangeoverState, read_request
from monitor.line_state.set_request import SetRequest, SetStatus, read_set_request, write_set_status
from monitor.line_state.worker_process import worker_names
from monitor.publish.changeover_requests import ChangeoverRequests
from monitor.publish.mqtt_connection import LinkState
from monitor.publish.set_requests import SetRequests
from monitor.settings import CameraSettings, RecipeSettings, Settings

ODD = CameraSettings(name="recipe", source="simulated://plate", recipe="plate")
SETS = RecipeSettings(sets={"bottle": {"recipe": "plate"}, "can": {"recipe": "disc"}})


class StandInLink:
    """In place of `monitor.publish.mqtt_connection.Link`: keeps the answers that are sent."""

    def __init__(self) -> None:
        self.state, self.generation, self.places, self.keeps_retained = LinkState.UP, 1, 100, True
        self.sent: list[dict[str, Any]] = []

    def payload_room(self, topic: str, *, qos: int = 1, expires: bool = False) -> int | None:
        return None

    def room(self, reserved: int = 1) -> int:
        return self.places - len(self.sent)

    def send(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, ttl_ms: int | None = None
    ) -> int | None:
        assert (topic, qos, retain) == ("plant1/line1/recipe", 1, True)
        self.sent.append(json.loads(payload))
        return len(self.sent)

    def states(self) -> list[tuple[object, object, object]]:
        return [(one["request_id"], one["state"], one["recipe_set"]) for one in self.sent]


class Scene:
    """A line whose one camera is called `recipe`. The test plays the gateway and the scoring worker."""

    def __init__(self, folder: Path, sets: RecipeSettings = SETS) -> None:
        self.settings = Settings(camera=(ODD,), recipes=sets)
        Board.create(folder / "board", worker_names(self.settings))
        self.board = Board(folder / "board", worker_names(self.settings))
        self.link = StandInLink()
        self.requests = self.start()

    def start(self) -> SetRequests:
        return SetRequests(self.settings, self.board, logging.getLogger("publish"), time.time_ns)

    def ask(self, request_id: object, name: object) -> None:
        self.say(json.dumps({"request_id": request_id, "recipe_set": name}).encode())

    def say(self, payload: bytes) -> None:
        self.requests.take_request(payload)
        self.requests.send_answers(self.link, time.monotonic_ns())

    def report(self, number: int, request_id: str | None, state: ChangeoverState, name: str | None) -> None:
        write_set_status(self.board, SetStatus(number, request_id, state, name, None))
        self.requests.send_answers(self.link, time.monotonic_ns())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_request_is_answered_with_loading_and_then_with_its_result(scene: Scene) -> None:
    scene.report(0, None, ChangeoverState.IN_FORCE, None)
    scene.ask("a", "can")
    assert read_set_request(scene.board) == SetRequest(1, "a", "can")
    scene.ask("a", "can")
    scene.ask("b", "bottle")
    scene.report(1, "a", ChangeoverState.LOADING, "can")
    scene.requests = scene.start()
    scene.report(1, "a", ChangeoverState.IN_FORCE, "can")
    assert scene.link.states() == [
        (None, "in_force", None),
        ("a", "loading", "can"),
        ("b", "refused", "bottle"),
        ("a", "loading", "can"),
        ("a", "in_force", "can"),
    ], "a repeat is ignored, another request is refused meanwhile, and a new publisher gives the answer"
    scene.ask("b", "bottle")
    assert read_set_request(scene.board) == SetRequest(2, "b", "bottle")


@pytest.mark.parametrize(
    ("payload", "request_id", "name", "words"),
    [
        (b"", None, None, "want {request_id, recipe_set}"),
        (b"[" * 3000, None, None, "want"),
        (b'{"recipe_set": "can"}', None, "can", "want"),
        (b'{"request_id": 7, "recipe": "plate"}', 7, None, "want"),
        (b'{"request_id": 7, "recipe_set": "lid"}', 7, "lid", "no set 'lid'; there are: bottle, can;"),
        (json.dumps({"request_id": "a", "recipe_set": "x" * 999}).encode(), "a", "x" * 999, "no set 'xxx"),
        (
            json.dumps({"request_id": "a", "recipe_set": "can", "more": "x" * 5000}).encode(),
            "a",
            "can",
            "more than 4096",
        ),
    ],
)
def test_what_is_no_request_for_a_known_set_is_refused_with_the_reason(
    scene: Scene, payload: bytes, request_id: object, name: object, words: str
) -> None:
    scene.say(payload)
    assert scene.link.states() == [(request_id, "refused", name)]
    assert words in scene.link.sent[0]["reason"]
    assert "\n" not in scene.link.sent[0]["reason"]
    assert read_set_request(scene.board) is None


def test_the_topic_is_no_cameras_also_where_a_camera_is_called_recipe(scene: Scene, tmp_path: Path) -> None:
    log, journal = logging.getLogger("publish"), JournalWriter(tmp_path / "j", scene.settings.journal)
    cameras = ChangeoverRequests(scene.settings, scene.board, journal, log, time.time_ns)
    assert not cameras.is_request(scene.requests.topic)
    assert cameras.is_request("plant1/line1/recipe/recipe/set")
    cameras.take_request("plant1/line1/recipe/recipe/set", b'{"request_id": "a", "recipe": "disc"}')
    assert read_request(scene.board, "recipe") is not None
    assert read_set_request(scene.board) is None
    journal.close()


def test_a_line_without_sets_is_silent_until_it_is_asked(tmp_path: Path) -> None:
    scene = Scene(tmp_path, RecipeSettings())
    scene.report(0, None, ChangeoverState.IN_FORCE, None)
    assert scene.link.sent == []
    scene.ask("a", "can")
    assert scene.link.states() == [("a", "refused", "can")]
