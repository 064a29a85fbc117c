"""The line is not ready until known parts got their verdicts; their frames are no production."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from drivers.camera import Shot
from monitor.audit.trail import AuditTrail
from monitor.journal.reader import JournalReader
from monitor.line_state import challenge_board, challenge_request
from monitor.line_state.board import Field
from monitor.line_state.challenge_request import Act
from monitor.line_state.challenge_run import ChallengeState
from monitor.line_state.changeover import (
    ChangeoverState,
    RecipeIdentity,
    RecipeStatus,
    write_recipe_status,
)
from monitor.line_state.counts import count_verdicts
from monitor.line_state.latch_file import Latch
from monitor.line_state.ring import ScorerVerdict
from monitor.line_state.worker_process import PUBLISH, SCORING, WorkerState, capture_name
from monitor.publish.mqtt_connection import LinkState
from monitor.publish.worker import Publisher
from monitor.settings import ChallengeSettings
from monitor.verdict import Reason, Verdict, judge
from tests.unit.publish.scene import MS, Scene, StandInLink

PARTS = [
    {"id": "good-1", "camera": "top", "expected": "pass"},
    {"id": "bad-1", "camera": "top", "expected": "reject"},
]
VERIFIED = {"verified_by": "J. Smith", "verified": "1969-01-01", "expires": "1971-01-01"}
"""The scene's clock begins in 1970."""


class ChallengedScene(Scene):
    """A publisher of a line with two challenge parts, all else ready."""

    carried: ChallengeState | None = None
    at_start = True

    def start(self) -> tuple[Publisher, StandInLink]:
        if self.carried is not None:
            challenge_board.write_state(self.board, self.carried)
            self.carried = None
        return super().start()

    def begin_session(self, latch: Latch = Latch.NONE, *, connected: bool = True) -> None:
        tree = {"part": [{**part, **VERIFIED} for part in PARTS], "at_start": self.at_start}
        rules = ChallengeSettings.model_validate(tree)
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

    def ask(self, act: Act, by: str = "anna", part: str = "") -> None:
        challenge_request.ask(self.board, act, by, self.now, part)
        self.turn()

    def press(self, part: str) -> None:
        self.ask(Act.ARM, part=part)

    def show(self, part: str, score: float) -> int:
        """The part is laid under the camera, judged and taken away."""
        self.press(part)
        self.now += MS
        number = self.part(score)
        for _ in range(3):
            self.turn()
            self.link.acknowledge_all()
        self.ask(Act.CLEAR)
        return number

    def part(self, score: float | None, empty: bool = False) -> int:
        """As for every scene; None: the part is captured and waits for its score."""
        if score is not None:
            return super().part(score, empty)
        self.intake.admit(Shot(np.zeros((2, 2), np.uint8), "Mono8", self.now))
        return self.ring.last_frame()

    def judge(self, number: int, score: float, is_empty: bool = False) -> None:
        """A waiting part gets its score."""
        verdict, reason = (Verdict.PASS, Reason.NO_PART) if is_empty else judge(score, 1.0)
        self.ring.write_scored(
            number, ScorerVerdict(verdict, reason, score, 1.0, self.now, self.now, "", False)
        )

    def challenges(self, numbers: list[int]) -> list[int]:
        """The number of the challenge part that each closed frame shows."""
        found = [self.ring.final_verdict(number) for number in numbers]
        return [closed.challenge for closed in found if closed is not None]

    def kill(self) -> None:
        """The publisher is killed, once what it had put on disk is there, and started again."""
        self.publisher._challenge.close(2.0)
        self.end()
        self.publisher, self.link = self.start()

    def restart(self, *, is_carried: bool) -> None:
        """The service is started again. `is_carried`: it takes the challenge over from the board."""
        self.end()
        kept = challenge_board.read_state(self.board)
        self.carried = kept if is_carried else None
        self.begin_session()

    def wait_for_disk(self) -> None:
        until = time.monotonic() + 10
        while not self.publisher._challenge._file.is_written and time.monotonic() < until:
            time.sleep(0.001)

    def part_shown_next(self) -> object:
        self.status()
        challenge = self.link.statuses[-1]["challenge"]
        assert isinstance(challenge, dict)
        return challenge["part"]

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


