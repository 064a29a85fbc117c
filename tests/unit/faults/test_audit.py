"""The books of the fault tests catch every breach that they are kept for: each is seeded here, and found."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from drivers.camera import Shot
from monitor.capture.worker import Clocks, Intake
from monitor.line_state import verdict_rules
from monitor.line_state.ring import FinalVerdict, Ring, Stage, Tally
from monitor.settings import CameraSettings
from monitor.verdict import Reason, Verdict, rfc3339
from tests.faults.audit import (
    Audit,
    Message,
    Part,
    PartId,
    Quiet,
    Unseen,
    Window,
    breaches,
    compare_counts,
    find_strays,
    quiet,
    unseen_between,
    unseen_breaches,
)
from tests.real.gateway import Gateway
from tests.real.gateway import Part as Passing
from tests.real.line import Line, Witness
from tests.real.mosquitto import Mosquitto

S = 1_000_000_000
SESSION = "0123456789"


def part(frame: int = 1, bad: bool = False, **other: Any) -> Part:
    """A part as it should be: judged right, sent, heard, and dealt with by the gate. Captured at second
    `frame`, at the gate one second later."""
    verdict = Verdict.REJECT if bad else Verdict.PASS
    whole = {
        "verdict": verdict,
        "stage": Stage.ACKNOWLEDGED if bad else Stage.SENT,
        "scored_ns": frame * S + S // 20,
        "sent_ns": frame * S + S // 10,
        "told": {(f"event {frame}", verdict.word)},
        "told_on": {"verdict", "reject"} if bad else {"verdict"},
        "heard_at": frame + 0.11,
        "removed": bad,
    }
    return Part(PartId("top", SESSION, frame), frame * S, (frame + 1) * S, bad, **(whole | other))


def book() -> list[Part]:
    """Twenty parts, each fifth bad; one that nobody judged, one that its killed service left behind."""
    parts = [part(frame, bad=frame % 5 == 0) for frame in range(1, 21)]
    lost = {("event 7", "uninspected")}
    parts[6] = replace(
        parts[6],
        verdict=Verdict.UNINSPECTED,
        reason=Reason.SCORER_LOST,
        told=lost,
        told_on={"verdict", "reject"},
        removed=True,
    )
    parts[19] = Part(PartId("top", SESSION, 20), 20 * S, 21 * S, True, abandoned=True, removed=True)
    return parts


def tally_of(parts: list[Part]) -> Tally:
    tally = Tally()
    for one in parts:
        assert one.verdict is not None
        closed = FinalVerdict(one.verdict, one.reason, True, False, 0, 0)
        tally = verdict_rules.count(tally, one.id.frame, closed, missed=False)
    return tally


def test_a_clean_book_has_no_breach() -> None:
    assert breaches(book()) == []
    assert compare_counts(book(), tally_of(book()[:19]), overruns=0) == []
    calm = quiet(book()[:19], [Window(6.5, 7.5)])
    assert (calm, calm.breaches()) == (Quiet(18, 18, 18, 15, 15), [])


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (part(verdict=None, stage=Stage.CLOSED, told=set(), heard_at=None, removed=True), "no verdict"),
        (part(told={("event 1", "pass"), ("event 1", "reject")}), "two verdicts"),
        (part(told={("event 1", "pass"), ("event 2", "pass")}), "two verdicts"),
        (part(told={("event 1", "reject")}), "is pass in the ring"),
        (part(sent_ns=2 * S), "sent 0 ms after its expiry"),
        (part(heard_at=2.3), "heard of 0.30 s after its expiry"),
        (part(last_heard_at=30.0), "heard of 28.00 s after its expiry"),
        (part(told_on={"verdict", "reject"}), "told to the gate as one to remove"),
        (part(told=set(), told_on=set(), heard_at=None, removed=True), "not heard of on verdict"),
        (part(bad=True, told_on={"reject"}), "not heard of on verdict"),
        (part(bad=True, stage=Stage.SENT, told_on={"verdict"}), "not heard of on reject"),
        (part(sent_ns=None, told=set(), told_on=set(), heard_at=None, removed=True), "not heard of"),
        (part(removed=None), "never came to a decision"),
        (part(bad=True, removed=False), "is bad and was let through"),
        (part(verdict=Verdict.UNINSPECTED, removed=False), "was let through, and is uninspected in the ring"),
        (part(verdict=None, abandoned=True, removed=False), "was let through, and is None in the ring"),
    ],
)
def test_each_breach_of_a_part_is_found(broken: Part, words: str) -> None:
    found = breaches([*book(), broken])
    assert len(found) >= 1
    assert any(words in one for one in found), found


def test_what_nobody_heard_is_no_breach_only_where_the_witness_was_deaf() -> None:
    unheard = part(5, told=set(), told_on=set(), heard_at=None, removed=True)
    assert breaches([unheard], deaf=[Window(4.0, 5.5)]) == []
    assert breaches([unheard], deaf=[Window(5.5, 9.0), Window(1.0, 5.0)]) != []
    assert breaches([replace(unheard, stage=Stage.EXPIRED, sent_ns=None)]) == [], "nor was it said to be sent"


def test_the_verdict_of_a_reject_that_was_offered_again_may_have_gone_to_a_deaf_witness() -> None:
    heard_on_the_second_offer = part(5, bad=True, sent_ns=int(5.6 * S), told_on={"reject"}, heard_at=5.61)
    assert breaches([heard_on_the_second_offer], deaf=[Window(3.0, 5.5)]) == []
    assert breaches([heard_on_the_second_offer], deaf=[Window(3.0, 5.0), Window(5.7, 9.0)]) != []


def test_what_the_broker_held_back_is_no_breach_only_while_it_may() -> None:
    assert breaches([part(heard_at=2.3)], held_back=[Window(2.0, 3.0)]) == []
    assert breaches([part(heard_at=2.3)], held_back=[Window(3.0, 4.0)]) != []
    twice = part(heard_at=2.3, last_heard_at=3.5)
    assert len(breaches([twice])) == 2
    assert len(breaches([twice], held_back=[Window(3.0, 4.0)])) == 1


def test_a_line_of_which_nobody_heard_anything_does_not_pass_as_quiet() -> None:
    silent = [replace(one, told=set(), told_on=set(), heard_at=None) for one in book()[:6]]
    assert quiet(silent, []).breaches() == ["outside faults only 0 of 6 parts were judged"]
    late = [replace(one, heard_at=one.id.frame + 1.01) for one in book()[:6]]
    assert quiet(late, []).breaches() == ["outside faults only 0 of 6 parts were judged"]


def test_a_line_that_judges_wrong_does_not_pass_as_quiet() -> None:
    wrong = [part(1), part(2, bad=True), replace(part(3), bad=True)]
    assert quiet(wrong, []).breaches() == ["outside faults only 2 of 3 verdicts were right"]


def test_a_gateway_that_removes_everything_does_not_pass_as_quiet() -> None:
    parts = [replace(one, removed=True) for one in book()[:6]]
    said = "outside faults only 0 of 5 good parts with a pass in time were let through"
    assert quiet(parts, []).breaches() == [said]
    assert breaches(parts) == [], "which no other rule finds"


def test_parts_pass_a_camera_that_gives_no_frames_at_its_usual_rhythm() -> None:
    assert unseen_between(10.0, 11.7, 1.0) == []
    assert unseen_between(10.0, 11.75, 1.0) == [11.0]
    assert unseen_between(10.0, 12.5, 1.0) == [11.0]
    assert unseen_between(10.0, 14.0, 1.0) == [11.0, 12.0, 13.0]
    assert unseen_between(10.0, 10.0, 1.0) == unseen_between(10.0, 3.0, 1.0) == []


def test_a_part_without_a_frame_must_be_removed() -> None:
    assert unseen_breaches([Unseen("top", 1.0, removed=True)]) == []
    let_through, lost = Unseen("top", 1.0, removed=False), Unseen("top", 2.0)
    assert unseen_breaches([let_through, lost]) == [
        "top: a part that passed it unseen at 1.00 s was let through",
        "top: a part that passed it unseen at 2.00 s never came to a decision of the gateway",
    ]


def test_a_rings_counts_that_differ_from_the_parts_are_found() -> None:
    parts = book()[:19]
    tally = tally_of(parts)
    assert compare_counts(parts, tally, overruns=2) == ["capture refused 2 exposures"]
    assert compare_counts(parts[:-1], tally, overruns=0)[0] == "19 frames are done with, 18 parts were seen"
    assert compare_counts(parts, replace(tally, passed=tally.passed + 1), 0) == [
        "16 passed by the ring, 15 parts"
    ]
    assert compare_counts(parts, replace(tally, rejected=0), 0) == ["0 rejected by the ring, 3 parts"]
    other = [replace(one, reason=Reason.DEADLINE) if one.reason else one for one in parts]
    assert len(compare_counts(other, tally, 0)) == 2


def test_a_message_about_a_part_that_never_was_is_found_once_it_can_be_no_early_one() -> None:
    early = {PartId("top", SESSION, 99): [Message("event 99", "pass", "verdict", 50.0)]}
    assert find_strays(early, now=50.5) == []
    assert find_strays(early, now=51.5) == ["top 99 of 01234567 was told of, and is in no ring"]


PERIOD_S = 0.2


class OneCamera:
    """A ring, a broker and a witness, where a line would be: the test says what it says."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.session = folder, uuid.uuid4()
        Ring.create(folder, "top", self.session)
        self.ring = Ring(folder, "top", self.session)
        self.witness = Witness(port, "plant/line")
        settings = CameraSettings(name="top", source="simulated://plate", recipe="plate")
        times = Clocks(time.monotonic_ns, time.time_ns)
        self._intake = Intake(settings, self.ring, lambda frame: None, times)
        wait_for(self.witness.hears)

    def part(self, stage: Stage) -> int:
        """One that passes."""
        self._intake.admit(Shot(np.zeros((2, 2), np.uint8), "Mono8", time.monotonic_ns()))
        number = self.ring.last_frame()
        closed = FinalVerdict(Verdict.PASS, Reason.NONE, True, False, time.monotonic_ns(), time.time_ns())
        self.ring.write_closed(number, closed)
        self.ring.write_stage(number, stage, time.monotonic_ns())
        self.ring.write_tally(verdict_rules.count(self.ring.tally(), number, closed, missed=False))
        return number

    def say(self, frame: int) -> None:
        captured_ns, expires_ns = time.time_ns(), time.time_ns() + S
        if (seen := self.ring.frame(frame)) is not None:
            captured_ns = seen.captured_utc_ns
            expires_ns = captured_ns + seen.expires_ns - seen.captured_ns
        said = {
            "schema": 1,
            "camera": "top",
            "session": str(self.session),
            "frame": frame,
            "verdict": "pass",
            "event_id": f"event {frame}",
            "captured_utc": rfc3339(captured_ns),
            "expires_utc": rfc3339(expires_ns),
            "ttl_ms": (expires_ns - time.time_ns()) // 1_000_000,
        }
        self.witness.say("top/verdict", json.dumps(said))


