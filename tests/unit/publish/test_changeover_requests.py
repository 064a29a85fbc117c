"""Every changeover request is answered once and in order, also after the death of a worker."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.journal.writer import JournalWriter
from monitor.line_state import changeover
from monitor.line_state.board import Board
from monitor.line_state.changeover import ChangeoverState, RecipeIdentity, RecipeStatus, Request
from monitor.line_state.worker_process import worker_names
from monitor.publish.changeover_requests import ChangeoverRequests
from monitor.publish.mqtt_connection import LinkState
from monitor.settings import CameraSettings, Settings

TOP = CameraSettings(name="top", source="simulated://plate", recipe="plate")
PLATE, DISC = RecipeIdentity("plate", "a" * 64), RecipeIdentity("disc", "b" * 64)
AT_START = RecipeStatus(0, None, ChangeoverState.IN_FORCE, "plate", None, PLATE, (PLATE,))
TOPIC = "plant1/line1/top/recipe/set"


class StandInLink:
    """In place of `monitor.publish.mqtt_connection.Link`: keeps the answers that are sent."""

    def __init__(self) -> None:
        self.state, self.generation, self.places = LinkState.UP, 1, 100
        self.sent: list[dict[str, Any]] = []
        self.topics: list[str] = []
        self.keeps_retained = True
        self.packet_room: int | None = None

    def payload_room(self, topic: str, *, qos: int = 1, expires: bool = False) -> int | None:
        return self.packet_room

    def room(self, reserved: int = 1) -> int:
        return self.places

    def send(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, ttl_ms: int | None = None
    ) -> int | None:
        # A retained answer stays at the broker, and only a camera's next answer replaces it.
        assert (qos, retain) == (1, topic == "plant1/line1/top/recipe")
        self.sent.append(json.loads(payload))
        self.topics.append(topic)
        return len(self.sent)

    def states(self) -> list[tuple[object, object]]:
        """Request id and state of each answer."""
        return [(payload["request_id"], payload["state"]) for payload in self.sent]


class Scene:
    """A line with one camera. The test plays the gateway and the scoring worker."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(line={"data": folder}, camera=(TOP,))  # type: ignore[arg-type]
        Board.create(folder / "board", worker_names(self.settings))
        self.board = Board(folder / "board", worker_names(self.settings))
        self.journal = JournalWriter(folder / "journal.sqlite", self.settings.journal)
        self.link = StandInLink()
        self.requests = self.start()

    def start(self) -> ChangeoverRequests:
        log = logging.getLogger("publish")
        return ChangeoverRequests(self.settings, self.board, self.journal, log, time.time_ns)

    def ask(self, request_id: object, recipe: str) -> None:
        """The gateway requests a recipe."""
        self.requests.take_request(TOPIC, json.dumps({"request_id": request_id, "recipe": recipe}).encode())
        self.requests.send_answers(self.link, time.monotonic_ns())

    def stand(self, standing: RecipeStatus) -> None:
        """The scoring worker reports what is in force."""
        changeover.write_recipe_status(self.board, "top", standing)
        self.requests.send_answers(self.link, time.monotonic_ns())


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.journal.close()
    made.board.close()


def in_force(number: int, request_id: str, judged: RecipeIdentity) -> RecipeStatus:
    return RecipeStatus(number, request_id, ChangeoverState.IN_FORCE, judged.recipe, None, judged, (judged,))


def test_the_recipe_in_force_is_published_at_the_start_and_on_each_connection(scene: Scene) -> None:
    scene.stand(AT_START)
    scene.requests.send_answers(scene.link, time.monotonic_ns())
    assert scene.link.states() == [(None, "in_force")]
    assert scene.link.sent[0]["recipe_sha"] == PLATE.sha
    scene.link.generation = 2
    scene.requests.send_answers(scene.link, time.monotonic_ns())
    scene.requests.send_answers(scene.link, time.monotonic_ns())
    assert scene.link.states() == [(None, "in_force")] * 2


