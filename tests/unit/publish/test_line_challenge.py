"""The line is not ready until known parts got their verdicts; their frames are no production."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.audit.trail import AuditTrail
from monitor.journal.reader import JournalReader
from monitor.line_state import challenge_request
from monitor.line_state.board import Field
from monitor.line_state.challenge_request import Act
from monitor.line_state.changeover import (
    ChangeoverState,
    RecipeIdentity,
    RecipeStatus,
    write_recipe_status,
)
from monitor.line_state.counts import count_verdicts
from monitor.line_state.latch_file import Latch
from monitor.line_state.worker_process import PUBLISH, SCORING, WorkerState, capture_name
from monitor.publish.mqtt_connection import LinkState
from monitor.settings import ChallengeSettings
from tests.unit.publish.scene import MS, Scene

PARTS = [
    {"id": "good-1", "camera": "top", "expected": "pass"},
    {"id": "bad-1", "camera": "top", "expected": "reject"},
]
VERIFIED = {"verified_by": "J. Smith", "verified": "1969-01-01", "expires": "1971-01-01"}
"""The scene's clock begins in 1970."""


class ChallengedScene(Scene):
    """A publisher of a line with two challenge parts, all else ready."""

    def __init__(self, folder: Path, **more: int) -> None:
        self._more = more
        super().__init__(folder, **more)  # type: ignore[arg-type]

    def begin_session(self, latch: Latch = Latch.NONE, *, connected: bool = True) -> None:
        parts = {"part": [{**part, **VERIFIED} for part in PARTS]}
        rules = ChallengeSettings.model_validate(parts)
        self.settings = self.settings.model_copy(update={"challenge": rules})
        super().begin_session(latch, connected=connected)
        self.put_in_force("a")
        for name in (SCORING, capture_name("top")):
            self.board.write(name, Field.EVER_RAN, 1)
            self.board.write(name, Field.STATE, WorkerState.RUNNING)
            self.board.write(name, Field.ALIVE_UNTIL_NS, 10**18)
        self.board.write(capture_name("top"), Field.CAMERA_STATE, 1)
        self.turn()

    def put_in_force(self, sha: str) -> None:
        judge = RecipeIdentity("plate", sha * 64, 1)
        status = RecipeStatus(0, None, ChangeoverState.IN_FORCE, "plate", None, judge, (judge,))
        write_recipe_status(self.board, "top", status)

    def press(self, part: str) -> None:
        challenge_request.ask(self.board, Act.ARM, "anna", part)
        self.turn()

    def show(self, part: str, score: float) -> int:
        self.press(part)
        self.now += MS
        number = self.part(score)
        for _ in range(3):
            self.turn()
            self.link.acknowledge_all()
        return number

    def verdicts(self) -> list[dict[str, object]]:
        """The payload of each verdict and reject that was sent."""
        return [payload for _, topic, payload in self.link.sent if not topic.endswith("/recipe")]

    def phase(self) -> object:
        self.status()
        challenge = self.link.statuses[-1]["challenge"]
        assert isinstance(challenge, dict)
        return challenge["phase"]

    def recorded(self) -> list[tuple[str, str | None]]:
        """Who and what of each entry about the challenge, once all of them are on disk."""
        until = time.monotonic() + 10
        while self.publisher._changes._waiting and time.monotonic() < until:
            time.sleep(0.001)
        trail = AuditTrail.of(self.settings)
        return [(one.who, one.after) for one in trail.entries() if one.kind == "challenge"]


@pytest.fixture
def challenged(tmp_path: Path) -> Iterator[ChallengedScene]:
    made = ChallengedScene(tmp_path)
    yield made
    made.end()
    made.publisher._challenge.close(2.0)


