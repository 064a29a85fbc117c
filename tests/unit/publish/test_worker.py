"""What was stored is sent once it can be, the gate's first, and nothing counts as sent that was not.

The link is a stand-in here: which message ids two connections share can't be arranged with a real broker.
The real one is in tests/integration.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from monitor.capture.worker import Intake, Times
from monitor.journal.reader import JournalReader
from monitor.line_state.board import Board, CameraState, Word, WorkerState
from monitor.line_state.counts import counts
from monitor.line_state.latch import Latch
from monitor.line_state.ring import Ring, Scored, Stage
from monitor.line_state.worker_process import PUBLISH, SCORING, Post, Worker, roll, settings_for
from monitor.publish.mqtt import LinkState, Received
from monitor.publish.worker import Publisher
from monitor.settings import Settings
from monitor.system.atomic_file import write_whole
from monitor.verdict import Reason, Verdict, judge

MS = 1_000_000


class StandInLink:
    def __init__(self) -> None:
        self.state, self.generation, self.trouble, self.places = LinkState.UP, 1, "", 100
        self.sent: list[tuple[int, str, dict[str, object]]] = []
        self.statuses: list[dict[str, object]] = []
        self.beats: list[int] = []
        self.acknowledged: set[int] = set()
        self.unheard: set[int] = set()
        self.refused: set[int] = set()
        self.dropped: list[str] = []
        self.received: list[Received] = []
        self._next = 0

    def reconnect(self) -> None:
        self.state, self.generation, self._next = LinkState.UP, self.generation + 1, 0

    def step(self) -> None: ...
    def socket(self) -> None: ...
    def close(self) -> None: ...
    def owes(self) -> bool:
        return False

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
        elif topic.endswith("/heartbeat"):
            self.beats.append(json.loads(payload)["n"])
        else:
            self.sent.append((self._next, topic, json.loads(payload)))
        return self._next

    def take_acknowledged(self) -> set[int]:
        taken, self.acknowledged = self.acknowledged, set()
        return taken

    def take_unheard(self) -> set[int]:
        taken, self.unheard = self.unheard, set()
        return taken

    def take_refused(self) -> set[int]:
        taken, self.refused = self.refused, set()
        return taken

    def take_received(self) -> list[Received]:
        taken, self.received = self.received, []
        return taken

    def drop(self, why: str) -> None:
        self.dropped.append(why)
        self.state = LinkState.DOWN


class Scene:
    """A publisher on a clock that the test owns, with a camera that lays frames into the ring."""

    def __init__(
        self, folder: Path, ack_timeout_ms: int = 0, publish_verdicts: str = "every-part", **camera: object
    ) -> None:
        self.now = 10_000 * MS
        self.taken: set[int] = set()
        """Messages that the broker has acknowledged."""
        self.folder = folder
        self.settings = Settings(
            line={"data": folder / "data"},  # type: ignore[arg-type]
            camera=({"name": "top", "source": "simulated://plate", "recipe": "plate", **camera},),  # type: ignore[arg-type]
            mqtt={"ack_timeout_ms": ack_timeout_ms, "publish_verdicts": publish_verdicts},  # type: ignore[arg-type]
        )
        (folder / "data").mkdir(exist_ok=True)
        self.begin_session()

    def begin_session(self, latch: Latch = Latch.NONE) -> None:
        """As the start of the service does: nothing of the last session is left but the data folder, and the
        latch that was found in its rings."""
        folder, session = self.folder, uuid.uuid4()
        Board.create(folder / "board", roll(self.settings))
        Ring.create(folder, "top", session)
        self.ring = Ring(folder, "top", session)
        tree = settings_for(self.settings, PUBLISH)
        self.post = Post(PUBLISH, str(folder), str(session), os.getpid(), tree)
        self.board = Board(folder / "board", roll(self.settings))
        self.board.write(PUBLISH, Word.LATCH, latch)
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
        self.publisher._latch_file.close(2.0)

    def part(self, score: float, empty: bool = False) -> int:
        from drivers.camera import Shot

        self.intake.admit(Shot(np.zeros((2, 2), np.uint8), "Mono8", self.now))
        number = self.ring.last_frame()
        verdict, reason = (Verdict.PASS, Reason.NO_PART) if empty else judge(score, 1.0)
        self.ring.write_scored(number, Scored(verdict, reason, score, 1.0, self.now, self.now, "", False))
        return number

    def turn(self, later_ms: int = 1) -> None:
        self.now += later_ms * MS
        self.publisher.run_once()

    def judge_parts(self, scores: str) -> int:
        """A part for each letter, r rejected, u uninspected, others passed; e is a frame without one. Returns
        the latch after them."""
        for letter in scores:
            self.part({"r": 2.0, "u": float("nan"), "e": float("nan")}.get(letter, 0.5), empty=letter == "e")
            self.turn()
        return self.board.read(PUBLISH, Word.LATCH)

    def reset(self) -> None:
        self.link.received.append(Received("plant1/line1/reset", b"", False))
        self.turn()

    def status(self) -> tuple[object, object]:
        """What was told last, once there was time to write the latch down."""
        until = time.monotonic() + 2
        while not self.publisher._latch_file.is_written and time.monotonic() < until:
            time.sleep(0.001)
        self.turn(later_ms=60)
        return self.link.statuses[-1]["ready"], self.link.statuses[-1]["reason"]

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


def test_a_missed_reject_is_latched_over_a_restart_of_the_service_until_somebody_resets_it(
    scene: Scene,
) -> None:
    scene.link.state = LinkState.DOWN
    scene.part(2.0)
    scene.turn()
    scene.turn(later_ms=800)
    scene.link.reconnect()
    assert scene.status() == (False, "missed_reject")
    for _ in range(2):
        scene.end()
        scene.begin_session()
        assert scene.status() == (False, "missed_reject")
    scene.reset()
    assert scene.status()[1] != "missed_reject"
    scene.end()
    scene.begin_session()
    assert scene.status()[1] != "missed_reject"


def test_a_latch_that_cant_be_read_is_a_missed_reject(scene: Scene) -> None:
    scene.end()
    (scene.folder / "data/latch.json").write_text("{")
    scene.begin_session()
    assert scene.status() == (False, "missed_reject")


def test_a_latch_is_on_disk_before_it_is_told(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()

    def slow(file: Path, content: bytes) -> None:
        let_go.wait(5)
        write_whole(file, content)

    monkeypatch.setattr("monitor.line_state.latch.write_whole", slow)
    scene.status()
    told = len(scene.link.statuses)
    scene.link.state = LinkState.DOWN
    scene.part(2.0)
    scene.turn()
    scene.turn(later_ms=800)
    scene.link.state = LinkState.UP
    scene.turn(later_ms=60)
    assert len(scene.link.statuses) == told
    assert not scene.board.read(PUBLISH, Word.READY)
    let_go.set()
    assert scene.status() == (False, "missed_reject")


def test_a_disk_that_hangs_does_not_keep_the_latch_from_being_told(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    monkeypatch.setattr("monitor.line_state.latch.write_whole", lambda file, content: let_go.wait(10))
    scene.link.state = LinkState.DOWN
    scene.part(2.0)
    scene.turn()
    scene.turn(later_ms=800)
    scene.link.reconnect()
    scene.part(2.0)
    scene.turn()
    assert "reject" in scene.topics(), "a reject does not wait for the latch"
    for _ in range(6):
        scene.turn(later_ms=60)
    assert scene.link.statuses[-1]["reason"] == "missed_reject"
    let_go.set()


@pytest.mark.parametrize("can_be_written", [True, False])
def test_a_publisher_whose_latch_is_not_on_disk_does_not_end_as_if_all_were_well(
    can_be_written: bool, tmp_path: Path
) -> None:
    scene = Scene(tmp_path)
    scene.end()
    if not can_be_written:
        (tmp_path / "data/latch.json/in-the-way").mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-m", "monitor.publish"], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(scene.post.wire())
        process.stdin.close()
        until = time.monotonic() + 20
        while not scene.board.read(PUBLISH, Word.EVER_RAN) and time.monotonic() < until:
            time.sleep(0.01)
        process.terminate()
        assert process.wait(10) == (0 if can_be_written else 1)
    latch = Latch.NONE if can_be_written else Latch.MISSED_REJECT
    assert scene.board.read(PUBLISH, Word.LATCH) == latch, "where the next start finds it"


def test_so_many_rejects_in_a_row_ask_for_a_stop(tmp_path: Path) -> None:
    scene = Scene(tmp_path, stop_after_rejects=3)
    assert scene.judge_parts("rrprr") == Latch.NONE
    assert scene.judge_parts("prurur") == Latch.REJECT_RUN, "an uninspected part says nothing"
    assert scene.status() == (False, "reject_run")
    scene.reset()
    assert scene.judge_parts("rr") == Latch.NONE, "what was before the reset counts no more"
    assert scene.judge_parts("r") == Latch.REJECT_RUN
    scene.reset()
    assert scene.judge_parts("reere") == Latch.NONE
    assert scene.judge_parts("er") == Latch.REJECT_RUN, "an empty place says nothing either"
    scene.end()


def test_too_large_a_share_of_rejects_asks_for_a_stop(tmp_path: Path) -> None:
    scene = Scene(tmp_path, stop_reject_rate=0.3, stop_reject_window=10)
    assert scene.judge_parts("rprprppppp" + "rprprppppp") == Latch.NONE
    assert scene.judge_parts("r") == Latch.NONE, "the oldest of the window is forgotten"
    assert scene.judge_parts("r") == Latch.REJECT_RATE
    assert scene.status() == (False, "reject_rate")
    scene.end()


def test_rejects_in_a_row_are_counted_over_the_publishers_death(tmp_path: Path) -> None:
    scene = Scene(tmp_path, stop_after_rejects=4)
    scene.judge_parts("rrrr")
    scene.reset()
    scene.judge_parts("rreere")
    scene.board.write(PUBLISH, Word.EVER_RAN, 1)
    scene.end()
    scene.publisher, scene.link = scene.start()
    assert scene.board.read(PUBLISH, Word.LATCH) == Latch.NONE
    assert scene.judge_parts("r") == Latch.REJECT_RUN
    scene.end()


def test_a_missed_reject_is_told_though_the_line_was_to_stop_already(tmp_path: Path) -> None:
    scene = Scene(tmp_path, stop_after_rejects=2)
    assert scene.judge_parts("rr") == Latch.REJECT_RUN
    scene.link.state = LinkState.DOWN
    scene.part(2.0)
    scene.turn()
    scene.turn(later_ms=800)
    scene.link.reconnect()
    assert scene.status() == (False, "missed_reject")
    assert scene.judge_parts("rr") == Latch.MISSED_REJECT
    scene.end()


def test_how_long_the_gateway_took_to_answer_is_kept(tmp_path: Path) -> None:
    scene = Scene(tmp_path, ack_timeout_ms=500)
    number = scene.part(2.0)
    scene.turn()
    assert scene.ring.answered_ns(number) is None
    event = scene.link.sent[0][2]["event_id"]
    answer = json.dumps({"event_id": event, "result": "accepted"}).encode()
    scene.link.received.append(Received("plant1/line1/top/ack", answer, False))
    scene.link.acknowledged = {mid for mid, _, _ in scene.link.sent}
    scene.turn(later_ms=40)
    answered, sent = scene.ring.answered_ns(number), scene.ring.sent_ns(number)
    assert answered is not None
    assert sent is not None
    assert answered - sent == 40 * MS
    unanswered = scene.part(2.0)
    scene.turn()
    scene.link.acknowledged = {mid for mid, _, _ in scene.link.sent}
    scene.turn()
    scene.turn(later_ms=600)
    assert scene.ring.stage(unanswered) is Stage.UNACKNOWLEDGED
    assert scene.ring.answered_ns(unanswered) is None
    scene.end()


def test_heartbeats_keep_time_and_begin_anew_after_a_stall(scene: Scene) -> None:
    for _ in range(20_000 // 7):
        scene.turn(later_ms=7)
    assert scene.link.beats[-1] == 20, "one a second, whatever the turns take"
    scene.turn(later_ms=5000)
    told = len(scene.link.beats)
    for _ in range(90):
        scene.turn(later_ms=10)
    assert len(scene.link.beats) == told, "none is made up for"


def test_the_run_permission_is_on_the_board_only_as_long_as_somebody_can_be_told(scene: Scene) -> None:
    def ready() -> bool:
        scene.board.write(SCORING, Word.PROMISE_NS, scene.now + 10_000 * MS)
        scene.board.write("capture-top", Word.PROMISE_NS, scene.now + 10_000 * MS)
        scene.turn(later_ms=60)
        return bool(scene.board.read(PUBLISH, Word.READY))

    for worker in (SCORING, "capture-top"):
        scene.board.write(worker, Word.STATE, WorkerState.RUNNING)
        scene.board.write(worker, Word.EVER_RAN, 1)
    scene.board.write("capture-top", Word.CAMERA_STATE, CameraState.UP)
    assert ready()
    assert scene.link.statuses[-1]["ready"] is True
    scene.link.state = LinkState.DOWN
    assert not ready()
    scene.link.reconnect()
    scene.link.places = 0
    assert not ready(), "the new connection has not been told yet"
    scene.link.places = 10
    assert ready()


def test_a_gate_that_fails_late_is_counted_among_the_missed_rejects_once(scene: Scene) -> None:
    numbers = [scene.part(2.0), scene.part(2.0)]
    scene.turn()
    scene.link.acknowledged = {mid for mid, _, _ in scene.link.sent}
    scene.turn()
    assert scene.ring.tally().cursor == numbers[-1]
    event_id = scene.link.sent[0][2]["event_id"]
    for result in ("actuated", "failed", "late"):
        answer(scene, event_id, result)
    scene.turn()
    assert counts(scene.ring).missed_rejects == 1
    assert counts(scene.ring).rejected == 2
    assert scene.ring.stage(numbers[0]) is Stage.UNACKNOWLEDGED
    assert scene.board.read(PUBLISH, Word.LATCH) == Latch.MISSED_REJECT


def test_a_gate_that_fails_after_the_publishers_death_stops_the_line_all_the_same(scene: Scene) -> None:
    number, passed = scene.part(2.0), scene.part(0.5)
    scene.turn()
    event_id = scene.link.sent[0][2]["event_id"]
    scene.link.acknowledged = {mid for mid, _, _ in scene.link.sent}
    scene.turn()
    assert scene.ring.stage(number) is Stage.SENT
    scene.end()
    scene.publisher, scene.link = scene.start()
    assert list(scene.publisher._finished) == [event_id], "the gate was told of no other"
    answer(scene, event_id, "actuated")
    scene.turn()
    assert scene.board.read(PUBLISH, Word.LATCH) == Latch.NONE
    answer(scene, event_id, "failed")
    scene.turn()
    assert scene.board.read(PUBLISH, Word.LATCH) == Latch.MISSED_REJECT
    assert (counts(scene.ring).missed_rejects, scene.ring.tally().cursor) == (1, passed)
    scene.end()
    scene.now += 20_000 * MS
    scene.publisher, scene.link = scene.start()
    assert not scene.publisher._finished, "nobody will speak of it any more"


def test_a_gateways_time_runs_from_the_sending_that_it_can_have_heard(tmp_path: Path) -> None:
    scene = Scene(tmp_path, ack_timeout_ms=300)
    number = scene.part(2.0)
    scene.turn()
    scene.link.state = LinkState.DOWN
    scene.turn(later_ms=290)
    scene.link.reconnect()
    scene.turn()
    again = scene.now
    scene.link.acknowledged = {mid for mid, _, _ in scene.link.sent[-2:]}
    scene.turn(later_ms=20)
    assert scene.ring.stage(number) is Stage.CLOSED, "it may still answer"
    answer(scene, scene.link.sent[0][2]["event_id"], "accepted")
    scene.turn()
    assert scene.ring.stage(number) is Stage.ACKNOWLEDGED
    assert scene.ring.sent_ns(number) == again
    scene.end()


@pytest.mark.parametrize("first", ["failed", "nothing"])
def test_what_was_missed_stays_so_in_the_journal_too_whatever_the_gate_says_later(
    first: str, tmp_path: Path
) -> None:
    scene = Scene(tmp_path, ack_timeout_ms=300)
    number = scene.part(2.0)
    scene.turn()
    event_id = scene.link.sent[0][2]["event_id"]
    turns(scene, 100, nobody_listens=False)
    if first == "failed":
        answer(scene, event_id, first)
    turns(scene, 300, nobody_listens=False)
    answer(scene, event_id, "actuated")
    scene.turn()
    assert scene.ring.stage(number) is Stage.UNACKNOWLEDGED
    assert counts(scene.ring).missed_rejects == 1
    scene.end()
    with JournalReader(scene.settings.line.data / "journal.sqlite") as reader:
        rows = [(row.outcome, row.ack_result) for row in reader.verdicts()]
    assert rows == [("unacknowledged", "actuated")]


def answer(scene: Scene, event_id: object, result: str) -> None:
    """The gateway's, on the camera's topic; heard at the next turn."""
    said = json.dumps({"event_id": event_id, "result": result}).encode()
    scene.link.received.append(Received("plant1/line1/top/ack", said, False))


@pytest.mark.parametrize(
    ("result", "stage"), [("accepted", Stage.ACKNOWLEDGED), ("failed", Stage.UNACKNOWLEDGED)]
)
def test_a_quick_answer_of_the_gateway_keeps_nothing_from_those_who_are_not_told_yet(
    tmp_path: Path, result: str, stage: Stage
) -> None:
    scene = Scene(tmp_path, ack_timeout_ms=3000)
    scene.turn()
    number = scene.part(2.0)
    scene.link.places = 1
    scene.turn()
    assert scene.topics() == ["reject"]
    answer(scene, scene.link.sent[0][2]["event_id"], result)
    scene.link.acknowledged = {scene.link.sent[0][0]}
    scene.turn(later_ms=40)
    assert (scene.board.read(PUBLISH, Word.LATCH) == Latch.MISSED_REJECT) is (result == "failed"), "at once"
    assert not scene.ring.stage(number).is_final
    scene.link.reconnect()
    scene.link.places = 50
    for _ in range(3):
        scene.turn()
    assert scene.topics() == ["reject", "verdict"], "the gate is not told again"
    assert not scene.ring.stage(number).is_final, "the broker does not have the verdict yet"
    scene.link.reconnect()
    scene.link.places = 50
    scene.turn()
    assert scene.topics() == ["reject", "verdict", "verdict"]
    scene.link.acknowledged = {scene.link.sent[-1][0]}
    scene.turn()
    assert scene.ring.stage(number) is stage
    answered, sent = scene.ring.answered_ns(number), scene.ring.sent_ns(number)
    assert answered is not None
    assert sent is not None
    assert answered - sent == 40 * MS
    scene.end()


def test_an_answered_reject_whose_verdict_finds_no_room_is_done_with_at_its_expiry(tmp_path: Path) -> None:
    scene = Scene(tmp_path, ack_timeout_ms=3000)
    scene.turn()
    number = scene.part(2.0)
    scene.link.places = 1
    scene.turn()
    answer(scene, scene.link.sent[0][2]["event_id"], "accepted")
    scene.link.acknowledged = {scene.link.sent[0][0]}
    scene.turn(later_ms=800)
    assert scene.ring.stage(number) is Stage.ACKNOWLEDGED
    assert scene.board.read(PUBLISH, Word.LATCH) == Latch.NONE
    assert counts(scene.ring).in_flight == 0
    scene.end()


def test_a_broker_that_keeps_the_verdict_of_an_answered_reject_to_itself_loses_the_connection(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path, ack_timeout_ms=3000)
    scene.turn()
    number = scene.part(2.0)
    scene.turn()
    answer(scene, scene.link.sent[0][2]["event_id"], "accepted")
    scene.link.acknowledged = {scene.link.sent[0][0]}
    scene.turn()
    assert not scene.link.dropped
    scene.turn(later_ms=800)
    assert scene.link.dropped
    assert scene.ring.stage(number) is Stage.ACKNOWLEDGED
    assert scene.board.read(PUBLISH, Word.LATCH) == Latch.NONE
    scene.end()


def stop_in_order(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, then: Callable[[], None] = lambda: None
) -> int:
    """`then` is what happens in each wait of 20 ms. Returns how long it took, in milliseconds."""

    def wait() -> None:
        scene.now += 20 * MS
        then()

    monkeypatch.setattr(scene.publisher, "_wait", wait)
    start = scene.now
    scene.publisher._farewell()
    return (scene.now - start) // MS


def test_a_reject_that_was_not_answered_before_the_stop_was_sent_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, ack_timeout_ms=3000, actuate_ms=8000)
    number = scene.part(2.0)
    scene.turn()
    scene.link.acknowledged = {mid for mid, _, _ in scene.link.sent}
    scene.turn()
    assert 800 <= stop_in_order(scene, monkeypatch) <= 1000, "waited for, but not for ever"
    assert scene.ring.stage(number) is Stage.UNACKNOWLEDGED
    assert scene.ring.sent_ns(number) is not None
    assert scene.board.read(PUBLISH, Word.LATCH) == Latch.MISSED_REJECT
    assert scene.link.statuses[-1]["state"] == "stopped"
    with JournalReader(scene.settings.line.data / "journal.sqlite") as reader:
        assert [row.outcome for row in reader.verdicts()] == ["unacknowledged"]
    scene.end()


def test_a_stop_waits_for_an_answer_that_comes_soon_and_latches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, ack_timeout_ms=3000, actuate_ms=8000)
    number = scene.part(2.0)
    scene.turn()
    scene.link.acknowledged = {mid for mid, _, _ in scene.link.sent}
    scene.turn()
    sent_ns, event_id = scene.now, scene.link.sent[0][2]["event_id"]

    def gateway() -> None:
        if scene.now - sent_ns > 500 * MS and not scene.ring.stage(number).is_final:
            answer(scene, event_id, "actuated")

    assert stop_in_order(scene, monkeypatch, gateway) < 600
    assert scene.ring.stage(number) is Stage.ACKNOWLEDGED
    assert scene.board.read(PUBLISH, Word.LATCH) == Latch.NONE
    scene.end()


def test_of_a_live_view_what_stays_is_told_once_and_nothing_is_for_the_gate(tmp_path: Path) -> None:
    scene = Scene(tmp_path, publish_verdicts="all", mode="latest")

    def told(scores: str) -> list[tuple[object, object]]:
        scene.link.sent = []
        scene.judge_parts(scores)
        assert set(scene.topics()) <= {"verdict"}
        scene.link.acknowledged = {mid for mid, _, _ in scene.link.sent}
        scene.turn()
        return [(payload["frame"], payload["verdict"]) for _, _, payload in scene.link.sent]

    assert told("prrrr") == [(1, "pass"), (2, "reject")]
    scene.end()
    scene.publisher, scene.link = scene.start()
    assert told("rruuupprr") == [(8, "uninspected"), (11, "pass"), (12, "pass"), (13, "reject")]
    assert counts(scene.ring).frames == 14
    assert counts(scene.ring).in_flight == 0
    scene.end()


def test_heartbeats_are_counted_on_after_the_publishers_death(scene: Scene) -> None:
    for _ in range(3):
        scene.turn(later_ms=1000)
    assert scene.link.beats == [1, 2, 3]
    scene.end()
    scene.publisher, scene.link = scene.start()
    scene.turn(later_ms=1000)
    assert scene.link.beats == [4]


def broker_takes_all(scene: Scene, nobody_listens: bool) -> None:
    """The broker acknowledges what was sent since it was last asked, at the next turn."""
    taken = {mid for mid, _, _ in scene.link.sent} - scene.taken
    scene.taken |= taken
    scene.link.acknowledged |= taken
    if nobody_listens:
        scene.link.unheard |= taken


def turns(scene: Scene, ms: int, nobody_listens: bool) -> list[tuple[object, str]]:
    """Goes on for so long. Returns what was sent meanwhile, by frame and topic."""
    sent = len(scene.link.sent)
    for _ in range(ms // 10):
        broker_takes_all(scene, nobody_listens)
        scene.turn(later_ms=10)
    return [(said["frame"], topic.rsplit("/", 1)[1]) for _, topic, said in scene.link.sent[sent:]]


def outcomes(scene: Scene) -> dict[int, str]:
    scene.end()
    with JournalReader(scene.settings.line.data / "journal.sqlite") as reader:
        return {row.frame: row.outcome for row in reader.verdicts()}


def test_rejects_that_nobody_heard_are_offered_again_and_all_at_once_when_somebody_listens(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path, actuate_ms=2000)
    numbers = [scene.part(2.0) for _ in range(3)]
    scene.turn()
    assert turns(scene, 100, nobody_listens=True) == []
    assert [scene.ring.stage(number) for number in numbers] == [Stage.SENT] * 3, "the books don't wait"
    asked = turns(scene, 600, nobody_listens=True)
    assert asked == [(numbers[0], "reject")] * 3, "one stands for all of them, five times a second"
    answered = turns(scene, 250, nobody_listens=False)
    assert answered == [(number, "reject") for number in numbers]
    assert turns(scene, 2000, nobody_listens=False) == []
    assert scene.board.read(PUBLISH, Word.LATCH) == Latch.NONE
    assert outcomes(scene) == dict.fromkeys(numbers, "published")


def test_a_line_that_nobody_listens_to_latches_nothing_and_offers_nothing_for_ever(tmp_path: Path) -> None:
    scene = Scene(tmp_path, actuate_ms=800)
    scene.turn()
    for _ in range(20):
        scene.part(2.0)
        scene.part(0.5)
        turns(scene, 50, nobody_listens=True)
    scene.link.sent.clear()
    last = turns(scene, 800, nobody_listens=True)
    assert 1 <= len(last) <= 4
    assert turns(scene, 2000, nobody_listens=True) == []
    assert scene.board.read(PUBLISH, Word.LATCH) == Latch.NONE
    assert counts(scene.ring).missed_rejects == 0
    assert outcomes(scene) == dict.fromkeys(range(1, 41, 2), "unheard")


def test_a_new_reject_goes_before_those_that_are_offered_again(tmp_path: Path) -> None:
    scene = Scene(tmp_path, actuate_ms=2000)
    old = scene.part(2.0)
    scene.turn()
    turns(scene, 150, nobody_listens=True)
    scene.link.places = 0
    turns(scene, 100, nobody_listens=True)
    new = scene.part(2.0)
    scene.link.places, scene.link.sent = 1, []
    scene.turn()
    assert [said["frame"] for _, _, said in scene.link.sent] == [new]
    scene.link.places = 10
    scene.turn(later_ms=250)
    assert {said["frame"] for _, topic, said in scene.link.sent if topic.endswith("reject")} == {new, old}
    scene.end()


def test_where_answers_are_asked_for_a_gateway_that_comes_late_is_waited_for_as_long_as_it_can_act(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path, ack_timeout_ms=300, actuate_ms=2000)
    heard, missed = scene.part(2.0), scene.part(2.0)
    scene.turn()
    turns(scene, 1000, nobody_listens=True)
    assert scene.board.read(PUBLISH, Word.LATCH) == Latch.NONE, "nobody was there to answer"
    event_id = scene.link.sent[0][2]["event_id"]
    turns(scene, 250, nobody_listens=False)
    answer(scene, event_id, "accepted")
    scene.turn()
    assert scene.ring.stage(heard) is Stage.ACKNOWLEDGED
    sent, answered = scene.ring.sent_ns(heard), scene.ring.answered_ns(heard)
    assert sent is not None
    assert answered is not None
    assert answered - sent <= 250 * MS, "the time to answer begins when somebody heard it"
    turns(scene, 400, nobody_listens=False)
    assert scene.ring.stage(missed) is Stage.UNACKNOWLEDGED, "it was heard, and not answered"
    assert scene.board.read(PUBLISH, Word.LATCH) == Latch.MISSED_REJECT
    assert outcomes(scene) == {heard: "acknowledged", missed: "unacknowledged"}


def test_where_answers_are_asked_for_a_gateway_that_never_comes_has_missed_the_reject(tmp_path: Path) -> None:
    scene = Scene(tmp_path, ack_timeout_ms=300, actuate_ms=2000)
    number = scene.part(2.0)
    scene.turn()
    turns(scene, 2100, nobody_listens=True)
    assert scene.ring.stage(number) is Stage.UNACKNOWLEDGED
    assert scene.board.read(PUBLISH, Word.LATCH) == Latch.MISSED_REJECT
    scene.end()


def test_what_was_offered_over_a_connection_that_broke_is_offered_over_the_next(tmp_path: Path) -> None:
    scene = Scene(tmp_path, actuate_ms=2000)
    number = scene.part(2.0)
    scene.turn()
    turns(scene, 150, nobody_listens=True)
    scene.turn(later_ms=200)
    assert scene.topics()[-1] == "reject"
    scene.link.reconnect()
    scene.link.sent, scene.taken = [], set()
    assert turns(scene, 250, nobody_listens=False) == [(number, "reject")]
    scene.end()


def test_what_nobody_heard_and_then_nobody_answered_is_told_right_though_the_publisher_died_of_it(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path, ack_timeout_ms=300, actuate_ms=2000)
    number = scene.part(2.0)
    scene.turn()
    turns(scene, 500, nobody_listens=True)
    # Killed before the journal's thread came to the next: all that it has is that nobody heard.
    assert scene.publisher._journal.close()
    turns(scene, 1700, nobody_listens=True)
    assert scene.ring.stage(number) is Stage.UNACKNOWLEDGED
    scene.end()
    scene.publisher, scene.link = scene.start()
    scene.turn()
    assert outcomes(scene) == {number: "unacknowledged"}


def test_a_broker_that_keeps_what_is_offered_again_to_itself_loses_the_connection(tmp_path: Path) -> None:
    scene = Scene(tmp_path, actuate_ms=2000)
    scene.part(2.0)
    scene.turn()
    turns(scene, 150, nobody_listens=True)
    scene.turn(later_ms=300)
    assert scene.topics() == ["reject", "verdict", "reject"]
    scene.turn(later_ms=1500)
    assert not scene.link.dropped
    scene.turn(later_ms=100)
    assert len(scene.link.dropped) == 1
    scene.link.reconnect()
    scene.turn(later_ms=100)
    assert len(scene.link.dropped) == 1, "the next connection owes nothing"
    scene.end()


def test_an_offer_that_the_broker_refuses_is_made_again_after_a_while(tmp_path: Path) -> None:
    scene = Scene(tmp_path, actuate_ms=2000)
    number = scene.part(2.0)
    scene.turn()
    turns(scene, 150, nobody_listens=True)
    scene.turn(later_ms=300)
    for _ in range(2):
        told = len(scene.link.sent)
        scene.link.refused = {scene.link.sent[-1][0]}
        for _ in range(40):
            scene.turn(later_ms=10)
        assert len(scene.link.sent) == told + 1
        scene.taken.add(scene.link.sent[-2][0])
    turns(scene, 300, nobody_listens=False)
    scene.turn(later_ms=1500)
    assert not scene.link.dropped
    assert outcomes(scene) == {number: "published"}


def test_it_is_said_once_when_nobody_is_subscribed_and_when_somebody_is_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def said() -> list[str]:
        rows = [row.getMessage() for row in caplog.records if "is subscribed" in row.getMessage()]
        caplog.clear()
        return [row.removeprefix("camera top: ").split(" is ")[0] for row in rows]

    caplog.set_level(logging.INFO)
    scene = Scene(tmp_path, actuate_ms=2000)
    for _ in range(3):
        scene.part(2.0)
        turns(scene, 500, nobody_listens=True)
    assert said() == ["nobody"]
    turns(scene, 500, nobody_listens=False)
    scene.part(2.0)
    turns(scene, 100, nobody_listens=False)
    assert said() == ["somebody"]
    scene.part(2.0)
    turns(scene, 500, nobody_listens=True)
    assert said() == ["nobody"]
    scene.end()
