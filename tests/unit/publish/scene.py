"""A publisher on a clock that the test owns, between a camera and a link that the test plays.

The link is no real one, because a real broker can't be made to give two connections the same message ids. The
real link is tested in tests/integration/test_mqtt.py. Holds no test.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from pathlib import Path

import numpy as np

from drivers.camera import Shot
from monitor.capture.worker import Clocks, Intake
from monitor.journal.reader import JournalReader
from monitor.line_state.board import Board, Field
from monitor.line_state.latch_file import Latch
from monitor.line_state.ring import Ring, ScorerVerdict
from monitor.line_state.worker_process import PUBLISH, Worker, WorkerStart, settings_for, worker_names
from monitor.publish.broker_client import Received
from monitor.publish.mqtt_connection import LinkState
from monitor.publish.worker import Publisher
from monitor.settings import Settings
from monitor.verdict import Reason, Verdict, judge

MS = 1_000_000


class StandInLink:
    """In place of `mqtt_connection.Link`: keeps what is sent, acknowledges only what the test tells."""

    def __init__(self) -> None:
        self.state, self.generation, self.trouble, self.places = LinkState.UP, 1, "", 100
        self.sent: list[tuple[int, str, dict[str, object]]] = []
        """Message id, topic and payload of each reject and verdict."""
        self.statuses: list[dict[str, object]] = []
        self.beats: list[int] = []
        self.counts: list[dict[str, int] | None] = []
        """The counts of each heartbeat."""
        self.acknowledged: set[int] = set()
        self.unheard: set[int] = set()
        self.refused: set[int] = set()
        self.dropped: list[str] = []
        self.received: list[Received] = []
        self._next = 0

    limitations: tuple[str, ...] = ()
    keeps_retained = True
    must_listen = False
    packet_room: int | None = None
    """The bytes of payload that the broker takes; None is no limit."""

    def payload_room(self, topic: str, **more: object) -> int | None:
        return self.packet_room

    def reconnect(self) -> None:
        self.state, self.generation, self._next = LinkState.UP, self.generation + 1, 0

    def acknowledge_all(self) -> None:
        """The broker acknowledges all that this link was ever given."""
        self.acknowledged = {message for message, _, _ in self.sent}

    def step(self) -> None: ...
    def socket(self) -> None: ...
    def close(self) -> None: ...
    def has_unacknowledged(self) -> bool:
        return False

    def refusal(self) -> str:
        return ""

    def room(self, reserved: int = 1) -> int:
        return self.places if self.state is LinkState.UP else 0

    def spare_room(self) -> int:
        return self.room()

    def send(self, topic: str, payload: bytes, **more: object) -> int | None:
        if self.state is not LinkState.UP:
            return None
        self._next += 1
        self.places -= 1
        if topic.endswith("/status"):
            self.statuses.append(json.loads(payload))
        elif topic.endswith("/heartbeat"):
            beat = json.loads(payload)
            self.beats.append(beat["n"])
            self.counts.append(beat.get("counts"))
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
    """A publisher, its link, and the ring of one camera called `top`. `camera` are further settings of it."""

    def __init__(
        self, folder: Path, ack_timeout_ms: int = 0, publish_verdicts: str = "every-part", **camera: object
    ) -> None:
        self.now = 10_000 * MS
        self.taken: set[int] = set()
        """Messages that the broker has acknowledged in `run_for`."""
        self.folder = folder
        self.settings = Settings(
            line={"data": folder / "data"},  # type: ignore[arg-type]
            camera=({"name": "top", "source": "simulated://plate", "recipe": "plate", **camera},),  # type: ignore[arg-type]
            mqtt={"ack_timeout_ms": ack_timeout_ms, "publish_verdicts": publish_verdicts},  # type: ignore[arg-type]
        )
        (folder / "data").mkdir(exist_ok=True)
        self.begin_session()

    def begin_session(self, latch: Latch = Latch.NONE, *, connected: bool = True) -> None:
        """As the start of the service: of the last session only the data folder is left, and the latch that
        was found in its rings. `connected`: the session has reached the broker already."""
        folder, session = self.folder, uuid.uuid4()
        Board.create(folder / "board", worker_names(self.settings))
        Ring.create(folder, "top", session)
        self.ring = Ring(folder, "top", session)
        tree = settings_for(self.settings, PUBLISH)
        self.post = WorkerStart(PUBLISH, str(folder), str(session), os.getpid(), tree)
        self.board = Board(folder / "board", worker_names(self.settings))
        self.board.write(PUBLISH, Field.LATCH, latch)
        self.board.write(PUBLISH, Field.EVER_CONNECTED, self.now if connected else 0)
        self.intake = Intake(
            self.settings.camera[0], self.ring, lambda frame: None, Clocks(lambda: self.now, lambda: self.now)
        )
        self.publisher, self.link = self.start()

    def start(self) -> tuple[Publisher, StandInLink]:
        """A publisher that follows the one before it, as after its restart."""
        link = StandInLink()
        worker = Worker(self.post)
        return Publisher(worker, lambda: self.now, lambda: self.now, link), link  # type: ignore[arg-type]

    def end(self) -> None:
        """As the end of the publisher's process."""
        self.publisher._verdicts.close()
        self.publisher._journal.close()
        self.publisher._latch.close(2.0)
        self.publisher._changes.close(2.0)

    def part(self, score: float, empty: bool = False) -> int:
        """A part is captured and scored against a threshold of 1. Returns the frame's number."""
        self.intake.admit(Shot(np.zeros((2, 2), np.uint8), "Mono8", self.now))
        number = self.ring.last_frame()
        verdict, reason = (Verdict.PASS, Reason.NO_PART) if empty else judge(score, 1.0)
        self.ring.write_scored(
            number, ScorerVerdict(verdict, reason, score, 1.0, self.now, self.now, "", False)
        )
        return number

    def turn(self, later_ms: int = 1) -> None:
        self.now += later_ms * MS
        self.publisher.run_once()

    def judge_parts(self, scores: str) -> int:
        """A part for each letter: r is rejected, u uninspected, every other passed; e is a frame without a
        part. Returns the latch after them."""
        for letter in scores:
            self.part({"r": 2.0, "u": float("nan"), "e": float("nan")}.get(letter, 0.5), empty=letter == "e")
            self.turn()
        return self.latch()

    def miss_reject(self) -> int:
        """A reject expires while the broker is away. Returns the frame's number."""
        self.link.state = LinkState.DOWN
        number = self.part(2.0)
        self.turn()
        self.turn(later_ms=800)
        return number

    def latch(self) -> int:
        return self.board.read(PUBLISH, Field.LATCH)

    def reset(self) -> None:
        self.link.received.append(Received("plant1/line1/reset", b"", False))
        self.turn()

    def answer(self, event_id: object, result: str) -> None:
        """The gateway acknowledges a reject; the publisher takes it in its next turn."""
        payload = json.dumps({"event_id": event_id, "result": result}).encode()
        self.link.received.append(Received("plant1/line1/top/ack", payload, False))

    def status(self) -> tuple[object, object]:
        """The last published `ready` and reason, after the latch had time to be written."""
        until = time.monotonic() + 10
        while not self.publisher._latch._file.is_written and time.monotonic() < until:
            time.sleep(0.001)
        self.turn(later_ms=60)
        return self.link.statuses[-1]["ready"], self.link.statuses[-1]["reason"]

    def topics(self) -> list[str]:
        """The last level of each sent message's topic."""
        return [topic.rsplit("/", 1)[1] for _, topic, _ in self.link.sent]

    def run_for(self, ms: int, *, subscribed: bool) -> list[tuple[object, str]]:
        """A turn every 10 ms, while the broker acknowledges everything; `subscribed`: a client receives it.
        Returns what was sent meanwhile, as frame number and last level of the topic."""
        sent = len(self.link.sent)
        for _ in range(ms // 10):
            taken = {message for message, _, _ in self.link.sent} - self.taken
            self.taken |= taken
            self.link.acknowledged |= taken
            if not subscribed:
                self.link.unheard |= taken
            self.turn(later_ms=10)
        return [(payload["frame"], topic.rsplit("/", 1)[1]) for _, topic, payload in self.link.sent[sent:]]

    def outcomes(self) -> dict[int, str]:
        """What the journal keeps of each frame, once the publisher has ended."""
        self.end()
        with JournalReader(self.settings.line.data / "journal.sqlite") as reader:
            return {row.frame: row.outcome for row in reader.verdicts()}
