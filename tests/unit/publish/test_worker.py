"""A publisher goes on where a killed one was, and an orderly stop leaves no verdict unaccounted for."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from drivers.camera import Shot
from monitor.capture.worker import Clocks, Intake
from monitor.journal.reader import JournalReader
from monitor.line_state.board import Field
from monitor.line_state.latch_file import Latch
from monitor.line_state.live_settings import write_live_settings
from monitor.line_state.ring import Ring, ScorerVerdict, Stage
from monitor.line_state.worker_process import PUBLISH, Worker
from monitor.publish.broker_client import Received
from monitor.publish.mqtt_connection import LinkState
from monitor.publish.worker import Publisher
from monitor.settings import LogLevel, LogSettings, Mode
from monitor.verdict import Reason, Verdict
from tests.unit.publish.scene import MS, Scene, StandInLink


def test_a_publisher_that_follows_a_killed_one_sends_what_was_stored_and_not_sent(scene: Scene) -> None:
    scene.link.state = LinkState.DOWN
    number = scene.part(2.0)
    scene.turn()
    closed = scene.ring.final_verdict(number)
    scene.end()
    scene.publisher, scene.link = scene.start()
    scene.turn(later_ms=600)
    assert scene.topics() == ["reject", "verdict"]
    assert scene.ring.final_verdict(number) == closed, "a verdict is never changed"
    assert closed is not None
    assert (closed.verdict, closed.reason) == (Verdict.REJECT, Reason.NONE)


class BesideAView(Scene):
    """A publisher with a live view called `live` before the camera of parts in the settings."""

    def begin_session(self, latch: Latch = Latch.NONE) -> None:
        top = self.settings.camera[0]
        self.settings = self.settings.model_copy(
            update={"camera": (top.model_copy(update={"name": "live", "mode": Mode.LATEST}), top)}
        )
        super().begin_session(latch)
        self.view.admit(Shot(np.zeros((2, 2), np.uint8), "Mono8", self.now))
        scored = ScorerVerdict(Verdict.PASS, Reason.NONE, 0.5, 1.0, self.now, self.now, "", False)
        self.view_ring.write_scored(1, scored)

    def start(self) -> tuple[Publisher, StandInLink]:
        Ring.create(self.folder, "live", self.ring.session)
        self.view_ring = Ring(self.folder, "live", self.ring.session)
        clocks = Clocks(lambda: self.now, lambda: self.now)
        self.view = Intake(self.settings.camera[0], self.view_ring, lambda frame: None, clocks)
        self.intake = Intake(self.settings.camera[1], self.ring, lambda frame: None, clocks)
        return super().start()


def test_a_parts_pass_is_sent_before_the_verdict_of_a_live_view_that_came_first(tmp_path: Path) -> None:
    """Where the broker takes few messages, a pass that waits behind a view's verdict comes too late."""
    scene = BesideAView(tmp_path, publish_verdicts="all")
    scene.now += 5 * MS
    scene.part(0.5)
    scene.link.places = 2
    scene.turn()
    assert [topic for _, topic, _ in scene.link.sent] == [
        "plant1/line1/top/verdict",
        "plant1/line1/live/verdict",
    ]
    scene.end()


@pytest.mark.parametrize("can_be_written", [True, False])
def test_a_publisher_whose_latch_is_not_on_disk_ends_with_an_error(
    can_be_written: bool, tmp_path: Path
) -> None:
    scene = Scene(tmp_path)
    scene.end()
    if not can_be_written:
        (tmp_path / "data/latch.json/in-the-way").mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-m", "monitor.publish"], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(scene.post.to_json())
        process.stdin.close()
        until = time.monotonic() + 60
        while not scene.board.read(PUBLISH, Field.EVER_RAN) and time.monotonic() < until:
            time.sleep(0.01)
        process.terminate()
        assert process.wait(10) == (0 if can_be_written else 1)
    latch = Latch.NONE if can_be_written else Latch.MISSED_REJECT
    assert scene.latch() == latch, "the next start reads it from the board"


