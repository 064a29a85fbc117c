"""A latch outlives publisher and service, and is on disk before it is published."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from monitor.line_state.board import Field
from monitor.line_state.latch_file import Latch
from monitor.line_state.latched_parts import MOST, read_parts
from monitor.line_state.worker_process import PUBLISH
from monitor.publish.mqtt_connection import LinkState
from monitor.system.atomic_file import write_whole
from monitor.verdict import rfc3339
from tests.unit.publish.scene import MS, Scene


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


def latched(scene: Scene) -> list[tuple[object, object]]:
    """Camera and frame of each part that the last status names."""
    scene.status()
    return [(part["camera"], part["frame"]) for part in scene.link.statuses[-1]["latched"]["parts"]]  # type: ignore[index]


def test_the_status_and_the_log_name_the_parts_of_missed_rejects(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.status()
    assert latched(scene) == []
    captured = rfc3339(scene.now + MS)
    first = scene.miss_reject()
    second = scene.miss_reject()
    scene.link.reconnect()
    assert latched(scene) == [("top", first), ("top", second)]
    part = scene.link.statuses[-1]["latched"]["parts"][0]  # type: ignore[index]
    assert set(part) == {"camera", "frame", "captured_utc", "snapshot", "link"}
    missed = [line for line in caplog.messages if "the gate missed a reject" in line]
    assert len(missed) == 2
    assert f"camera top, frame {first}, captured {part['captured_utc']}, no picture" in missed[0]
    assert part["captured_utc"] <= captured
    scene.reset()
    assert latched(scene) == []


def test_the_parts_are_named_by_the_next_publisher_and_the_next_service(scene: Scene) -> None:
    number = scene.miss_reject()
    scene.link.reconnect()
    assert latched(scene) == [("top", number)]
    scene.end()
    scene.publisher, scene.link = scene.start()
    assert latched(scene) == [("top", number)]
    for _ in range(2):
        scene.end()
        scene.begin_session()
        assert latched(scene) == [("top", number)]


@pytest.mark.parametrize("answer", ["late", "failed", "jammed"])
def test_a_reject_that_the_gateway_failed_to_act_on_is_named_too(tmp_path: Path, answer: str) -> None:
    scene = Scene(tmp_path, ack_timeout_ms=200)
    number = scene.part(2.0)
    scene.turn()
    scene.link.acknowledge_all()
    scene.turn()
    scene.answer(scene.link.sent[0][2]["event_id"], answer)
    scene.turn()
    assert latched(scene) == [("top", number)]
    scene.end()


def test_an_uninspected_part_that_stops_the_line_is_named_and_the_reject_that_is_one_too_many(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path, on_uninspected="stop", stop_after_rejects=2)
    scene.judge_parts("rr")
    assert latched(scene) == [("top", 2)]
    scene.judge_parts("r")
    assert latched(scene) == [("top", 2)]
    scene.reset()
    scene.judge_parts("puu")
    assert latched(scene) == [("top", 5), ("top", 6)]
    scene.miss_reject()
    scene.link.reconnect()
    # The rejects 1 to 3 were not acknowledged by the broker, so they are missed too.
    assert latched(scene) == [("top", 1), ("top", 2), ("top", 3)]
    assert scene.link.statuses[-1]["latched"]["more"] is True  # type: ignore[index]
    scene.end()


def test_a_flood_of_missed_rejects_names_the_first_and_writes_no_more(scene: Scene) -> None:
    scene.link.state = LinkState.DOWN
    for _ in range(MOST + 3):
        scene.part(2.0)
        scene.turn()
    scene.turn(later_ms=900)
    scene.link.reconnect()
    assert len(latched(scene)) == MOST
    assert scene.link.statuses[-1]["latched"]["more"] is True  # type: ignore[index]
    count = len(scene.link.statuses)
    scene.miss_reject()
    scene.link.reconnect()
    latched(scene)
    assert scene.link.statuses[-1]["latched"] == scene.link.statuses[count - 1]["latched"]
    # A person looks for all of them, so the page has their number.
    assert read_parts(scene.board).count == MOST + 4
