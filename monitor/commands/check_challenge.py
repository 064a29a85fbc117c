"""What `check` finds out about the challenge parts: expired ones, missing bad ones, a challenge that failed.

It knows nothing of the running line's frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from monitor import paths
from monitor.commands.finding import Finding, Level
from monitor.line_state.challenge_file import read_challenge
from monitor.line_state.challenge_run import ChallengeError, Phase, explain_expired
from monitor.settings import CameraSettings, ExpectedVerdict, Settings

SOON_DAYS = 30
_ITEM = "challenge"


def find_challenge(settings: Settings, today: date) -> Iterator[Finding]:
    """A line for each trouble with the challenge; one that it is in order where there is none."""
    rules = settings.challenge
    if not rules.part:
        return
    troubles = [*_find_dates(settings, today), *_find_missing(settings), *_find_state(settings)]
    yield from troubles
    if not troubles:
        first = min(part.expires for part in rules.part)
        yield Finding(Level.OK, _ITEM, f"{len(rules.part)} parts, the first expires on {first}")


def _find_dates(settings: Settings, today: date) -> Iterator[Finding]:
    if (why := explain_expired(settings.challenge, today)) is not None:
        yield Finding(Level.FAIL, _ITEM, why)
    for part in settings.challenge.part:
        left = (part.expires - today).days
        if 0 <= left <= SOON_DAYS:
            yield Finding(
                Level.WARN,
                _ITEM,
                f"part {part.id} may be used until {part.expires}: have it verified again before",
            )
        if part.verified > today:
            yield Finding(
                Level.WARN, _ITEM, f"part {part.id}: verified is in the future ({part.verified}): correct it"
            )


def _find_missing(settings: Settings) -> Iterator[Finding]:
    if settings.review.port == 0:
        yield Finding(
            Level.FAIL,
            _ITEM,
            "review.port is 0, and only the page leads through the challenge: set a port",
        )
    bad = {part.camera for part in settings.challenge.part if part.expected is ExpectedVerdict.REJECT}
    for camera in settings.challenge.cameras:
        if camera not in bad:
            yield Finding(
                Level.WARN,
                _ITEM,
                f"camera {camera} has no bad part: the challenge would not notice that it passes everything; "
                'add a part with expected = "reject"',
            )


def find_free_running(settings: Settings, camera: CameraSettings) -> Iterator[Finding]:
    """A warning for a camera whose recipe has no presence gate: each of its frames counts as the part, also
    those that are taken before a person has laid it there."""
    is_triggered = camera.source.startswith("gige://") and "trigger=free-run" not in camera.source
    if camera.name in settings.challenge.cameras and not is_triggered:
        yield Finding(
            Level.WARN,
            _ITEM,
            f"camera {camera.name} runs free and its recipe has no presence gate: lay each part under it "
            "before you press the button, or calibrate the recipe with empty pictures",
        )


def _find_state(settings: Settings) -> Iterator[Finding]:
    try:
        state = read_challenge(paths.challenge(settings))
    except ChallengeError as error:
        yield Finding(Level.WARN, _ITEM, str(error))
        return
    if state is not None and state.phase is Phase.FAILED:
        yield Finding(
            Level.WARN,
            _ITEM,
            f"the last one has failed: part {state.attempts[-1].part}: {state.attempts[-1].wrong}; "
            "the page Challenge lists the parts since the last success",
        )
