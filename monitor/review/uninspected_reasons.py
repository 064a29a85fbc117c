"""Why a part was not judged, in words for operators. It knows nothing of how that was found out."""

from __future__ import annotations

from monitor.verdict import Reason

_WORDS = {
    Reason.DEADLINE.word: "there was no time left",
    Reason.QUEUE_FULL.word: "too many parts waited",
    Reason.SUPERSEDED.word: "a newer image took its place",
    Reason.BAD_FRAME.word: "the image was damaged or missing",
    Reason.BAD_SCORE.word: "the score was no number",
    Reason.SCORER_LOST.word: "the scoring program had stopped",
    Reason.CAPTURE_LOST.word: "the camera's program had stopped",
    Reason.PUBLISHER_LOST.word: "the sending program had stopped",
    Reason.NO_RECIPE.word: "there was no recipe",
    Reason.NO_FRAME.word: "the camera's image never arrived",
    Reason.PART_MISMATCH.word: "it was not known which part it was",
}


def explain_reason(reason: str | None) -> str:
    """The reason of an uninspected part in words, from its word in payloads and the journal."""
    return _WORDS.get(reason, reason or "not judged")
