"""Every outcome in the journal has words that an operator reads without a glossary."""

from __future__ import annotations

import pytest

from monitor.journal.recorder import OUTCOMES
from monitor.review.gate_outcomes import explain_outcome


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_an_outcome_is_told_in_a_sentence_of_its_own(outcome: str) -> None:
    assert " " in explain_outcome(outcome)
    assert explain_outcome(outcome) != outcome


def test_the_answer_of_the_gate_says_more_than_the_outcome() -> None:
    assert explain_outcome("unacknowledged", "late") == "the gate answered: too late"
    assert explain_outcome("unacknowledged", "jam 7") == "the gate answered: jam 7"
