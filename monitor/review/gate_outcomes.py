"""What became of a verdict on its way to the gate, in words for operators. It knows nothing of the gate."""

from __future__ import annotations

_WORDS = {
    "decided": "not sent yet",
    "published": "sent to the gate",
    "unheard": "sent, but no gate listened",
    "acknowledged": "the gate answered",
    "unacknowledged": "no answer from the gate",
    "expired": "the message came too late to be sent",
    "not published": "not sent: the settings ask for no message",
    "unknown": "not known: the service ended before",
}
_ANSWERS = {
    "late": "the gate answered: too late",
    "failed": "the gate answered: it failed to remove the part",
    "actuated": "the gate removed the part",
    "accepted": "the gate accepted the message",
}


def explain_outcome(outcome: str, answer: str | None = None) -> str:
    """The outcome in words, from its word in the journal and the gateway's answer."""
    words = _WORDS.get(outcome, outcome)
    return words if answer is None else _ANSWERS.get(answer, f"the gate answered: {answer}")