def raise_full(file: Path, content: bytes) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


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
    challenged.ask(Act.BEGIN, "otto")
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
    scene.ask(Act.BEGIN, "anna")
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


def test_frames_of_a_part_that_still_lies_there_are_no_production(challenged: ChallengedScene) -> None:
    numbers = [challenged.part(0.5)]
    challenged.now += MS
    challenged.press("good-1")
    for score, is_empty in ((0.5, True), (0.5, False), (float("nan"), False), (0.5, True), (2.0, False)):
        challenged.now += MS
        numbers.append(challenged.part(score, empty=is_empty))
        challenged.turn()
    assert challenged.challenges(numbers) == [0, 0, 1, 1, 0, 0]
    counts = count_verdicts(challenged.ring)
    assert (counts.rejected, counts.challenges, counts.in_flight) == (1, (1, 0, 1), 0)


def test_without_a_presence_gate_a_person_says_that_the_part_is_away(challenged: ChallengedScene) -> None:
    challenged.show("good-1", 0.5)
    challenged.press("bad-1")
    numbers = []
    for _ in range(4):
        challenged.now += MS
        numbers.append(challenged.part(2.0))
        challenged.turn()
        challenged.link.acknowledge_all()
    assert challenged.phase() == "leaving"
    assert challenged.status() == (False, "challenge")
    challenged.ask(Act.CLEAR)
    assert challenged.status() == (True, None)
    numbers.append(challenged.part(2.0))
    challenged.turn()
    assert challenged.challenges(numbers) == [2, 2, 2, 2, 0]


def test_an_attempt_is_the_first_frame_by_capture_not_by_score(challenged: ChallengedScene) -> None:
    challenged.press("good-1")
    challenged.now += MS
    first = challenged.part(None)
    challenged.now += MS
    second = challenged.part(2.0)
    challenged.turn()
    challenged.judge(first, 0.5)
    challenged.turn()
    challenged.link.acknowledge_all()
    challenged.turn()
    assert challenged.challenges([first, second]) == [1, 1]
    assert challenged.part_shown_next() == "bad-1", "the second frame is no attempt"


def test_a_part_that_does_not_come_leaves_the_next_frame_to_production(challenged: ChallengedScene) -> None:
    challenged.press("good-1")
    assert challenged.board.read(PUBLISH, Field.CHALLENGE_CAMERA) == 1
    challenged.ask(Act.DISARM, "anna")
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
    challenged.kill()
    assert challenged.status() == (False, "challenge")
    challenged.now += MS
    number = challenged.part(2.0)
    for _ in range(3):
        challenged.turn()
        challenged.link.acknowledge_all()
    assert challenged.challenges([number]) == [2], "a part that was armed is still the next one"
    assert challenged.phase() == "leaving"
    challenged.kill()
    again = challenged.part(2.0)
    challenged.turn()
    assert challenged.challenges([again]) == [2], "it still lies there"
    challenged.ask(Act.CLEAR)
    assert challenged.status() == (True, None)
    challenged.kill()
    assert challenged.status() == (True, None)
    challenged.end()
    challenged.begin_session()
    assert challenged.status() == (False, "challenge"), "a start of the service makes it due"


def test_a_frame_of_an_earlier_part_does_not_take_the_armed_part_s_place_after_a_kill(tmp_path: Path) -> None:
    scene = ChallengedScene(tmp_path, ack_timeout_ms=60_000, actuate_ms=500)
    # A production reject waits for its answer, so that no later frame is counted yet.
    scene.part(2.0)
    scene.turn()
    scene.show("good-1", 0.5)
    scene.press("bad-1")
    scene.kill()
    assert scene.phase() == "armed"
    scene.turn()
    number = scene.part(2.0)
    scene.turn()
    assert scene.challenges([number]) == [2]
    assert scene.phase() == "shown"
    scene.end()