def test_a_request_is_answered_with_loading_and_then_with_its_result(scene: Scene) -> None:
    scene.stand(AT_START)
    scene.ask("a", "disc")
    request = changeover.read_request(scene.board, "top")
    assert request == Request(1, "a", "disc")
    scene.stand(RecipeStatus(1, "a", ChangeoverState.LOADING, "disc", None, PLATE, (PLATE,)))
    scene.stand(in_force(1, "a", DISC))
    assert scene.link.states() == [(None, "in_force"), ("a", "loading"), ("a", "in_force")]
    assert [payload["recipe_sha"] for payload in scene.link.sent] == [PLATE.sha, None, DISC.sha]


def test_while_a_recipe_is_loading_another_request_is_refused_and_a_repeat_is_ignored(scene: Scene) -> None:
    scene.stand(AT_START)
    scene.ask("a", "disc")
    scene.ask("a", "disc")
    scene.ask("b", "ring")
    assert scene.link.states()[1:] == [("a", "loading"), ("b", "refused")]
    assert "'disc' is being loaded" in scene.link.sent[-1]["reason"]
    scene.stand(in_force(1, "a", DISC))
    assert scene.link.states()[-1] == ("a", "in_force")
    scene.ask("b", "ring")
    assert changeover.read_request(scene.board, "top") == Request(2, "b", "ring")


def test_the_same_bad_request_is_answered_each_time(scene: Scene) -> None:
    scene.stand(AT_START)
    for _ in range(2):
        scene.ask(7, "../plate")
    assert scene.link.states()[1:] == [(7, "refused")] * 2
    assert changeover.read_request(scene.board, "top") is None


def test_a_publisher_that_follows_a_killed_one_gives_the_answer(scene: Scene) -> None:
    scene.stand(AT_START)
    scene.ask("a", "disc")
    scene.requests = scene.start()
    scene.link.sent = []
    scene.ask("b", "disc")
    assert scene.link.states() == [("b", "refused"), (None, "in_force")]
    scene.stand(in_force(1, "a", DISC))
    assert scene.link.states()[-1] == ("a", "in_force")


def test_answers_wait_for_room_and_keep_their_order(scene: Scene) -> None:
    scene.link.places = 0
    scene.stand(AT_START)
    scene.ask("a", "disc")
    scene.stand(in_force(1, "a", DISC))
    assert scene.link.sent == []
    scene.link.places = 5
    scene.requests.send_answers(scene.link, time.monotonic_ns())
    assert scene.link.states() == [(None, "in_force"), ("a", "loading"), ("a", "in_force")]


@pytest.mark.parametrize(
    ("payload", "request_id", "recipe"),
    [
        (b"", None, None),
        (b"null", None, None),
        (b"[" * 3000, None, None),
        (b"{" * 5000, None, None),
        (b'{"recipe": "plate"}', None, "plate"),
        (b'{"request_id": "a"}', "a", None),
        (b'{"request_id": 7, "recipe": ["plate"]}', 7, None),
        (b'{"request_id": {}, "recipe": "plate"}', None, "plate"),
        (b'{"request_id": "\xff", "recipe": "plate"}', None, "plate"),
        (json.dumps({"request_id": "x" * 65, "recipe": "y" * 65}).encode(), None, "y" * 65),
        (json.dumps({"request_id": 2**64, "recipe": "plate"}).encode(), None, "plate"),
        (json.dumps({"request_id": "a", "recipe": "plate", "more": "x" * 5000}).encode(), "a", "plate"),
    ],
)
def test_a_message_that_is_no_request_is_refused_with_what_could_be_read_of_it(
    scene: Scene, payload: bytes, request_id: object, recipe: object
) -> None:
    scene.stand(AT_START)
    scene.requests.take_request(TOPIC, payload)
    scene.requests.send_answers(scene.link, time.monotonic_ns())
    answer = scene.link.sent[-1]
    assert (answer["state"], answer["request_id"], answer["recipe"]) == ("refused", request_id, recipe)
    assert answer["reason"]
    assert "\n" not in answer["reason"]
    assert answer["in_force"] == {"recipe": "plate", "recipe_sha": PLATE.sha, "version": None}
    assert changeover.read_request(scene.board, "top") is None


