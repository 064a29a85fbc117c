"""A latch outlives publisher and service, and is on disk before it is published."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from monitor.line_state.board import Field
from monitor.line_state.latch_file import Latch
from monitor.line_state.worker_process import PUBLISH
from monitor.publish.mqtt_connection import LinkState
from monitor.system.atomic_file import write_whole
from tests.unit.publish.scene import Scene


def test_a_missed_reject_stays_latched_over_restarts_of_the_service_until_a_reset(
    scene: Scene,
) -> None:
    scene.miss_reject()
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


@pytest.mark.parametrize(
    "camera", [{}, {"on_uninspected": "stop"}, {"stop_after_rejects": 2}, {"stop_reject_rate": 0.01}]
)
@pytest.mark.parametrize("acks", [0, 300])
def test_parts_before_the_first_contact_with_the_broker_latch_nothing(
    acks: int, camera: dict[str, object], tmp_path: Path
) -> None:
    scene = Scene(tmp_path, ack_timeout_ms=acks, **camera)
    scene.end()
    scene.begin_session(connected=False)
    scene.link.state = LinkState.DOWN
    assert scene.judge_parts("rrur" * 3) == Latch.NONE
    scene.turn(later_ms=2000)
    assert scene.latch() == Latch.NONE
    scene.end()
    scene.publisher, scene.link = scene.start()
    scene.link.state = LinkState.DOWN
    scene.turn()
    assert scene.latch() == Latch.NONE, "nor for a publisher that follows a dead one"
    scene.part(2.0)
    scene.turn()
    scene.link.reconnect()
    scene.turn(later_ms=60)
    scene.turn(later_ms=900)
    assert scene.latch() == Latch.NONE, (
        "the part came before the contact, and its reject was not acknowledged"
    )
    scene.link.reconnect()
    scene.turn(later_ms=60)
    scene.miss_reject()
    assert scene.latch() != Latch.NONE, "the part came after the contact"
    scene.end()


def test_a_latch_of_an_earlier_session_holds_also_before_the_first_contact(scene: Scene) -> None:
    scene.miss_reject()
    scene.link.reconnect()
    scene.status()
    scene.end()
    scene.begin_session(connected=False)
    scene.link.state = LinkState.DOWN
    scene.turn()
    assert scene.latch() == Latch.MISSED_REJECT


def test_a_latch_that_cant_be_read_is_a_missed_reject(scene: Scene) -> None:
    scene.end()
    (scene.folder / "data/latch.json").write_text("{")
    scene.begin_session()
    assert scene.status() == (False, "missed_reject")


def test_a_latch_is_on_disk_before_it_is_published(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    disk_goes_on = threading.Event()

    def slow(file: Path, content: bytes) -> None:
        disk_goes_on.wait(5)
        write_whole(file, content)

    monkeypatch.setattr("monitor.line_state.latch_file.write_whole", slow)
    scene.status()
    before = len(scene.link.statuses)
    scene.miss_reject()
    scene.link.state = LinkState.UP
    scene.turn(later_ms=60)
    assert len(scene.link.statuses) == before
    assert not scene.board.read(PUBLISH, Field.READY)
    disk_goes_on.set()
    assert scene.status() == (False, "missed_reject")


def test_a_latch_is_published_after_a_while_though_the_disk_hangs(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk_goes_on = threading.Event()
    monkeypatch.setattr(
        "monitor.line_state.latch_file.write_whole", lambda file, content: disk_goes_on.wait(10)
    )
    scene.miss_reject()
    scene.link.reconnect()
    scene.part(2.0)
    scene.turn()
    assert "reject" in scene.topics(), "a reject does not wait for the latch"
    for _ in range(6):
        scene.turn(later_ms=60)
    assert scene.link.statuses[-1]["reason"] == "missed_reject"
    disk_goes_on.set()


def test_a_missed_reject_is_published_though_another_latch_is_set(tmp_path: Path) -> None:
    scene = Scene(tmp_path, stop_after_rejects=2)
    assert scene.judge_parts("rr") == Latch.REJECT_RUN
    scene.miss_reject()
    scene.link.reconnect()
    assert scene.status() == (False, "missed_reject")
    assert scene.judge_parts("rr") == Latch.MISSED_REJECT
    scene.end()
