"""Rejects that no client received are sent again until a client is subscribed or they expire."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from monitor.line_state.counts import count_verdicts
from monitor.line_state.latch_file import Latch
from monitor.line_state.ring import Stage
from tests.unit.publish.scene import MS, Scene


def test_unheard_rejects_are_sent_again_one_at_a_time_and_all_at_once_to_a_new_subscriber(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path, actuate_ms=2000)
    numbers = [scene.part(2.0) for _ in range(3)]
    scene.turn()
    assert scene.run_for(100, subscribed=False) == []
    assert [scene.ring.stage(number) for number in numbers] == [Stage.SENT] * 3, "their deliveries have ended"
    tried = scene.run_for(600, subscribed=False)
    assert tried == [(numbers[0], "reject")] * 3, "only the first, every 200 ms"
    received = scene.run_for(250, subscribed=True)
    assert received == [(number, "reject") for number in numbers]
    assert scene.run_for(2000, subscribed=True) == []
    assert scene.latch() == Latch.NONE
    assert scene.outcomes() == dict.fromkeys(numbers, "published")


def test_without_a_subscriber_nothing_latches_and_no_reject_is_sent_for_ever(tmp_path: Path) -> None:
    scene = Scene(tmp_path, actuate_ms=800)
    scene.turn()
    for _ in range(20):
        scene.part(2.0)
        scene.part(0.5)
        scene.run_for(50, subscribed=False)
    scene.link.sent.clear()
    last = scene.run_for(800, subscribed=False)
    assert 1 <= len(last) <= 4
    assert scene.run_for(2000, subscribed=False) == []
    assert scene.latch() == Latch.NONE
    assert count_verdicts(scene.ring).missed_rejects == 0
    assert scene.outcomes() == dict.fromkeys(range(1, 41, 2), "unheard")


def test_a_new_reject_goes_before_those_that_are_sent_again(tmp_path: Path) -> None:
    scene = Scene(tmp_path, actuate_ms=2000)
    old = scene.part(2.0)
    scene.turn()
    scene.run_for(150, subscribed=False)
    scene.link.places = 0
    scene.run_for(100, subscribed=False)
    new = scene.part(2.0)
    scene.link.places, scene.link.sent = 1, []
    scene.turn()
    assert [payload["frame"] for _, _, payload in scene.link.sent] == [new]
    scene.link.places = 10
    scene.turn(later_ms=250)
    assert {payload["frame"] for _, topic, payload in scene.link.sent if topic.endswith("reject")} == {
        new,
        old,
    }
    scene.end()


def test_with_acknowledgements_on_a_gateway_that_subscribes_late_may_answer_until_the_expiry(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path, ack_timeout_ms=300, actuate_ms=2000)
    received, missed = scene.part(2.0), scene.part(2.0)
    scene.turn()
    scene.run_for(1000, subscribed=False)
    assert scene.latch() == Latch.NONE, "no client could answer"
    event_id = scene.link.sent[0][2]["event_id"]
    scene.run_for(250, subscribed=True)
    scene.answer(event_id, "accepted")
    scene.turn()
    assert scene.ring.stage(received) is Stage.ACKNOWLEDGED
    sent, answered = scene.ring.sent_ns(received), scene.ring.answered_ns(received)
    assert sent is not None
    assert answered is not None
    assert answered - sent <= 250 * MS, "the time to answer begins when a client receives it"
    scene.run_for(400, subscribed=True)
    assert scene.ring.stage(missed) is Stage.UNACKNOWLEDGED, "a client received it and did not answer"
    assert scene.latch() == Latch.MISSED_REJECT
    assert scene.outcomes() == {received: "acknowledged", missed: "unacknowledged"}


def test_with_acknowledgements_on_a_gateway_that_never_subscribes_has_missed_the_reject(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path, ack_timeout_ms=300, actuate_ms=2000)
    number = scene.part(2.0)
    scene.turn()
    scene.run_for(2100, subscribed=False)
    assert scene.ring.stage(number) is Stage.UNACKNOWLEDGED
    assert scene.latch() == Latch.MISSED_REJECT
    scene.end()


def test_a_reject_sent_again_on_a_connection_that_broke_is_sent_again_on_the_next(tmp_path: Path) -> None:
    scene = Scene(tmp_path, actuate_ms=2000)
    number = scene.part(2.0)
    scene.turn()
    scene.run_for(150, subscribed=False)
    scene.turn(later_ms=200)
    assert scene.topics()[-1] == "reject"
    scene.link.reconnect()
    scene.link.sent, scene.taken = [], set()
    assert scene.run_for(250, subscribed=True) == [(number, "reject")]
    scene.end()


def test_an_unheard_and_then_unanswered_reject_is_journalled_right_after_the_publishers_death(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path, ack_timeout_ms=300, actuate_ms=2000)
    number = scene.part(2.0)
    scene.turn()
    scene.run_for(500, subscribed=False)
    # As if killed before the journal's thread writes the next outcome: the journal has only `unheard`.
    assert scene.publisher._journal.close()
    scene.run_for(1700, subscribed=False)
    assert scene.ring.stage(number) is Stage.UNACKNOWLEDGED
    scene.end()
    scene.publisher, scene.link = scene.start()
    scene.turn()
    assert scene.outcomes() == {number: "unacknowledged"}


def test_a_broker_that_does_not_acknowledge_a_reject_sent_again_loses_the_connection(tmp_path: Path) -> None:
    scene = Scene(tmp_path, actuate_ms=2000)
    scene.part(2.0)
    scene.turn()
    scene.run_for(150, subscribed=False)
    scene.turn(later_ms=300)
    assert scene.topics() == ["reject", "verdict", "reject"]
    scene.turn(later_ms=1500)
    assert not scene.link.dropped
    scene.turn(later_ms=100)
    assert len(scene.link.dropped) == 1
    scene.link.reconnect()
    scene.turn(later_ms=100)
    assert len(scene.link.dropped) == 1, "the next connection was not given it"
    scene.end()


def test_a_reject_that_the_broker_refuses_is_sent_again_after_a_while(tmp_path: Path) -> None:
    scene = Scene(tmp_path, actuate_ms=2000)
    number = scene.part(2.0)
    scene.turn()
    scene.run_for(150, subscribed=False)
    scene.turn(later_ms=300)
    for _ in range(2):
        before = len(scene.link.sent)
        scene.link.refused = {scene.link.sent[-1][0]}
        for _ in range(40):
            scene.turn(later_ms=10)
        assert len(scene.link.sent) == before + 1
        scene.taken.add(scene.link.sent[-2][0])
    scene.run_for(300, subscribed=True)
    scene.turn(later_ms=1500)
    assert not scene.link.dropped
    assert scene.outcomes() == {number: "published"}


def test_one_line_is_logged_when_no_client_is_subscribed_and_one_when_a_client_is_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def logged() -> list[str]:
        rows = [row.getMessage() for row in caplog.records if "is subscribed" in row.getMessage()]
        caplog.clear()
        return [row.removeprefix("camera top: ").split(" is ")[0] for row in rows]

    caplog.set_level(logging.INFO)
    scene = Scene(tmp_path, actuate_ms=2000)
    for _ in range(3):
        scene.part(2.0)
        scene.run_for(500, subscribed=False)
    assert logged() == ["no client"]
    scene.run_for(500, subscribed=True)
    scene.part(2.0)
    scene.run_for(100, subscribed=True)
    assert logged() == ["a client"]
    scene.part(2.0)
    scene.run_for(500, subscribed=False)
    assert logged() == ["no client"]
    scene.end()