@pytest.fixture
def audited(tmp_path: Path, broker: Mosquitto) -> Iterator[tuple[OneCamera, Audit]]:
    with _audited(tmp_path, broker) as both:
        yield both


@contextmanager
def _audited(folder: Path, broker: Mosquitto) -> Iterator[tuple[OneCamera, Audit]]:
    camera = OneCamera(folder, broker.port)
    try:
        with Audit(cast(Line, camera), {"top": lambda frame: False}, {"top": PERIOD_S}) as audit:
            yield camera, audit
    finally:
        camera.witness.close()
        camera.ring.close()


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_books_follow_the_ring_and_the_witness(audited: tuple[OneCamera, Audit]) -> None:
    camera, audit = audited
    number = camera.part(Stage.SENT)
    camera.say(number)
    wait_for(lambda: bool(audit.parts() and audit.parts()[0].told and audit.parts()[0].stage is Stage.SENT))
    (one,) = audit.parts()
    assert (one.verdict, one.told_on) == (Verdict.PASS, {"verdict"})
    time.sleep(1.1)
    assert audit.trouble() == []
    camera.say(number + 1)
    wait_for(lambda: [f"top {number + 1} of" in one for one in audit.trouble()] == [True])
    camera.ring.count_overrun()
    assert any("capture refused 1 exposures" in one for one in audit.trouble())
    camera.ring.write_tally(replace(camera.ring.tally(), passed=7))
    assert any("7 passed by the ring, 1 parts" in one for one in audit.trouble())


