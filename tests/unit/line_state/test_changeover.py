"""What a changeover writes to board and disk is read back, and a damaged file or payload is one line."""

from __future__ import annotations

import uuid
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.line_state import changeover
from monitor.line_state.board import Board, Note
from monitor.line_state.changeover import (
    ChangeoverDocument,
    ChangeoverError,
    ChangeoverState,
    RecipeIdentity,
    RecipeStatus,
    RequestError,
)
from monitor.line_state.recipe_set import SetDocument
from monitor.line_state.worker_process import capture_name, worker_names
from monitor.settings import CameraSettings, Settings

TOP = CameraSettings(name="top", source="simulated://plate", recipe="plate")
PLATE, DISC = RecipeIdentity("plate", "a" * 64), RecipeIdentity("disc", "b" * 64)
AT_START = RecipeStatus(0, None, ChangeoverState.IN_FORCE, "plate", None, PLATE, (PLATE,))


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=30).map(str.encode))
def test_no_payload_breaks_the_parser(payload: bytes) -> None:
    message = ""
    try:
        changeover.parse_request(payload)
    except RequestError as error:
        message = str(error)
    assert "\n" not in message


@given(reason=st.text(max_size=2000), name=st.text(max_size=64))
def test_the_longest_answer_fits_on_the_board(reason: str, name: str) -> None:
    judged = tuple(RecipeIdentity("r" * 32, digit * 64, 10**9 - 1) for digit in "abcd")
    words = changeover.shorten_reason(reason)
    standing = RecipeStatus(2**63, name, ChangeoverState.REFUSED, "r" * 32, words, judged[0], judged)
    signed = msgspec.structs.replace(standing, request_id="f" * 64, who="\U0010ffff" * 32)
    for status in (standing, signed):
        assert len(msgspec.msgpack.encode(status)) <= Note.RECIPE_STATUS.room
    assert "\n" not in words


def test_a_frame_on_its_way_is_named_after_the_recipe_that_judged_it(tmp_path: Path) -> None:
    line = Settings(camera=(TOP,))
    Board.create(tmp_path / "board", worker_names(line))
    board = Board(tmp_path / "board", worker_names(line))
    assert changeover.find_judge(board, TOP, "").recipe == "plate"
    judged = changeover.add_recent_recipe(AT_START, DISC)
    changeover.write_recipe_status(
        board, "top", RecipeStatus(1, "a", ChangeoverState.IN_FORCE, "disc", None, DISC, judged)
    )
    assert changeover.find_judge(board, TOP, PLATE.sha).recipe == "plate"
    assert changeover.find_judge(board, TOP, DISC.sha).recipe == "disc"
    assert changeover.find_judge(board, TOP, "").recipe == "disc", (
        "an unjudged part is named after the recipe in force"
    )
    board.write_note(capture_name("top"), Note.RECIPE_STATUS, b"")
    assert changeover.read_recipe_status(board, "top") is None


def kept(recipe: str = "disc") -> ChangeoverDocument:
    return ChangeoverDocument(
        recipe=recipe,
        instead_of="plate",
        request_id="a",
        session=str(uuid.uuid4()),
        number=1,
        utc="2026-11-24T00:00:00.000Z",
    )


def test_what_is_kept_counts_until_the_settings_name_another_recipe(tmp_path: Path) -> None:
    assert changeover.find_recipe_to_load(tmp_path, TOP) == "plate"
    changeover.save_changeover(tmp_path, "top", kept())
    assert changeover.find_recipe_to_load(tmp_path, TOP) == "disc"
    edited = TOP.model_copy(update={"recipe": "ring"})
    assert changeover.find_recipe_to_load(tmp_path, edited) == "ring"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"recipe": "disc"}'])
def test_a_damaged_changeover_is_one_line_with_the_way_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "top.json").write_bytes(content)
    with pytest.raises(ChangeoverError, match="set one over MQTT, or delete the file") as raised:
        changeover.find_recipe_to_load(tmp_path, TOP)
    assert "top.json" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_kept_name_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    changeover.save_changeover(tmp_path, "top", kept("../../etc"))
    with pytest.raises(ChangeoverError, match="can't be a recipe's name"):
        changeover.find_recipe_to_load(tmp_path, TOP)


def test_a_set_counts_until_a_later_changeover_and_keeps_what_its_other_cameras_have(tmp_path: Path) -> None:
    side = CameraSettings(name="side", source="simulated://plate", recipe="plate")

    def put(request_id: str, **recipes: str) -> None:
        instead_of = dict.fromkeys(recipes, "plate")
        document = SetDocument(
            name="set", recipes=recipes, instead_of=instead_of, request_id=request_id, who="anna", utc=""
        )
        changeover.put_set_in_force(tmp_path, (TOP, side), document)

    def now() -> list[str]:
        return [changeover.find_recipe_to_load(tmp_path, camera) for camera in (TOP, side)]

    changeover.save_changeover(tmp_path, "top", kept("ring"))
    put("a", top="disc@2", side="cap")
    assert now() == ["disc@2", "cap"]
    after = changeover.find_set_in_force(tmp_path)
    changeover.save_changeover(tmp_path, "top", msgspec.structs.replace(kept("ring"), after_set=after))
    assert now() == ["ring", "cap"]
    put("b", side="lid@1")
    assert now() == ["ring", "lid@1"]
    edited = TOP.model_copy(update={"recipe": "other"})
    assert changeover.find_recipe_to_load(tmp_path, edited) == "other"
