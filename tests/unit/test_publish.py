"""What was stored is sent once it can be, the gate's first, and nothing counts as sent that was not.

The link is a stand-in here: which message ids two connections share can't be arranged with a real broker.
The real one is in tests/integration.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from monitor.board import Board, Word, WorkerState
from monitor.capture import Intake, Times
from monitor.metrics import counts
from monitor.mqtt import LinkState, Received
from monitor.publish import Publisher
from monitor.readiness import Latch
from monitor.ring import Ring, Scored, Stage
from monitor.settings import Settings
from monitor.verdict import Reason, Verdict, judge
from monitor.worker import PUBLISH, SCORING, Post, Worker, roll, settings_for

MS = 1_000_000


class StandInLink:
    def __init__(self) -> None:
        self.state, self.generation, self.trouble, self.places = LinkState.UP, 1, "", 100
        self.sent: list[tuple[int, str, dict[str, object]]] = []
        self.statuses: list[dict[str, object]] = []
        self.acknowledged: set[int] = set()
        self.dropped: list[str] = []
        self.received: list[Received] = []
        self._next = 0

    def reconnect(self) -> None:
        self.state, self.generation, self._next = LinkState.UP, self.generation + 1, 0

    def step(self) -> None: ...
    def socket(self) -> None: ...
    def refusal(self) -> str:
        return ""

    def room(self, reserved: int = 1) -> int:
        return self.places if self.state is LinkState.UP else 0

    def send(self, topic: str, payload: bytes, **more: object) -> int | None:
        if self.state is not LinkState.UP:
            return None
        self._next += 1
        self.places -= 1
        if topic.endswith("/status"):
            self.statuses.append(json.loads(payload))
        elif not topic.endswith("/heartbeat"):
            self.sent.append((self._next, topic, json.loads(payload)))
        return self._next

    def take_acknowledged(self) -> set[int]:
        taken, self.acknowledged = self.acknowledged, set()
        return taken

    def take_received(self) -> list[Received]:
        taken, self.received = self.received, []
        return taken

    def drop(self, why: str) -> None:
        self.dropped.append(why)
        self.state = LinkState.DOWN


class Scene:
    """A publisher on a clock that the test owns, with a camera that lays frames into the ring."""

    def __init__(self, folder: Path, ack_timeout_ms: int = 0) -> None:
        self.now = 10_000 * MS
        self.settings = Settings(
            line={"data": folder / "data"},  # type: ignore[arg-type]
            camera=({"name": "top", "source": "simulated://plate", "recipe": "plate"},),  # type: ignore[arg-type]
            mqtt={"ack_timeout_ms": ack_timeout_ms},  # type: ignore[arg-type]
        )
        (folder / "data").mkdir(exist_ok=True)
        session = uuid.uuid4()
        Board.create(folder / "board", roll(self.settings))
        Ring.create(folder, "top", session)
        self.ring = Ring(folder, "top", session)
        tree = settings_for(self.settings, PUBLISH)
        self.post = Post(PUBLISH, str(folder), str(session), os.getpid(), tree)
        self.board = Board(folder / "board", roll(self.settings))
        self.intake = Intake(
            self.settings.camera[0], self.ring, lambda frame: None, Times(lambda: self.now, lambda: self.now)
        )
        self.publisher, self.link = self.start()

    def start(self) -> tuple[Publisher, StandInLink]:
        publisher, link = Publisher(Worker(self.post), lambda: self.now, lambda: self.now), StandInLink()
        publisher._link = link  # type: ignore[assignment]
        return publisher, link

    def end(self) -> None:
        """As the end of its process would."""
        self.publisher._verdicts.close()
        self.publisher._journal.close()

    def part(self, score: float) -> int:
        from drivers.camera import Shot

        self.intake.admit(Shot(np.zeros((2, 2), np.uint8), "Mono8", self.now))
        number = self.ring.last_frame()
        verdict, reason = judge(score, 1.0)
        self.ring.write_scored(number, Scored(verdict, reason, score, 1.0, self.now, self.now, "", False))
        return number

    def turn(self, later_ms: int = 1) -> None:
        self.now += later_ms * MS
        self.publisher.run_once()

    def topics(self) -> list[str]:
        return [topic.rsplit("/", 1)[1] for _, topic, _ in self.link.sent]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.end()


def test_a_reject_goes_to_the_gate_first_and_is_sent_once_the_broker_has_it(scene: Scene) -> None:
    scene.part(0.5)
    number = scene.part(2.0)
    scene.turn()
    assert scene.topics() == ["reject", "verdict", "verdict"]
    assert scene.ring.stage(number) is Stage.CLOSED
    scene.link.acknowledged = {mid for mid, _, _ in scene.link.sent}
    scene.turn()
    assert scene.ring.stage(number) is Stage.SENT
    now = counts(scene.ring)
    assert (now.frames, now.passed, now.rejected, now.in_flight) == (2, 1, 1, 0)


def test_another_connections_acknowledgements_count_for_nothing(scene: Scene) -> None:
    number = scene.part(2.0)
    scene.turn()
    first = {mid for mid, _, _ in scene.link.sent}
    scene.link.state = LinkState.DOWN
    scene.turn()
    scene.link.reconnect()
    scene.link.acknowledged = first
    scene.turn()
    assert scene.ring.stage(number) is Stage.CLOSED
    assert scene.topics() == ["reject", "verdict"] * 2, "sent anew on the new connection"
    payloads = [payload for _, topic, payload in scene.link.sent if topic.endswith("reject")]
    assert payloads[0]["event_id"] == payloads[1]["event_id"]


def test_what_expired_unsent_is_never_sent_and_latches(scene: Scene) -> None:
    scene.link.state = LinkState.DOWN
    number = scene.part(2.0)
    scene.turn()
    scene.turn(later_ms=800)
    scene.link.reconnect()
    scene.turn()
    assert scene.link.sent == []
    assert scene.ring.stage(number) is Stage.EXPIRED
    assert scene.board.read(PUBLISH, Word.LATCH) == Latch.MISSED_REJECT
    assert counts(scene.ring).missed_rejects == 1


def test_a_broker_that_keeps_a_reject_to_itself_loses_the_connection(scene: Scene) -> None:
    scene.part(2.0)
    scene.turn()
    scene.turn(later_ms=800)
    assert scene.link.dropped
    assert scene.board.read(PUBLISH, Word.LATCH) == Latch.MISSED_REJECT


def test_a_pass_that_nobody_could_be_told_latches_nothing(scene: Scene) -> None:
    scene.link.state = LinkState.DOWN
    scene.part(0.5)
    scene.turn()
    scene.turn(later_ms=800)
    assert scene.board.read(PUBLISH, Word.LATCH) == Latch.NONE


def test_a_publisher_that_follows_a_killed_one_sends_what_was_stored_and_not_sent(scene: Scene) -> None:
    scene.link.state = LinkState.DOWN
    number = scene.part(2.0)
    scene.turn()
    closed = scene.ring.closed(number)
    scene.end()
    scene.publisher, scene.link = scene.start()
    scene.turn(later_ms=600)
    assert scene.topics() == ["reject", "verdict"]
    assert scene.ring.closed(number) == closed, "a verdict is never decided anew"
    assert closed is not None
    assert (closed.verdict, closed.reason) == (Verdict.REJECT, Reason.NONE)


def test_one_place_at_the_broker_goes_to_the_gates_message(scene: Scene) -> None:
    scene.turn()
    scene.part(0.5)
    scene.part(2.0)
    scene.link.places = 1
    scene.turn()
    assert scene.topics() == ["reject"]
    scene.link.acknowledged, scene.link.places = {scene.link.sent[0][0]}, 5
    scene.turn()
    assert sorted(scene.topics()) == ["reject", "verdict", "verdict"]


def test_drift_is_told_once_while_the_scorer_lives_and_not_of_one_that_is_gone(scene: Scene) -> None:
    def after(state: WorkerState, higher: int, lower: int) -> list[object]:
        scene.board.write(SCORING, Word.STATE, state)
        scene.board.write(SCORING, Word.PROMISE_NS, scene.now + 10_000 * MS)
        scene.board.write(SCORING, Word.DRIFT_HIGHER, higher)
        scene.board.write(SCORING, Word.DRIFT_LOWER, lower)
        told = len(scene.link.statuses)
        for _ in range(3):
            scene.turn(later_ms=60)
        return [status["drift"] for status in scene.link.statuses[told:]]

    assert after(WorkerState.RUNNING, 0, 0) == [[]]
    assert after(WorkerState.RUNNING, 1, 0) == [["top"]]
    assert after(WorkerState.RUNNING, 1, 0) == [], "it has been told"
    assert after(WorkerState.STOPPED, 1, 0) == [[]]
    assert after(WorkerState.RUNNING, 0, 1) == [["top"]]
    assert after(WorkerState.RUNNING, 0, 0) == [[]]