def test_the_line_is_ready_once_each_part_got_its_verdict(challenged: ChallengedScene) -> None:
    assert challenged.status() == (False, "challenge")
    challenged.part(0.5)
    challenged.turn()
    challenged.show("good-1", 0.5)
    assert challenged.status() == (False, "challenge")
    challenged.show("bad-1", 2.0)
    assert challenged.status() == (True, None)
    sent = [(one["frame"], one["challenge"]) for one in challenged.verdicts()]
    assert sent == [(1, None), (2, "good-1"), (3, "bad-1"), (3, "bad-1")]
    assert ("anna", "passed") in challenged.recorded()


def test_challenge_frames_are_in_no_count_of_production_but_in_the_journal(
    challenged: ChallengedScene,
) -> None:
    challenged.part(0.5)
    challenged.show("good-1", 0.5)
    challenged.show("bad-1", 2.0)
    challenged.part(2.0)
    challenged.turn()
    counts = count_verdicts(challenged.ring)
    assert (counts.passed, counts.rejected, counts.challenges, counts.in_flight) == (1, 1, (1, 1, 0), 0)
    challenged.publisher._recorder.record_tallies(challenged.now, now=True)
    challenged.publisher._journal.close()
    with JournalReader(challenged.settings.line.data / "journal.sqlite") as reader:
        assert [(row.frame, row.challenge) for row in reader.verdicts()] == [
            (2, "good-1"),
            (3, "bad-1"),
            (4, None),
        ]
        (tally,) = reader.tallies("", "9")
        assert (tally.passed, tally.rejected) == (1, 1)
        (total,) = reader.session_totals("")
        assert (total.frames, total.passed, total.rejected) == (4, 1, 1)


def test_a_wrong_part_is_shown_once_more_and_then_the_challenge_has_failed(
    challenged: ChallengedScene,
) -> None:
    challenged.show("good-1", 0.5)
    challenged.show("bad-1", 0.5)
    assert challenged.phase() == "due"
    challenged.show("bad-1", 0.5)
    assert challenged.phase() == "failed"
    assert challenged.status() == (False, "challenge")
    challenge_request.ask(challenged.board, Act.BEGIN, "otto")
    challenged.turn()
    assert challenged.phase() == "due"
    assert challenged.recorded()[-3:] == [("anna", "repeat"), ("anna", "failed"), ("otto", "due")]


def test_where_the_gateway_acknowledges_the_bad_part_must_be_actuated(tmp_path: Path) -> None:
    scene = ChallengedScene(tmp_path, ack_timeout_ms=200)
    scene.show("good-1", 0.5)
    scene.show("bad-1", 2.0)
    event_id = scene.verdicts()[-1]["event_id"]
    scene.answer(event_id, "accepted")
    scene.turn()
    assert scene.phase() == "shown"
    scene.answer(event_id, "actuated")
    scene.turn()
    assert scene.phase() == "passed"
    challenge_request.ask(scene.board, Act.BEGIN, "anna")
    scene.turn()
    scene.show("good-1", 0.5)
    scene.show("bad-1", 2.0)
    scene.answer(scene.verdicts()[-1]["event_id"], "accepted")
    scene.turn()
    scene.turn(later_ms=1200)
    assert scene.phase() == "due", "accepted alone is not enough: the part is shown once more"
    scene.end()


def test_a_bad_part_that_does_not_reach_the_gate_is_wrong_and_latches(challenged: ChallengedScene) -> None:
    challenged.show("good-1", 0.5)
    challenged.press("bad-1")
    challenged.link.state = LinkState.DOWN
    challenged.now += MS
    challenged.part(2.0)
    challenged.turn()
    challenged.turn(later_ms=800)
    challenged.link.reconnect()
    assert challenged.phase() == "due"
    assert challenged.status() == (False, "missed_reject"), "the graver reason is named"


def test_only_the_first_frame_with_a_part_after_the_press_shows_the_part(challenged: ChallengedScene) -> None:
    before = challenged.part(0.5)
    challenged.now += MS
    challenged.press("good-1")
    challenged.now += MS
    empty = challenged.part(0.5, empty=True)
    challenged.turn()
    shown, after = challenged.part(0.5), challenged.part(0.5)
    challenged.turn()
    marks = [challenged.ring.final_verdict(number) for number in (before, empty, shown, after)]
    assert [closed.challenge for closed in marks if closed is not None] == [0, 0, 1, 0]


