"""The counts of a camera are the publisher's tally plus the verdicts that are not in it yet."""

from __future__ import annotations

from dataclasses import replace

from monitor.line_state.counts import count_verdicts
from monitor.line_state.frame import Frame, PixelFormat
from monitor.line_state.ring import FinalVerdict, Ring, Tally
from monitor.verdict import Reason, Verdict


def closed(verdict: Verdict, reason: Reason = Reason.NONE) -> FinalVerdict:
    return FinalVerdict(verdict, reason, from_scorer=True, snapshot=False, closed_ns=1, closed_utc_ns=1)


def test_a_tally_counts_a_verdict_in_its_place() -> None:
    tally = Tally(cursor=7)
    tally = tally.add(closed(Verdict.PASS))
    tally = tally.add(closed(Verdict.PASS, Reason.NO_PART))
    tally = tally.add(closed(Verdict.REJECT), missed_reject=True)
    tally = tally.add(closed(Verdict.UNINSPECTED, Reason.DEADLINE))
    assert (tally.passed, tally.no_part, tally.rejected, tally.missed_rejects) == (2, 1, 1, 1)
    assert {reason for reason in Reason if tally.uninspected[reason]} == {Reason.DEADLINE}
    assert tally.frames == 4
    assert tally.cursor == 7, "the caller moves it"


def test_challenge_parts_are_in_no_count_of_production_and_a_missed_one_is_a_missed_reject() -> None:
    shown = [
        replace(closed(verdict), challenge=1)
        for verdict in (Verdict.PASS, Verdict.REJECT, Verdict.UNINSPECTED)
    ]
    tally = Tally()
    for one in shown:
        tally = tally.add(one, missed_reject=one.verdict is Verdict.REJECT)
    assert tally == Tally(challenges=(1, 1, 1), missed_rejects=1)
    assert tally.frames == 3


def test_what_is_closed_beyond_the_tally_counts_and_the_rest_is_in_flight(ring: Ring) -> None:
    for number in range(1, 6):
        ring.write_captured(Frame(number, 1, 1, 1, 1, 1, -1, -1, -1, PixelFormat.Mono8, 1, 1))
    ring.write_tally(Tally(cursor=2, passed=1, rejected=1))
    ring.write_closed(3, closed(Verdict.UNINSPECTED, Reason.DEADLINE))
    ring.write_closed(5, closed(Verdict.PASS))
    now = count_verdicts(ring)
    assert (now.frames, now.passed, now.rejected, sum(now.uninspected)) == (5, 2, 1, 1)
    assert now.in_flight == 1, "frame 4 is open"