def test_a_few_slow_messages_are_no_breach_and_a_gateway_that_removes_everything_is() -> None:
    assert Quiet(60, 60, 60, 40, 37).breaches() == []
    assert Quiet(60, 60, 60, 40, 36).breaches()
    assert Quiet(6000, 6000, 6000, 4000, 3960).breaches() == []
    assert Quiet(6000, 6000, 6000, 4000, 3959).breaches()


def test_what_anybody_else_says_is_in_no_book(audited: tuple[OneCamera, Audit]) -> None:
    camera, audit = audited
    number = camera.part(Stage.SENT)
    for garbage in (b"", b"null", b"[" * 5000, b"\xff", b"{}", b'{"frame": Infinity, "verdict": "pass"}'):
        for topic in ("top/verdict", "top/reject", "status", "heartbeat"):
            camera.witness.say(topic, garbage)
    camera.say(number)
    wait_for(lambda: bool(audit.parts() and audit.parts()[0].told))
    time.sleep(1.1)
    assert audit.trouble() == []
    assert audit.parts()[0].told == {(f"event {number}", "pass")}


@pytest.mark.parametrize("gate", ["right", "open"])
def test_parts_that_pass_while_the_camera_is_away_are_in_the_books(
    audited: tuple[OneCamera, Audit], broker: Mosquitto, gate: str
) -> None:
    camera, audit = audited

    def act(part: Passing, removed: bool) -> None:
        audit.at_gate(part, removed and gate == "right")

    with Gateway("127.0.0.1", broker.port, "plant/line", act, 0.07, 5.0) as gateway:
        audit.gateway = gateway
        wait_for(gateway._client.is_connected)
        time.sleep(0.2)
        for pause_s in (PERIOD_S, PERIOD_S, 9 * PERIOD_S, PERIOD_S, PERIOD_S):
            camera.say(camera.part(Stage.SENT))
            time.sleep(pause_s)
        wait_for(lambda: len(audit.parts()) == 5 and all(part.removed is not None for part in audit.parts()))
    first, last = audit.parts()[2].captured_at, audit.parts()[3].captured_at
    unseen = audit.unseen(Window(first, last))
    assert len(unseen) == len(unseen_between(first, last, PERIOD_S)) > 5
    assert [part.removed for part in audit.parts()] == [False] * 5
    assert bool(unseen_breaches(unseen)) == (gate == "open")
    assert breaches(audit.parts()) == []


def test_the_witness_says_when_it_was_deaf(audited: tuple[OneCamera, Audit], broker: Mosquitto) -> None:
    camera, audit = audited
    before = time.monotonic()
    broker.stop()
    wait_for(lambda: len(camera.witness.deaf()) == 2)
    back = time.monotonic()
    broker.start()
    wait_for(lambda: camera.witness.deaf()[-1][1] < time.monotonic() - 0.1)
    # The first connection to a broker that has just started may be lost once more.
    _, (start, _), *_ = windows = camera.witness.deaf()
    assert before <= start < back <= windows[-1][1]
    camera.say(1)
    wait_for(lambda: bool(camera.witness.heard("top/verdict")))
    assert camera.witness.deaf() == windows
    assert before - 0.5 <= audit.deaf()[1].start < before + 1
