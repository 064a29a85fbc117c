"""The challenge in plain words: a bar for each step, and what helps where a part was not judged."""

from __future__ import annotations

import pytest

from monitor.line_state.challenge_run import Attempt, ChallengeState, Failure, Phase
from monitor.review.challenge_words import describe_step, explain_wrong, find_remedy
from monitor.settings import ChallengePartSettings
from monitor.verdict import Reason

PART = ChallengePartSettings.model_validate(
    {
        "id": "good-1",
        "camera": "top",
        "expected": "pass",
        "verified_by": "J. Smith",
        "verified": "2026-11-01",
        "expires": "2126-01-31",
    }
)


def attempt(verdict: str, reason: str | None) -> Attempt:
    return Attempt(
        part="good-1",
        camera="top",
        expected="pass",
        verdict=verdict,
        reason=reason,
        frame=12,
        captured_utc="2026-11-30T10:00:00.000Z",
        snapshot=None,
        by="anna",
        wrong=f"it got {verdict}, not pass",
    )


def test_each_step_has_a_headline_of_its_own() -> None:
    steps = [describe_step(ChallengeState(phase=phase), PART) for phase in Phase]
    told = [step for step in steps if step is not None]
    assert len(told) == len({headline for headline, _ in told}) == len(Phase) - 2
    assert all(len(headline) <= 16 and "good-1" in sentence for headline, sentence in told)


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason.word])
def test_a_part_that_was_not_judged_is_told_without_code_words_and_with_what_helps(reason: Reason) -> None:
    one = attempt("uninspected", reason.word)
    assert "not judged" in explain_wrong(one)
    assert "uninspected" not in explain_wrong(one)
    assert find_remedy(one)


def test_a_computer_that_is_too_slow_is_named_and_a_wrong_verdict_stays_one() -> None:
    assert explain_wrong(attempt("uninspected", "deadline")) == (
        "it was not judged in time: the computer was too slow"
    )
    rejected = attempt("reject", None)
    assert (explain_wrong(rejected), find_remedy(rejected)) == ("it got reject, not pass", "")
    # A failure that an earlier version wrote has no reason.
    old = Failure(utc="", marks=(), part="good-1", wrong="it got pass, not reject", since=None)
    assert explain_wrong(old) == "it got pass, not reject"