def test_a_failure_on_a_full_disk_outlives_stop_and_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChallengedScene, "at_start", False)
    scene = ChallengedScene(tmp_path)
    scene.show("good-1", 0.5)
    scene.show("bad-1", 2.0)
    assert scene.status() == (True, None)
    scene.wait_for_disk()
    scene.ask(Act.BEGIN)
    scene.wait_for_disk()
    on_disk = (scene.settings.line.data / "challenge.json").read_bytes()
    monkeypatch.setattr("monitor.line_state.challenge_file.write_whole", raise_full)
    scene.show("good-1", 0.5)
    scene.show("bad-1", 0.5)
    scene.show("bad-1", 0.5)
    assert scene.phase() == "failed"
    assert scene.publisher._stop() is False, "the supervisor keeps the board"
    assert (scene.settings.line.data / "challenge.json").read_bytes() == on_disk
    scene.restart(is_carried=True)
    assert scene.status() == (False, "challenge")
    assert scene.phase() == "failed"
    failure = scene.publisher._challenge._state.failure
    assert failure is not None
    assert (failure.part, failure.since is not None) == ("bad-1", True)
    scene.turn(later_ms=400)
    scene.turn(later_ms=60)
    challenge = scene.link.statuses[-1]["challenge"]
    assert isinstance(challenge, dict)
    assert "disk" in challenge["problem"]
    scene.end()


def test_a_reject_that_no_client_received_is_no_success(challenged: ChallengedScene) -> None:
    challenged.show("good-1", 0.5)
    challenged.press("bad-1")
    challenged.now += MS
    challenged.part(2.0)
    challenged.run_for(100, subscribed=False)
    challenged.ask(Act.CLEAR)
    assert challenged.phase() == "shown"
    challenged.run_for(1000, subscribed=False)
    assert challenged.phase() == "due"
    assert challenged.part_shown_next() == "bad-1"


def test_a_stop_in_the_middle_of_a_repeat_is_no_failure(challenged: ChallengedScene) -> None:
    challenged.show("good-1", 0.5)
    challenged.show("bad-1", 0.5)
    challenged.press("bad-1")
    challenged.now += MS
    number = challenged.part(None)
    challenged.publisher.run_once(stopping=True)
    assert challenged.challenges([number]) == [2]
    state = challenged.publisher._challenge._state
    assert (state.phase.value, len([one for one in state.attempts if one.wrong])) == ("due", 1)


def test_an_empty_place_that_was_judged_too_late_is_no_wrong_attempt(challenged: ChallengedScene) -> None:
    challenged.press("good-1")
    challenged.now += MS
    number = challenged.part(None)
    challenged.turn(later_ms=240)
    assert challenged.phase() == "shown"
    challenged.judge(number, float("nan"), is_empty=True)
    assert challenged.phase() == "due"
    assert challenged.publisher._challenge._state.attempts == ()
    challenged.press("good-1")
    challenged.now += MS
    challenged.part(None)
    challenged.turn(later_ms=240)
    challenged.turn(later_ms=600)
    (attempt,) = challenged.publisher._challenge._state.attempts
    assert attempt.wrong is not None


def test_a_request_that_was_given_up_arms_no_part(challenged: ChallengedScene) -> None:
    challenge_request.ask(challenged.board, Act.ARM, "anna", challenged.now, "good-1")
    challenged.turn(later_ms=6000)
    assert challenged.phase() == "due"


def test_a_challenge_that_was_not_due_can_be_withdrawn_and_is_recorded(challenged: ChallengedScene) -> None:
    challenged.show("good-1", 0.5)
    challenged.show("bad-1", 2.0)
    challenged.ask(Act.BEGIN, "otto")
    assert challenged.status() == (False, "challenge")
    challenged.press("good-1")
    challenged.ask(Act.DISARM, "otto")
    challenged.ask(Act.WITHDRAW, "otto")
    assert challenged.status() == (True, None)
    assert challenged.recorded()[-3:] == [("otto", "due"), ("otto", "due"), ("otto", "passed")]


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
