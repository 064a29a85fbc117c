"""The ring keeps the state of every frame, whichever worker is killed while it writes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest

from monitor.line_state.frame import Frame, PixelFormat
from monitor.line_state.ring import RECORDS, SLOTS, FinalVerdict, Ring, RingError, ScorerVerdict, Stage, Tally
from monitor.settings.tables import MOST_CHALLENGE_PARTS
from monitor.verdict import Reason, Verdict

SHA = "ab" * 32


def frame(number: int, slot: int = 0, height: int = 4, width: int = 6) -> Frame:
    return Frame(
        number, 10, 20, 30, 40, 50, 60, 70, slot, PixelFormat.BGR8, height, width, refused=Reason.NONE
    )


def scored(score: float = 1.5) -> ScorerVerdict:
    return ScorerVerdict(Verdict.REJECT, Reason.NONE, score, 1.0, 11, 12, SHA, True)


def test_a_frame_reads_back_as_it_was_written(ring: Ring) -> None:
    ring.recover_capture()
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    ring.reserve(pixels.nbytes)
    ring.write_captured(frame(1))
    assert not ring.is_filled(1)
    ring.fill(frame(1), pixels)
    ring.write_scored(1, scored())
    ring.write_closed(1, FinalVerdict(Verdict.REJECT, Reason.NONE, True, True, 13, 14))
    ring.write_stage(1, Stage.SENT, 15)

    assert ring.last_frame() == 1
    assert ring.frame(1) == frame(1)
    assert ring.is_filled(1)
    assert np.array_equal(ring.pixels(frame(1)), pixels)
    assert ring.scorer_verdict(1) == scored()
    assert ring.final_verdict(1) == FinalVerdict(Verdict.REJECT, Reason.NONE, True, True, 13, 14)
    assert (ring.stage(1), ring.sent_ns(1)) == (Stage.SENT, 15)


@pytest.mark.parametrize("snapshot", [False, True])
@pytest.mark.parametrize("challenge", [0, 1, MOST_CHALLENGE_PARTS])
def test_a_verdict_keeps_the_challenge_part_that_its_frame_shows(
    ring: Ring, challenge: int, snapshot: bool
) -> None:
    closed = FinalVerdict(Verdict.PASS, Reason.NONE, True, snapshot, 1, 2, challenge)
    ring.write_closed(1, closed)
    assert ring.final_verdict(1) == closed


def test_sixteen_bit_pixels_keep_their_depth(ring: Ring) -> None:
    deep = Frame(1, 0, 0, 0, 0, 0, 0, 0, 3, PixelFormat.Mono12, 2, 2)
    ring.reserve(deep.nbytes)
    ring.write_captured(deep)
    ring.fill(deep, np.array([[0, 4095], [1, 2]], np.uint16))
    assert ring.pixels(deep).tolist() == [[0, 4095], [1, 2]]


def test_what_is_not_written_is_none(ring: Ring) -> None:
    assert ring.last_frame() == 0
    for number in (0, 1, RECORDS):
        assert ring.frame(number) is None
        assert ring.scorer_verdict(number) is None
        assert ring.final_verdict(number) is None
        assert not ring.is_filled(number) or number == 0


def test_the_last_lap_is_not_mistaken_for_this_one(ring: Ring) -> None:
    ring.write_captured(frame(1))
    ring.write_scored(1, scored())
    ring.write_closed(1, FinalVerdict(Verdict.PASS, Reason.NONE, True, False, 1, 2))
    ring.write_stage(1, Stage.EXPIRED)
    again = 1 + RECORDS
    assert ring.frame(again) is None
    ring.write_captured(frame(again))
    assert ring.frame(1) is None
    assert ring.scorer_verdict(again) is None
    assert ring.final_verdict(again) is None
    assert ring.stage(again) is Stage.CLOSED


def test_a_frame_still_in_the_books_is_never_overwritten(ring: Ring) -> None:
    assert ring.has_free_record(RECORDS)
    assert not ring.has_free_record(RECORDS + 1)
    ring.write_tally(Tally(cursor=1))
    assert ring.has_free_record(RECORDS + 1)


def test_slots_are_held_until_the_scorer_releases_them(ring: Ring) -> None:
    usable = ring.reserve(100)
    for number in range(1, usable + 1):
        slot = ring.free_slot()
        assert slot is not None
        ring.write_captured(frame(number, slot))
        ring.fill(frame(number, slot), np.zeros((4, 6, 3), np.uint8))
    assert ring.free_slot() is None
    waiting = ring.unreleased_frames()
    assert [one.number for one in waiting] == list(range(1, usable + 1))
    ring.release(waiting[5])
    assert ring.free_slot() == waiting[5].slot
    assert waiting[5].number not in [one.number for one in ring.unreleased_frames()]


def test_large_frames_get_fewer_slots_and_too_large_ones_one_line(ring: Ring) -> None:
    assert ring.reserve(1000) == SLOTS
    assert 4 <= ring.reserve(20_000_000) < SLOTS
    with pytest.raises(RingError, match="larger than a slot"):
        ring.reserve(100_000_000)


def test_capture_takes_up_where_a_dead_one_left(ring: Ring) -> None:
    ring.reserve(100)
    ring.write_captured(frame(1, 0))
    ring.fill(frame(1, 0), np.zeros((4, 6, 3), np.uint8))
    ring.write_captured(frame(2, 1))  # the capture worker dies before it has written the pixels
    assert ring.recover_capture() == 2
    assert [one.number for one in ring.unreleased_frames()] == [1]
    assert ring.free_slot() == 1


def test_a_ring_of_another_session_is_refused(tmp_path: Path) -> None:
    Ring.create(tmp_path, "top", uuid.uuid4())
    with pytest.raises(RingError, match="another session"):
        Ring(tmp_path, "top", uuid.uuid4())
    with pytest.raises(RingError, match="No such file"):
        Ring(tmp_path, "side")
    (tmp_path / "top.ring").write_bytes(bytes(100))
    with pytest.raises(RingError):
        Ring(tmp_path, "top")


WRITER = """
import sys, uuid
import numpy as np
from pathlib import Path
from monitor.line_state.frame import Frame, PixelFormat
from monitor.line_state.ring import *
ring = Ring(Path(sys.argv[1]), "top")
number = ring.recover_capture()
ring.reserve(72)
# It continues the publisher's part as a real publisher does.
tally = ring.tally()
for done in range(tally.cursor + 1, number + 1):
    if ring.final_verdict(done) is None:
        ring.write_closed(done, FinalVerdict(Verdict.PASS, Reason.NONE, False, False, done, done))
    ring.write_stage(done, Stage.SENT, done)
    ring.write_tally(Tally(done, done, 0, 0))