def test_a_part_that_does_not_come_leaves_the_next_frame_to_production(challenged: ChallengedScene) -> None:
    challenged.press("good-1")
    assert challenged.board.read(PUBLISH, Field.CHALLENGE_CAMERA) == 1
    challenge_request.ask(challenged.board, Act.DISARM, "anna")
    challenged.turn()
    assert challenged.board.read(PUBLISH, Field.CHALLENGE_CAMERA) == 0
    number = challenged.part(0.5)
    challenged.turn()
    closed = challenged.ring.final_verdict(number)
    assert closed is not None
    assert closed.challenge == 0


def test_a_killed_publisher_leaves_the_challenge_due_and_a_success_outlives_it(
    challenged: ChallengedScene,
) -> None:
    challenged.show("good-1", 0.5)
    challenged.press("bad-1")
    # Killed: the next publisher finds the board, and the file as far as it was written.
    challenged.publisher._challenge.close(2.0)
    challenged.end()
    challenged.publisher, challenged.link = challenged.start()
    assert challenged.status() == (False, "challenge")
    challenged.now += MS
    number = challenged.part(2.0)
    for _ in range(3):
        challenged.turn()
        challenged.link.acknowledge_all()
    closed = challenged.ring.final_verdict(number)
    assert closed is not None
    assert closed.challenge == 2, "a part that was armed is still the next one"
    assert challenged.status() == (True, None)
    challenged.publisher._challenge.close(2.0)
    challenged.end()
    challenged.publisher, challenged.link = challenged.start()
    assert challenged.status() == (True, None)
    challenged.end()
    challenged.begin_session()
    assert challenged.status() == (False, "challenge"), "a start of the service makes it due"


def test_a_version_that_comes_in_force_makes_the_challenge_due(challenged: ChallengedScene) -> None:
    challenged.show("good-1", 0.5)
    challenged.show("bad-1", 2.0)
    assert challenged.status() == (True, None)
    challenged.put_in_force("b")
    challenged.turn(later_ms=60)
    assert challenged.status() == (False, "challenge")


def test_challenge_parts_count_for_no_stop_after_rejects(tmp_path: Path) -> None:
    scene = ChallengedScene(tmp_path, stop_after_rejects=1)
    scene.show("good-1", 0.5)
    scene.show("bad-1", 2.0)
    assert scene.latch() == Latch.NONE
    scene.end()


def test_a_success_that_was_not_on_disk_when_the_publisher_was_killed_is_none(
    challenged: ChallengedScene,
) -> None:
    file = challenged.settings.line.data / "challenge.json"
    challenged.show("good-1", 0.5)
    challenged.publisher._challenge.close(2.0)
    before = file.read_bytes()
    challenged.show("bad-1", 2.0)
    assert challenged.status() == (True, None)
    challenged.end()
    file.write_bytes(before)
    challenged.publisher, challenged.link = challenged.start()
    assert challenged.status() == (False, "challenge")
    file.write_bytes(b"{")
    challenged.end()
    challenged.publisher, challenged.link = challenged.start()
    assert challenged.status() == (False, "challenge"), "nor where the file can't be read"


def test_a_disk_that_hangs_delays_no_verdict_and_no_challenge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk_goes_on = threading.Event()
    monkeypatch.setattr(
        "monitor.line_state.challenge_file.write_whole", lambda file, content: disk_goes_on.wait(10)
    )
    scene = ChallengedScene(tmp_path)
    scene.show("good-1", 0.5)
    scene.show("bad-1", 2.0)
    assert scene.status() == (True, None)
    assert scene.topics().count("reject") == 1
    disk_goes_on.set()
    scene.end()
