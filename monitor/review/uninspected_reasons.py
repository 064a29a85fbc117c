"""Why a part was not judged, in words for operators. It knows nothing of how that was found out."""

from __future__ import annotations

from monitor.verdict import Reason

_WORDS = {
    Reason.DEADLINE: "not judged in time",
    Reason.QUEUE_FULL: "too many parts waited",
    Reason.SUPERSEDED: "a newer picture took its place",
    Reason.BAD_FRAME: "the picture was damaged or missing",
    Reason.BAD_SCORE: "the score was no number",
    Reason.SCORER_LOST: "the scoring program had stopped",
    Reason.CAPTURE_LOST: "the camera's program had stopped",
    Reason.PUBLISHER_LOST: "the sending program had stopped",
    Reason.NO_RECIPE: "there was no recipe",
    Reason.NO_FRAME: "the camera's picture never arrived",
    Reason.PART_MISMATCH: "it was not known which part it was",
}


def explain_reason(reason: str | None) -> str:
    """The reason of an uninspected part in words, from its word in payloads and the journal."""
    known = {its.word: text for its, text in _WORDS.items()}
    return known.get(reason, reason or "not judged")
