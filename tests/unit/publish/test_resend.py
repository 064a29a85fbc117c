"""Rejects that no client received are sent again until a client is subscribed or they expire."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.line_state.counts import count_verdicts
from monitor.line_state.latch_file import Latch
from monitor.line_state.ring import Stage
from monitor.publish.resend import AGAIN_NS, UnheardRejects
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
    assert tried == [(numbers[-1], "reject")] * 3, "only the newest, 200 ms after each report"
    received = scene.run_for(250, subscribed=True)
    assert received == [(number, "reject") for number in reversed(numbers)]
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


def test_a_broker_that_does_not_acknowledge_a_reject_sent_again_keeps_the_connection_of_first_sendings(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path, actuate_ms=2000)
    scene.part(2.0)
    scene.turn()
    scene.run_for(150, subscribed=False)
    scene.turn(later_ms=300)
    assert scene.topics() == ["reject", "verdict", "reject"]
    scene.turn(later_ms=1500)
    assert not scene.link.dropped
    scene.turn(later_ms=100)
    assert not scene.link.dropped
    scene.part(2.0)
    scene.turn(later_ms=100)
    assert scene.topics()[3:] == ["reject", "verdict"], "a first sending goes out at once"
    scene.turn(later_ms=1800)
    assert not scene.link.dropped
    scene.turn(later_ms=100)
    assert len(scene.link.dropped) == 1, "its own time to live is over: the connection does not work"
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


def test_first_sendings_report_whether_a_client_is_subscribed_so_that_nothing_is_offered_beside_them(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path, actuate_ms=2000)
    scene.turn()
    scene.link.places = 1000
    for _ in range(50):
        scene.part(2.0)
        scene.run_for(40, subscribed=False)
    assert len(scene.link.sent) == 100, "a reject and a verdict of each part, at 25 rejects a second"
    assert not scene.link.dropped
    scene.end()


def test_a_pass_too_goes_before_rejects_that_are_sent_again(tmp_path: Path) -> None:
    scene = Scene(tmp_path, actuate_ms=2000)
    scene.part(2.0)
    scene.turn()
    scene.run_for(150, subscribed=False)
    scene.link.places = 0
    scene.run_for(300, subscribed=True)
    passed = scene.part(0.5)
    scene.link.places, scene.link.sent = 1, []
    scene.turn()
    assert [(payload["frame"], topic[-7:]) for _, topic, payload in scene.link.sent] == [(passed, "verdict")]
    scene.end()


def test_the_offer_of_an_old_reject_does_not_end_the_connection_when_the_broker_is_slow(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path, actuate_ms=600)
    scene.part(2.0)
    scene.turn()
    scene.run_for(150, subscribed=False)
    for _ in range(25):
        scene.turn(later_ms=10)
    assert scene.topics()[-1] == "reject", "it was offered with some 400 ms left"
    scene.turn(later_ms=200)
    scene.turn(later_ms=100)
    scene.turn(later_ms=1000)
    assert not scene.link.dropped, "it has expired; what is sent first shows whether the connection works"
    scene.end()


def test_an_offer_that_was_forgotten_makes_room_for_the_next() -> None:
    waiting: UnheardRejects[str] = UnheardRejects()
    waiting.use_connection(1)
    waiting.add(1, 300 * MS, "old", 0)
    waiting.note_sent(1, 77, 200 * MS, 300 * MS)
    waiting.add(2, 5000 * MS, "new", 400 * MS)
    assert waiting.take_due(699 * MS, 9) == [], "one offer at a time"
    waiting.forget_overdue(699 * MS)
    assert waiting.take_due(699 * MS, 9) == []
    waiting.forget_overdue(700 * MS)
    assert waiting.take_due(700 * MS, 9) == [(2, "new")]
    assert waiting.take_received({77}, set(), 800 * MS) == [], "a late acknowledgement changes nothing"


def test_another_connections_message_ids_tell_nothing_of_rejects_that_were_offered(tmp_path: Path) -> None:
    scene = Scene(tmp_path, actuate_ms=2000)
    for _ in range(3):
        scene.part(2.0)
    scene.turn()
    scene.run_for(150, subscribed=False)
    scene.turn(later_ms=200)
    (offered, *_), before = scene.link.sent[-1], len(scene.link.sent)
    scene.link.reconnect()
    scene.link.acknowledged = {offered}
    scene.turn()
    scene.turn()
    assert len(scene.link.sent) == before, "the acknowledgement is of another message: nobody is subscribed"
    scene.end()


@given(
    rejects=st.lists(st.tuples(st.integers(0, 50), st.integers(60, 3000)), max_size=60),
    most=st.integers(-3, 9),
    subscribed=st.booleans(),
)
def test_what_is_offered_is_the_newest_in_order_bounded_and_still_of_use(
    rejects: list[tuple[int, int]], most: int, subscribed: bool
) -> None:
    waiting: UnheardRejects[int] = UnheardRejects()
    waiting.use_connection(1)
    now = 0
    expiry: dict[int, int] = {}
    for number, (later_ms, ttl_ms) in enumerate(rejects):
        now += later_ms * MS
        expiry[number] = now + ttl_ms * MS
        waiting.add(number, expiry[number], number, now)
    if subscribed:
        waiting.note_subscriber()
    assert waiting.take_due(now, most) == [] or subscribed, "not before 200 ms"
    now += AGAIN_NS
    due = [number for number, _ in waiting.take_due(now, most)]
    useful = [number for number, expires_ns in expiry.items() if expires_ns - now >= 50 * MS][::-1]
    assert due == useful[: max(0, most if subscribed else min(1, most))]


def test_no_more_than_1000_rejects_of_a_camera_wait_and_the_oldest_are_given_up() -> None:
    waiting: UnheardRejects[int] = UnheardRejects()
    for number in range(3000):
        waiting.add(number, 3_600_000 * MS, number, number)
    waiting.note_subscriber()
    due = waiting.take_due(3000, 5000)
    assert [number for number, _ in due] == list(range(2999, 1999, -1))
