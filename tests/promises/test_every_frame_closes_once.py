"""Each frame closes once and in time, whatever is lost, delayed or repeated, and whichever worker dies when.

The ring, the capture worker's intake, the verdict rules and the publisher are real, on a clock that the test
owns. Workers die between any two of their writes. Only the link to the broker is a stand-in: a test can't
make a real broker lose a chosen message.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from drivers.camera import Shot
from monitor.capture.worker import Clocks, Intake
from monitor.line_state.board import Board
from monitor.line_state.counts import count_verdicts
from monitor.line_state.ring import FinalVerdict, Ring, ScorerVerdict
from monitor.publish.broker_client import Received
from monitor.publish.mqtt_connection import LinkState
from monitor.verdict import judge
from tests.unit.publish.scene import MS, Scene, StandInLink

SCORES = {"pass": 0.5, "reject": 2.0, "no number": float("nan")}
SHORT, LONG = st.integers(0, 60), st.integers(100, 3000)


class Killed(BaseException):
    """Stands for the end of a process; a BaseException, so that no `except Exception` catches it."""


@contextmanager
def killed_after(writes: int | None) -> Iterator[None]:
    """Within this, the process is killed at the write after that many; with None it is not."""
    left = [float("inf") if writes is None else writes]

    def counted(write: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **more: Any) -> Any:
            if left[0] <= 0:
                raise Killed
            left[0] -= 1
            return write(*args, **more)

        return wrapped

    with ExitStack() as stack:
        for of, name in (
            (Ring, "_set_word"),
            (Ring, "_write"),
            (Ring, "_write_copy"),
            (Board, "write"),
            (StandInLink, "send"),
        ):
            stack.enter_context(mock.patch.object(of, name, counted(getattr(of, name))))
        yield


class EveryFrame(RuleBasedStateMachine):
    """A line with one camera, to which anything may happen in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.closed: dict[int, FinalVerdict] = {}
        self.published: dict[int, set[tuple[str, str]]] = {}
        self.seen = 0
        """The last frame that a whole turn of the publisher has found."""
        self.turned_ns = 0

    @initialize(
        on_uninspected=st.sampled_from(["reject", "pass", "stop"]),
        mode=st.sampled_from(["every-part", "every-part", "latest"]),
        ack_timeout_ms=st.sampled_from([0, 300]),
    )
    def begin(self, on_uninspected: str, mode: str, ack_timeout_ms: int) -> None:
        self.scene = Scene(
            self.folder,
            ack_timeout_ms,
            "all",
            mode=mode,
            on_uninspected=on_uninspected,
            deadline_ms=250,
            actuate_ms=600,
        )
        self.watch_link()

    def watch_link(self) -> None:
        """Checks every message when it is sent."""
        link, ring = self.scene.link, self.scene.ring
        send = link.send

        def watched(topic: str, payload: bytes, **more: object) -> int | None:
            sent = send(topic, payload, **more)
            if sent is not None and topic.endswith(("/reject", "/verdict")):
                message = json.loads(payload)
                number = message["frame"]
                frame, closed = ring.frame(number), ring.final_verdict(number)
                assert frame is not None
                assert closed is not None, "a verdict is stored before it is sent"
                assert message["verdict"] == closed.verdict.word
                assert self.scene.now < frame.expires_ns, "no verdict is sent after its time to live"
                self.published.setdefault(number, set()).add((message["event_id"], message["verdict"]))
            return sent

        link.send = watched  # type: ignore[method-assign]

    # The camera and its worker

    @rule(
        missed=st.sampled_from([0, 0, 0, 1, 3]),
        whole=st.booleans(),
        old_ms=st.sampled_from([0, 0, 0, 40, 700]),
        dies_after=st.none() | st.integers(0, 8),
    )
    def capture(self, missed: int, whole: bool, old_ms: int, dies_after: int | None) -> None:
        pixels = np.zeros((2, 2), np.uint8) if whole else None
        shot = Shot(pixels, "Mono8", self.scene.now - old_ms * MS, missed=missed)
        try:
            with killed_after(dies_after):
                self.scene.intake.admit(shot)
        except Killed:
            scene = self.scene
            scene.intake = Intake(
                scene.settings.camera[0],
                scene.ring,
                lambda frame: None,
                Clocks(lambda: scene.now, lambda: scene.now),
            )

    # The scorer. Its messages only wake the publisher, so that a lost message is the same as none

    @rule(which=st.integers(0, 100), score=st.sampled_from(sorted(SCORES)), releases=st.booleans())
    def score(self, which: int, score: str, releases: bool) -> None:
        waiting = self.scene.ring.unreleased_frames()
        if not waiting:
            return
        frame, now = waiting[which % len(waiting)], self.scene.now
        if self.scene.ring.scorer_verdict(frame.number) is None:
            verdict, reason = judge(SCORES[score], 1.0)
            scored = ScorerVerdict(verdict, reason, SCORES[score], 1.0, now, now, "", False)
            self.scene.ring.write_scored(frame.number, scored)
        if releases:
            self.scene.ring.release(frame)

    # Time, the broker and the gateway

    @rule(ms=SHORT | LONG)
    def wait(self, ms: int) -> None:
        self.scene.now += ms * MS

    @rule(places=st.integers(0, 3))
    def broker_has_few_places(self, places: int) -> None:
        self.scene.link.places = places

    @rule()
    def broker_has_places(self) -> None:
        self.scene.link.places = 1000

    @rule()
    def connection_breaks(self) -> None:
        self.scene.link.state = LinkState.DOWN

    @precondition(lambda self: self.scene.link.state is LinkState.DOWN)
    @rule()
    def connection_comes_back(self) -> None:
        self.scene.link.reconnect()

    @rule(ids=st.sets(st.integers(1, 40)))
    def broker_acknowledges(self, ids: set[int]) -> None:
        """Late, twice, or for another connection: message ids start at 1 on each connection."""
        self.scene.link.acknowledged |= ids

    @rule(ids=st.sets(st.integers(1, 40)))
    def broker_acknowledges_without_a_subscriber(self, ids: set[int]) -> None:
        self.scene.link.acknowledged |= ids
        self.scene.link.unheard |= ids

    @precondition(lambda self: self.published)
    @rule(
        which=st.integers(0, 100),
        result=st.sampled_from(["accepted", "actuated", "late", "failed", "", 7]),
    )
    def gateway_answers(self, which: int, result: object) -> None:
        numbers = sorted(self.published)
        event_id, _ = sorted(self.published[numbers[which % len(numbers)]])[0]
        payload = json.dumps({"event_id": event_id, "result": result}).encode()
        self.scene.link.received.append(Received("plant1/line1/top/ack", payload, False))

    @rule()
    def operator_resets(self) -> None:
        self.scene.link.received.append(Received("plant1/line1/reset", b"", False))

    # The publisher

    @rule(ms=SHORT)
    def publisher_turns(self, ms: int) -> None:
        self.scene.turn(ms)
        self.turned_ns, self.seen = self.scene.now, self.scene.ring.last_frame()

    @rule(writes=st.integers(0, 30))
    def publisher_dies_in_its_turn(self, writes: int) -> None:
        try:
            with killed_after(writes):
                self.scene.turn()
        except Killed:
            self.publisher_dies()
        else:
            self.turned_ns, self.seen = self.scene.now, self.scene.ring.last_frame()

    @rule()
    def publisher_dies(self) -> None:
        self.scene.end()
        state = self.scene.link.state
        self.scene.publisher, self.scene.link = self.scene.start()
        self.scene.link.state = state
        self.watch_link()

    # Invariants

    @invariant()
    def every_frame_is_accounted_for(self) -> None:
        if not hasattr(self, "scene"):
            return
        ring = self.scene.ring
        now = count_verdicts(ring)
        last = ring.last_frame()
        assert now.frames == last
        assert now.frames == now.passed + now.rejected + sum(now.uninspected) + now.in_flight
        for number in range(1, last + 1):
            frame, closed = ring.frame(number), ring.final_verdict(number)
            assert frame is not None
            if number in self.closed:
                assert closed == self.closed[number], "a verdict is never changed"
            elif closed is not None:
                self.closed[number] = closed
            may_be_open = number > self.seen or frame.decide_by_ns > self.turned_ns
            assert closed is not None or may_be_open, "a frame is open after its decide_by"
        open_ = sum(number not in self.closed for number in range(1, last + 1))
        assert now.in_flight == open_
        assert all(len(sent) == 1 for sent in self.published.values()), "every message has the same verdict"

    def teardown(self) -> None:
        if hasattr(self, "scene"):
            scene = self.scene
            if scene.link.state is LinkState.DOWN:
                scene.link.reconnect()
            scene.link.places = 1000
            scene.turn(5000)
            scene.link.acknowledged = {message for message, _, _ in scene.link.sent}
            scene.turn(500)
            scene.turn(1)
            tally, last = scene.ring.tally(), scene.ring.last_frame()
            assert tally.cursor == tally.frames == last
            assert all(scene.ring.stage(number).is_final for number in range(1, last + 1))
            assert count_verdicts(scene.ring).in_flight == 0
            scene.end()
            scene.ring.close()
            scene.board.close()
        shutil.rmtree(self.folder)


EveryFrame.TestCase.settings = settings(
    max_examples=20,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestEveryFrameClosesOnce = EveryFrame.TestCase
