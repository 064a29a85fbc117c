"""`line-monitor status` says in words what a person has to do."""

from __future__ import annotations

from monitor.publish.remote_line import RemoteState


def test_a_challenge_that_keeps_the_line_from_running_is_named_with_why_it_cant_succeed() -> None:
    challenge = {"phase": "due", "cause": "start", "part": "good-1", "problem": "good-1 has expired"}
    status = {"state": "degraded", "ready": False, "reason": "challenge", "challenge": challenge}
    lines = RemoteState(status, is_alive=True).describe("plant1/line1")
    assert "not ready (challenge)" in lines[0]
    assert lines[1:] == [
        "challenge: due (start), next part good-1: see the page Challenge",
        "good-1 has expired",
    ]
    passed = {**status, "challenge": {"phase": "passed", "problem": None}}
    for quiet in (passed, {**status, "challenge": None}):
        assert len(RemoteState(quiet, is_alive=True).describe("p")) == 1


def test_the_parts_that_a_reset_is_about_are_named_with_their_pictures() -> None:
    part = {"camera": "top", "frame": 7, "captured_utc": "2026-11-30T14:00:00.000Z", "snapshot": "a/top/7"}
    latched = {"parts": [part, {**part, "snapshot": None, "link": None}], "more": True}
    lines = RemoteState({"reason": "missed_reject", "latched": latched}, is_alive=True).describe_latched()
    assert lines == [
        "camera top, frame 7, 2026-11-30T14:00:00.000Z, a/top/7",
        "camera top, frame 7, 2026-11-30T14:00:00.000Z, no picture",
        "and more: `line-monitor journal` lists them",
    ]
    assert RemoteState({"reason": None, "latched": None}, is_alive=True).describe_latched() == []
