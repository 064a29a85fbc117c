"""A live view publishes the first frame of each episode, and every pass."""

from __future__ import annotations

from monitor.line_state.ring import FinalVerdict
from monitor.publish.episodes import SUPERSEDED_APART_NS, Episodes
from monitor.verdict import Reason, Verdict


def closed(letter: str, at_ns: int = 0) -> FinalVerdict:
    verdict, reason = {
        "p": (Verdict.PASS, Reason.NONE),
        "r": (Verdict.REJECT, Reason.NONE),
        "d": (Verdict.UNINSPECTED, Reason.DEADLINE),
        "s": (Verdict.UNINSPECTED, Reason.SUPERSEDED),
    }[letter]
    return FinalVerdict(verdict, reason, True, False, at_ns, 0)


def events(letters: str) -> str:
    """The frames that are published; the others as dots."""
    episodes = Episodes()
    return "".join(letter if episodes.is_event(closed(letter)) else "." for letter in letters)


def test_a_run_of_rejects_is_one_episode_and_a_pass_ends_it() -> None:
    assert events("pprrrrpr") == "ppr...pr"


def test_superseded_frames_neither_begin_nor_end_another_episode() -> None:
    assert events("rsrssrpsr") == "rs....p.r"


def test_another_reason_is_another_episode() -> None:
    assert events("rddrr") == "rd.r."


def test_frames_superseded_much_later_are_another_episode() -> None:
    episodes = Episodes()
    assert episodes.is_event(closed("s", 0))
    assert not episodes.is_event(closed("s", SUPERSEDED_APART_NS))
    assert not episodes.is_event(closed("s", 2 * SUPERSEDED_APART_NS))
    assert episodes.is_event(closed("s", 3 * SUPERSEDED_APART_NS + 1))
