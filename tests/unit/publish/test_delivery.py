"""The gate's message goes first, counts as sent once the broker has it, and never goes after its expiry."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.journal.reader import JournalReader
from monitor.line_state.counts import count_verdicts
from monitor.line_state.latch_file import Latch
from monitor.line_state.latched_parts import read_parts
from monitor.line_state.ring import Stage
from monitor.publish.mqtt_connection import LinkState
from tests.unit.publish.scene import MS, Scene


def test_a_reject_goes_to_the_gate_first_and_is_sent_once_the_broker_has_it(scene: Scene) -> None:
    scene.part(0.5)
    number = scene.part(2.0)
    scene.turn()
    assert scene.topics() == ["reject", "verdict", "verdict"]
    assert scene.ring.stage(number) is Stage.CLOSED
    scene.link.acknowledge_all()
    scene.turn()
    assert scene.ring.stage(number) is Stage.SENT
    now = count_verdicts(scene.ring)
    assert (now.frames, now.passed, now.rejected, now.in_flight) == (2, 1, 1, 0)


def test_another_connections_acknowledgements_count_for_nothing(scene: Scene) -> None:
    number = scene.part(2.0)
    scene.turn()
    first = {message for message, _, _ in scene.link.sent}
    scene.link.state = LinkState.DOWN
    scene.turn()
    scene.link.reconnect()
    scene.link.acknowledged = first
    scene.turn()
    assert scene.ring.stage(number) is Stage.CLOSED
    assert scene.topics() == ["reject", "verdict"] * 2, "both are sent again on the new connection"
    payloads = [payload for _, topic, payload in scene.link.sent if topic.endswith("reject")]
    assert payloads[0]["event_id"] == payloads[1]["event_id"]


def test_what_expired_unsent_is_never_sent_and_latches(scene: Scene) -> None:
    number = scene.miss_reject()
    scene.link.reconnect()
    scene.turn()
    assert scene.link.sent == []
    assert scene.ring.stage(number) is Stage.EXPIRED
    assert scene.latch() == Latch.MISSED_REJECT
    assert count_verdicts(scene.ring).missed_rejects == 1


def test_a_broker_that_does_not_acknowledge_a_reject_loses_the_connection(scene: Scene) -> None:
    scene.part(2.0)
    scene.turn()
    scene.turn(later_ms=800)
    assert scene.link.dropped
    assert scene.latch() == Latch.MISSED_REJECT


def test_a_pass_that_could_not_be_sent_latches_nothing(scene: Scene) -> None:
    scene.link.state = LinkState.DOWN
    scene.part(0.5)
    scene.turn()
    scene.turn(later_ms=800)
    assert scene.latch() == Latch.NONE


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


def test_the_time_that_the_gateway_took_to_answer_is_kept(tmp_path: Path) -> None:
    scene = Scene(tmp_path, ack_timeout_ms=500)
    number = scene.part(2.0)
    scene.turn()
    assert scene.ring.answered_ns(number) is None
    scene.answer(scene.link.sent[0][2]["event_id"], "accepted")
    scene.link.acknowledge_all()
    scene.turn(later_ms=40)
    answered, sent = scene.ring.answered_ns(number), scene.ring.sent_ns(number)
    assert answered is not None
    assert sent is not None
    assert answered - sent == 40 * MS
    unanswered = scene.part(2.0)
    scene.turn()
    scene.link.acknowledge_all()
    scene.turn()
    scene.turn(later_ms=600)
    assert scene.ring.stage(unanswered) is Stage.UNACKNOWLEDGED
    assert scene.ring.answered_ns(unanswered) is None
    scene.end()


def test_a_gate_that_fails_late_is_counted_among_the_missed_rejects_once(scene: Scene) -> None:
    numbers = [scene.part(2.0), scene.part(2.0)]
    scene.turn()
    scene.link.acknowledge_all()
    scene.turn()
    assert scene.ring.tally().cursor == numbers[-1]
    event_id = scene.link.sent[0][2]["event_id"]
    for result in ("actuated", "failed", "late"):
        scene.answer(event_id, result)
    scene.turn()
    assert read_parts(scene.board).count == 1
    assert count_verdicts(scene.ring).missed_rejects == 1
    assert count_verdicts(scene.ring).rejected == 2
    assert scene.ring.stage(numbers[0]) is Stage.UNACKNOWLEDGED
    assert scene.latch() == Latch.MISSED_REJECT


def test_a_gate_that_fails_after_the_publishers_death_stops_the_line_all_the_same(scene: Scene) -> None:
    number, passed = scene.part(2.0), scene.part(0.5)
    scene.turn()
    event_id = scene.link.sent[0][2]["event_id"]
    scene.link.acknowledge_all()
    scene.turn()
    assert scene.ring.stage(number) is Stage.SENT
    scene.end()
    scene.publisher, scene.link = scene.start()
    assert list(scene.publisher._deliveries._ended) == [event_id], "the passed part is not for the gate"
    scene.answer(event_id, "actuated")
    scene.turn()
    assert scene.latch() == Latch.NONE
    scene.answer(event_id, "failed")
    scene.turn()
    assert scene.latch() == Latch.MISSED_REJECT
    assert (count_verdicts(scene.ring).missed_rejects, scene.ring.tally().cursor) == (1, passed)
    scene.end()
    scene.now += 20_000 * MS
    scene.publisher, scene.link = scene.start()
    assert not scene.publisher._deliveries._ended, "an answer is no longer expected"


def test_the_gateways_time_to_answer_runs_from_the_last_connections_sending(tmp_path: Path) -> None:
    scene = Scene(tmp_path, ack_timeout_ms=300)
    number = scene.part(2.0)
    scene.turn()
    scene.link.state = LinkState.DOWN
    scene.turn(later_ms=290)
    scene.link.reconnect()
    scene.turn()
    again = scene.now
    scene.link.acknowledged = {message for message, _, _ in scene.link.sent[-2:]}
    scene.turn(later_ms=20)
    assert scene.ring.stage(number) is Stage.CLOSED, "300 ms have not passed since the second sending"
    scene.answer(scene.link.sent[0][2]["event_id"], "accepted")
    scene.turn()
    assert scene.ring.stage(number) is Stage.ACKNOWLEDGED
    assert scene.ring.sent_ns(number) == again
    scene.end()


@pytest.mark.parametrize("first", ["failed", "nothing"])
def test_a_missed_reject_stays_missed_in_ring_and_journal_whatever_the_gate_answers_later(
    first: str, tmp_path: Path
) -> None:
    scene = Scene(tmp_path, ack_timeout_ms=300)
    number = scene.part(2.0)
    scene.turn()
    event_id = scene.link.sent[0][2]["event_id"]
    scene.run_for(100, subscribed=True)
    if first == "failed":
        scene.answer(event_id, first)
    scene.run_for(300, subscribed=True)
    scene.answer(event_id, "actuated")
    scene.turn()
    assert scene.ring.stage(number) is Stage.UNACKNOWLEDGED
    assert count_verdicts(scene.ring).missed_rejects == 1
    scene.end()
    with JournalReader(scene.settings.line.data / "journal.sqlite") as reader:
        rows = [(row.outcome, row.ack_result) for row in reader.verdicts()]
    assert rows == [("unacknowledged", "actuated")]


@pytest.mark.parametrize(
    ("result", "stage"), [("accepted", Stage.ACKNOWLEDGED), ("failed", Stage.UNACKNOWLEDGED)]
)
def test_a_quick_answer_of_the_gateway_does_not_stop_the_verdicts_other_topic(
    tmp_path: Path, result: str, stage: Stage
) -> None:
    scene = Scene(tmp_path, ack_timeout_ms=3000)
    scene.turn()
    number = scene.part(2.0)
    scene.link.places = 1
    scene.turn()
    assert scene.topics() == ["reject"]
    scene.answer(scene.link.sent[0][2]["event_id"], result)
    scene.link.acknowledged = {scene.link.sent[0][0]}
    scene.turn(later_ms=40)
    assert (scene.latch() == Latch.MISSED_REJECT) is (result == "failed"), "a failure latches at once"
    assert not scene.ring.stage(number).is_final
    scene.link.reconnect()
    scene.link.places = 50
    for _ in range(3):
        scene.turn()
    assert scene.topics() == ["reject", "verdict"], "the reject is not sent again"
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


def test_an_answered_reject_whose_other_topic_finds_no_room_ends_at_its_expiry(tmp_path: Path) -> None:
    scene = Scene(tmp_path, ack_timeout_ms=3000)
    scene.turn()
    number = scene.part(2.0)
    scene.link.places = 1
    scene.turn()
    scene.answer(scene.link.sent[0][2]["event_id"], "accepted")
    scene.link.acknowledged = {scene.link.sent[0][0]}
    scene.turn(later_ms=800)
    assert scene.ring.stage(number) is Stage.ACKNOWLEDGED
    assert scene.latch() == Latch.NONE
    assert count_verdicts(scene.ring).in_flight == 0
    scene.end()


def test_a_broker_that_does_not_acknowledge_an_answered_rejects_other_topic_loses_the_connection(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path, ack_timeout_ms=3000)
    scene.turn()
    number = scene.part(2.0)
    scene.turn()
    scene.answer(scene.link.sent[0][2]["event_id"], "accepted")
    scene.link.acknowledged = {scene.link.sent[0][0]}
    scene.turn()
    assert not scene.link.dropped
    scene.turn(later_ms=800)
    assert scene.link.dropped
    assert scene.ring.stage(number) is Stage.ACKNOWLEDGED
    assert scene.latch() == Latch.NONE
    scene.end()