for frame in ring.unreleased_frames():
    ring.release(frame)
while True:
    number += 1
    frame = Frame(number, number, number, number, number, number, number, number,
                  ring.free_slot(), PixelFormat.BGR8, 4, 6)
    ring.write_captured(frame)
    ring.fill(frame, np.full((4, 6, 3), number % 256, np.uint8))
    scored = ScorerVerdict(Verdict.PASS, Reason.NONE, number, number, number, number, "", False)
    ring.write_scored(number, scored)
    ring.release(frame)
    ring.write_closed(number, FinalVerdict(Verdict.PASS, Reason.NONE, True, False, number, number))
    ring.write_stage(number, Stage.SENT, number)
    ring.write_tally(Tally(number, number, 0, 0))
"""


def test_killed_between_any_two_writes_nothing_is_half_written(tmp_path: Path) -> None:
    Ring.create(tmp_path, "top", uuid.uuid4())
    ring = Ring(tmp_path, "top")
    chance = random.Random(7)
    last = 0
    for _ in range(8):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)])
        start = time.monotonic()
        while ring.last_frame() <= last and writer.poll() is None and time.monotonic() - start < 30:
            time.sleep(0.002)
        time.sleep(chance.uniform(0.001, 0.08))
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        now, tally = ring.last_frame(), ring.tally()
        assert now > last, "frame numbers go on after a restart"
        assert tally.cursor == tally.passed
        assert now - 1 <= tally.cursor <= now
        for number in range(max(1, now - 2000), now + 1):
            kept = ring.frame(number)
            assert kept is not None
            assert kept.captured_ns == kept.device_frame == number
            if (judged := ring.scorer_verdict(number)) is not None:
                assert judged.score == judged.scored_ns == number
            if number <= tally.cursor:
                closed = ring.final_verdict(number)
                assert closed is not None
                assert closed.closed_ns == number
                assert ring.stage(number) is Stage.SENT
        assert ring.frame(now + 1) is None
        last = now
    ring.close()