@pytest.mark.parametrize("name", ["no-such", "", "Top", "x" * 300, "top ", "größe"])
@pytest.mark.parametrize("payload", [b'{"request_id": "a", "recipe": "plate"}', b"nonsense"])
def test_a_request_for_a_camera_that_the_settings_do_not_have_is_refused_on_its_topic(
    scene: Scene, name: str, payload: bytes
) -> None:
    scene.requests.take_request(f"plant1/line1/{name}/recipe/set", payload)
    scene.requests.send_answers(scene.link, time.monotonic_ns())
    scene.link.generation = 2
    scene.requests.send_answers(scene.link, time.monotonic_ns())
    assert scene.link.topics == [f"plant1/line1/{name}/recipe"], "once, also over a new connection"
    (answer,) = scene.link.sent
    assert answer["state"] == "refused"
    assert answer["request_id"] == ("a" if payload.startswith(b"{") else None)
    assert ("there are: top" in answer["reason"]) is payload.startswith(b"{")


def test_refusals_for_unknown_cameras_wait_for_room_and_are_bounded(scene: Scene) -> None:
    scene.link.places = 0
    for number in range(1000):
        scene.requests.take_request(f"plant1/line1/no-{number}/recipe/set", b"{}")
    scene.requests.send_answers(scene.link, time.monotonic_ns())
    assert scene.link.sent == []
    scene.link.places = 5
    scene.requests.send_answers(scene.link, time.monotonic_ns())
    assert scene.link.topics == [f"plant1/line1/no-{number}/recipe" for number in range(980, 1000)]


def test_where_the_broker_keeps_nothing_the_answer_is_repeated_every_second(scene: Scene) -> None:
    scene.stand(AT_START)
    scene.link.keeps_retained = False
    now = time.monotonic_ns()
    for step in range(50):
        scene.requests.send_answers(scene.link, now + step * 100_000_000)
    assert 5 <= len(scene.link.states()) <= 7
    assert set(scene.link.states()) == {(None, "in_force")}


def test_where_the_broker_takes_small_packets_a_refusal_stays_one(scene: Scene) -> None:
    scene.link.packet_room = 200
    scene.stand(AT_START)
    scene.requests.take_request(TOPIC, b'{"request_id": "a", "recipe": 7}')
    scene.requests.take_request("plant1/line1/no-such/recipe/set", b'{"request_id": "b", "recipe": "plate"}')
    scene.requests.send_answers(scene.link, time.monotonic_ns())
    assert scene.link.states()[-2:] == [("a", "refused"), ("b", "refused")]
    assert all(len(json.dumps(one, separators=(",", ":"))) <= 200 for one in scene.link.sent)


def test_a_request_that_is_too_long_is_refused_with_its_request_id(scene: Scene) -> None:
    """A gateway that waits for the answer to its request gets one."""

    def refused(length: int, **more: str) -> dict[str, Any]:
        payload = {"request_id": "a", "recipe": "disc", **more, "comment": "x" * length}
        scene.requests.take_request(TOPIC, json.dumps(payload).encode())
        scene.requests.send_answers(scene.link, 0)
        return scene.link.sent[-1]

    for answer in (refused(4096), refused(60_000)):
        assert (answer["state"], answer["request_id"], answer["recipe"]) == ("refused", "a", "disc")
        assert "bytes are more than 4096" in answer["reason"]
    assert refused(0, recipe="x" * 5000)["recipe"] is None, "too long to be repeated"
    assert refused(0, request_id="x" * 5000)["request_id"] is None
    assert refused(70_000)["request_id"] is None, "a message of that size is not read"