def stop_in_order(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, then: Callable[[], None] = lambda: None
) -> int:
    """Stops the publisher; `then` runs in each of its waits of 20 ms. Returns how long the stop took, in
    milliseconds."""

    def wait() -> None:
        scene.now += 20 * MS
        then()

    monkeypatch.setattr(scene.publisher, "_wait", wait)
    start = scene.now
    scene.publisher._stop()
    return (scene.now - start) // MS


def test_a_reject_without_an_answer_at_the_stop_is_unacknowledged_and_latches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, ack_timeout_ms=3000, actuate_ms=8000)
    number = scene.part(2.0)
    scene.turn()
    scene.link.acknowledge_all()
    scene.turn()
    assert 800 <= stop_in_order(scene, monkeypatch) <= 1000, (
        "the stop waits for the answer, but not for its whole 3 s"
    )
    assert scene.ring.stage(number) is Stage.UNACKNOWLEDGED
    assert scene.ring.sent_ns(number) is not None
    assert scene.latch() == Latch.MISSED_REJECT
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
    scene.link.acknowledge_all()
    scene.turn()
    sent_ns, event_id = scene.now, scene.link.sent[0][2]["event_id"]

    def gateway() -> None:
        if scene.now - sent_ns > 500 * MS and not scene.ring.stage(number).is_final:
            scene.answer(event_id, "actuated")

    assert stop_in_order(scene, monkeypatch, gateway) < 600
    assert scene.ring.stage(number) is Stage.ACKNOWLEDGED
    assert scene.latch() == Latch.NONE
    scene.end()


def test_settings_that_were_taken_over_are_in_the_record_of_changes(scene: Scene) -> None:
    scene.turn()
    camera = scene.settings.camera[0].model_copy(update={"deadline_ms": 300, "actuate_ms": 800})
    # The publisher takes over the level of this process's log too: its usual one.
    log = LogSettings(level=LogLevel.WARNING)
    write_live_settings(scene.board, scene.settings.model_copy(update={"camera": (camera,), "log": log}))
    scene.turn()
    scene.turn()
    scene.end()
    with JournalReader(scene.settings.line.data / "journal.sqlite") as reader:
        changes = [(one.what, one.old, one.new) for one in reader.changes()]
    assert changes.count(("camera.top.deadline_ms", None, "300")) == 1


def test_the_publisher_that_follows_one_that_waits_for_another_line_listens_too(scene: Scene) -> None:
    """It would throw the other line out, for which the one before it waits."""

    def listens(connected: bool, waits: bool) -> bool:
        scene.board.write(PUBLISH, Field.EVER_CONNECTED, scene.now if connected else 0)
        scene.link.must_listen = waits
        scene.turn()
        scene.end()
        follower = Publisher(Worker(scene.post), lambda: scene.now, lambda: scene.now)
        scene.publisher = follower
        follower._link, scene.link = scene.link, follower._link  # type: ignore[assignment]
        listens, scene.link = scene.link.must_listen, follower._link  # type: ignore[assignment]
        return listens

    scene.link.state = LinkState.DOWN
    cases = [(True, False), (True, True), (False, False), (False, True)]
    assert [listens(*case) for case in cases] == [False, True, True, True]


def test_a_line_that_the_broker_lets_not_read_its_heartbeat_says_what_that_costs(scene: Scene) -> None:
    scene.turn()
    scene.turn(later_ms=4900)
    assert scene.board.read_trouble(PUBLISH) == ""
    scene.turn(later_ms=200)
    assert "plant1/line1/heartbeat, as in config/mosquitto-acl-example" in scene.board.read_trouble(PUBLISH)
    session = json.dumps({"session": str(scene.publisher._worker.session), "n": 7}).encode()
    scene.link.received.append(Received("plant1/line1/heartbeat", session, False))
    scene.turn()
    assert scene.board.read_trouble(PUBLISH) == ""
