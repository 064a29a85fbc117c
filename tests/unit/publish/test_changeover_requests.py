"""Every request is answered once and in order, and what was put in force outlives whoever put it there."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.journal.writer import Journal
from monitor.line_state import changeover
from monitor.line_state.board import Board, Note
from monitor.line_state.changeover import BadRequest, ChangeoverError, Judged, Kept, Request, Standing, State
from monitor.line_state.worker_process import capture_name, roll
from monitor.names import InvalidNameError
from monitor.publish.changeover_requests import ChangeoverDesk
from monitor.publish.mqtt import LinkState
from monitor.settings import CameraSettings, Settings

TOP = CameraSettings(name="top", source="simulated://plate", recipe="plate")
PLATE, DISC = Judged("plate", "a" * 64), Judged("disc", "b" * 64)
AT_START = Standing(0, None, State.IN_FORCE, "plate", None, PLATE, (PLATE,))
TOPIC = "plant1/line1/top/recipe/set"


class StandInLink:
    def __init__(self) -> None:
        self.state, self.generation, self.places = LinkState.UP, 1, 100
        self.told: list[dict[str, Any]] = []

    def room(self, reserved: int = 1) -> int:
        return self.places

    def send(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, ttl_ms: int | None = None
    ) -> int | None:
        assert (topic, qos, retain) == ("plant1/line1/top/recipe", 1, True)
        self.told.append(json.loads(payload))
        return len(self.told)

    def states(self) -> list[tuple[object, object]]:
        return [(payload["request_id"], payload["state"]) for payload in self.told]


class Scene:
    def __init__(self, folder: Path) -> None:
        self.settings = Settings(line={"data": folder}, camera=(TOP,))  # type: ignore[arg-type]
        Board.create(folder / "board", roll(self.settings))
        self.board = Board(folder / "board", roll(self.settings))
        self.journal = Journal(folder / "journal.sqlite", self.settings.journal)
        self.link = StandInLink()
        self.desk = self.start()

    def start(self) -> ChangeoverDesk:
        log = logging.getLogger("publish")
        return ChangeoverDesk(self.settings, self.board, self.journal, log, time.time_ns)

    def ask(self, request_id: object, recipe: str) -> None:
        self.desk.hear(TOPIC, json.dumps({"request_id": request_id, "recipe": recipe}).encode())
        self.desk.tell(self.link)

    def stand(self, standing: Standing) -> None:
        changeover.stand(self.board, "top", standing)
        self.desk.tell(self.link)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.journal.close()
    made.board.close()


def in_force(number: int, request_id: str, judged: Judged) -> Standing:
    return Standing(number, request_id, State.IN_FORCE, judged.recipe, None, judged, (judged,))


def test_what_is_in_force_is_told_at_the_start_and_on_each_connection(scene: Scene) -> None:
    scene.stand(AT_START)
    scene.desk.tell(scene.link)
    assert scene.link.states() == [(None, "in_force")]
    assert scene.link.told[0]["recipe_sha"] == PLATE.sha
    scene.link.generation = 2
    scene.desk.tell(scene.link)
    scene.desk.tell(scene.link)
    assert scene.link.states() == [(None, "in_force")] * 2


def test_a_request_is_answered_with_loading_and_then_with_what_became_of_it(scene: Scene) -> None:
    scene.stand(AT_START)
    scene.ask("a", "disc")
    request = changeover.asked(scene.board, "top")
    assert request == Request(1, "a", "disc")
    scene.stand(Standing(1, "a", State.LOADING, "disc", None, PLATE, (PLATE,)))
    scene.stand(in_force(1, "a", DISC))
    assert scene.link.states() == [(None, "in_force"), ("a", "loading"), ("a", "in_force")]
    assert [payload["recipe_sha"] for payload in scene.link.told] == [PLATE.sha, None, DISC.sha]


def test_while_one_is_loading_another_is_refused_and_a_repeat_is_none(scene: Scene) -> None:
    scene.stand(AT_START)
    scene.ask("a", "disc")
    scene.ask("a", "disc")
    scene.ask("b", "ring")
    assert scene.link.states()[1:] == [("a", "loading"), ("b", "refused")]
    assert "'disc' is being loaded" in scene.link.told[-1]["reason"]
    scene.stand(in_force(1, "a", DISC))
    assert scene.link.states()[-1] == ("a", "in_force")
    scene.ask("b", "ring")
    assert changeover.asked(scene.board, "top") == Request(2, "b", "ring")


def test_the_same_bad_request_is_answered_each_time(scene: Scene) -> None:
    scene.stand(AT_START)
    for _ in range(2):
        scene.ask(7, "../plate")
    assert scene.link.states()[1:] == [(7, "refused")] * 2
    assert changeover.asked(scene.board, "top") is None


def test_a_publisher_that_follows_a_killed_one_gives_the_answer(scene: Scene) -> None:
    scene.stand(AT_START)
    scene.ask("a", "disc")
    scene.desk = scene.start()
    scene.link.told = []
    scene.ask("b", "disc")
    assert scene.link.states() == [("b", "refused"), (None, "in_force")]
    scene.stand(in_force(1, "a", DISC))
    assert scene.link.states()[-1] == ("a", "in_force")


def test_answers_wait_for_room_and_keep_their_order(scene: Scene) -> None:
    scene.link.places = 0
    scene.stand(AT_START)
    scene.ask("a", "disc")
    scene.stand(in_force(1, "a", DISC))
    assert scene.link.told == []
    scene.link.places = 5
    scene.desk.tell(scene.link)
    assert scene.link.states() == [(None, "in_force"), ("a", "loading"), ("a", "in_force")]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[" * 3000,
        b"{" * 5000,
        b'{"recipe": "plate"}',
        b'{"request_id": "a"}',
        b'{"request_id": {}, "recipe": "plate"}',
        b'{"request_id": "\xff", "recipe": "plate"}',
        json.dumps({"request_id": "x" * 65, "recipe": "plate"}).encode(),
        json.dumps({"request_id": 2**64, "recipe": "plate"}).encode(),
    ],
)
def test_what_is_no_request_is_ignored(scene: Scene, payload: bytes) -> None:
    scene.desk.hear(TOPIC, payload)
    scene.desk.hear("plant1/line1/no-such/recipe/set", b'{"request_id": "a", "recipe": "plate"}')
    scene.desk.tell(scene.link)
    assert scene.link.told == []
    assert changeover.asked(scene.board, "top") is None


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=30).map(str.encode))
def test_no_payload_breaks_the_parser(payload: bytes) -> None:
    said = ""
    try:
        changeover.parse(payload)
    except BadRequest as error:
        said = str(error)
    assert "\n" not in said


@given(reason=st.text(max_size=2000), name=st.text(max_size=64))
def test_the_longest_answer_fits_on_the_board(reason: str, name: str) -> None:
    judged = tuple(Judged("r" * 32, digit * 64) for digit in "abcd")
    words = changeover.shortened(reason)
    standing = Standing(2**63, name, State.REFUSED, "r" * 32, words, judged[0], judged)
    assert len(msgspec.msgpack.encode(standing)) <= Note.STANDING.room
    assert "\n" not in words


def test_a_frame_on_its_way_is_named_after_the_recipe_that_judged_it(tmp_path: Path) -> None:
    line = Settings(camera=(TOP,))
    Board.create(tmp_path / "board", roll(line))
    board = Board(tmp_path / "board", roll(line))
    assert changeover.recipe_name(board, TOP, "") == "plate"
    judged = changeover.succeeded(AT_START, DISC)
    changeover.stand(board, "top", Standing(1, "a", State.IN_FORCE, "disc", None, DISC, judged))
    assert changeover.recipe_name(board, TOP, PLATE.sha) == "plate"
    assert changeover.recipe_name(board, TOP, DISC.sha) == "disc"
    assert changeover.recipe_name(board, TOP, "") == "disc", "it would have judged"
    board.write_note(capture_name("top"), Note.STANDING, b"")
    assert changeover.stands(board, "top") is None


def kept(recipe: str = "disc") -> Kept:
    return Kept(
        recipe=recipe,
        instead_of="plate",
        request_id="a",
        session=str(uuid.uuid4()),
        number=1,
        utc="2026-11-24T00:00:00.000Z",
    )


def test_what_is_kept_counts_until_the_settings_name_another_recipe(tmp_path: Path) -> None:
    assert changeover.to_load(tmp_path, TOP) == "plate"
    changeover.keep(tmp_path, "top", kept())
    assert changeover.to_load(tmp_path, TOP) == "disc"
    edited = TOP.model_copy(update={"recipe": "ring"})
    assert changeover.to_load(tmp_path, edited) == "ring"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"recipe": "disc"}'])
def test_a_damaged_changeover_is_one_line_with_the_way_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "top.json").write_bytes(content)
    with pytest.raises(ChangeoverError, match="set one over MQTT, or delete the file") as raised:
        changeover.to_load(tmp_path, TOP)
    assert "top.json" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_kept_name_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    changeover.keep(tmp_path, "top", kept("../../etc"))
    with pytest.raises(InvalidNameError, match="can't be a recipe's name"):
        changeover.to_load(tmp_path, TOP)
