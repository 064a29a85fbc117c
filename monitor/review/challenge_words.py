"""The challenge in words for operators: what to do now, why an attempt is wrong, and what helps.

It knows nothing of the board and of HTTP.
"""

from __future__ import annotations

from monitor.line_state.challenge_run import Attempt, ChallengeState, Failure, Phase
from monitor.review.uninspected_reasons import explain_reason
from monitor.settings import ChallengePartSettings
from monitor.verdict import Reason, Verdict

_TOO_SLOW = frozenset({Reason.DEADLINE.word, Reason.QUEUE_FULL.word, Reason.SUPERSEDED.word})
_REMEDIES = {
    **dict.fromkeys(
        _TOO_SLOW,
        "Close other programs on this computer, wait until no recipe is being taught, then show the part "
        "again. If it happens again, call the engineer: the computer does not keep up with the line.",
    ),
    **dict.fromkeys(
        (Reason.BAD_FRAME.word, Reason.NO_FRAME.word, Reason.CAPTURE_LOST.word),
        "Look at the camera, its cable and its lamp, and at the page Live. Then show the part again.",
    ),
    **dict.fromkeys(
        (Reason.SCORER_LOST.word, Reason.PUBLISHER_LOST.word),
        "The program is started again by itself: wait a minute, then show the part again.",
    ),
    Reason.NO_RECIPE.word: "Put a recipe in force on the page Recipes, then show the part again.",
}


def describe_step(state: ChallengeState, part: ChallengePartSettings) -> tuple[str, str] | None:
    """The bar's headline and sentence for the step that is next with that part; None where the challenge is
    not under way."""
    where = f"part {part.id} under camera {part.camera}"
    match state.phase:
        case Phase.DUE:
            return "Challenge due", f"Show {where} next: the page Challenge leads you."
        case Phase.ARMED:
            return "Part expected", f"Lay {where} now."
        case Phase.SHOWN:
            return "Challenge: wait", f"The verdict on {where} is on its way to the gate."
        case Phase.LEAVING:
            return "Take part away", f"Take part {part.id} away from camera {part.camera}."
        case _:
            return None


def is_unjudged(one: Attempt | Failure) -> bool:
    """Whether the part was wrong only because the line did not judge it."""
    return one.verdict == Verdict.UNINSPECTED.word


def explain_wrong(one: Attempt | Failure) -> str:
    """Why an attempt is wrong; empty for a right one."""
    if not is_unjudged(one):
        return one.wrong or ""
    if one.reason in _TOO_SLOW:
        return "it was not judged in time: the computer was too slow"
    return f"it was not judged: {explain_reason(one.reason)}"


def find_remedy(one: Attempt | Failure) -> str:
    """What helps against an attempt that was not judged; empty for one that was."""
    return _REMEDIES.get(one.reason or "", "Call the engineer.") if is_unjudged(one) else ""
