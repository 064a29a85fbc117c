"""The line's state as a person reads it from three metres away: one colour, a few words, one sentence.

It knows nothing of boards and pages: it is a pure function of what `line_view` has read. Green stands only
where parts are inspected and the line may run. Where the state is not known, it is never green.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from monitor.publish.status import OperatingState


class Light(StrEnum):
    """The colour. Each has a shape and words of its own, for people who see no colours."""

    GREEN = "green"
    AMBER = "amber"
    RED = "red"
    GREY = "grey"


class ServiceState(StrEnum):
    """What the page knows of the line's service."""

    RUNNING = "running"
    ABSENT = "absent"
    DEAD = "dead"
    """Its files are there, its supervisor is not."""
    HIDDEN = "forbidden"
    """Its files belong to another user."""


@dataclass(frozen=True, slots=True)
class StateBanner:
    light: Light
    headline: str
    """At most 16 letters."""
    sentence: str
    needs_reset: bool = False
    needs_challenge: bool = False
    needs_recipe: bool = False


_NOT_SEEN = {
    ServiceState.ABSENT: StateBanner(
        Light.GREY, "No line runs", "No line runs on this computer: parts are not inspected."
    ),
    ServiceState.DEAD: StateBanner(
        Light.RED,
        "Line is down",
        "The service has ended without a word: parts are not inspected. Start it again.",
    ),
    ServiceState.HIDDEN: StateBanner(
        Light.GREY, "Not known", "This page may not look at the line: serve it as the user of the line."
    ),
}
_LATCHED = {
    "missed_reject": ("Reject missed", "A reject was missed. Look for the part, then reset the line."),
    "uninspected": (
        "Part not judged",
        "A part was not judged (uninspected). Look for it, then reset the line.",
    ),
    "reject_run": (
        "Too many rejects",
        "Too many rejects in a row. Look at the parts, the lamp and the camera, then reset the line.",
    ),
    "reject_rate": (
        "Too many rejects",
        "Too large a share of rejects. Look at the parts, the lamp and the camera, then reset the line.",
    ),
}
_LATCHED_MANY = {
    "missed_reject": "{0} rejects were missed. Look for these {0} parts, then reset the line.",
    "uninspected": "{0} parts were not judged (uninspected). Look for these {0} parts, then reset the line.",
}
_NOT_READY = {
    "challenge": ("Challenge due", "Show the known parts to the line: the page Challenge leads you."),
    "challenge_failed": (
        "Challenge failed",
        "A known part failed twice. Hold the parts since the last success: the page Challenge lists them.",
    ),
    "scorer_lost": ("Not judging", "The scoring program has stopped. It is started again by itself."),
    "no_recipe": (
        "No recipe",
        "A camera has no recipe that can be used. Teach one, or see the reason on the page Live.",
    ),
    "camera_lost": ("Camera lost", "Look at its cable, its power, its network or its folder of images."),
    "camera_frozen": ("Camera frozen", "A camera sends the same picture again and again."),
    "camera_undated": (
        "Camera undated",
        "Nobody can tell when a camera's pictures were taken. Call the engineer.",
    ),
}
_LOOK = {
    "camera_lost": "A live view is lost.",
    "camera_undated": "A live view's pictures can't be dated.",
    "no_recipe": "A live view has no recipe that can be used. Teach one, or see the reason on the page Live.",
    "worker_failing": "A program of the line ends again and again. Call the engineer.",
    "drift": "Good parts score otherwise than at calibration. Look at the lamp, the lens and the camera.",
    "journal": "The journal can't be written. Call the engineer.",
    "no_time": "There is no time left for a live view, since parts come first.",
}
_STARTING = {
    "starting": "Recipes are being loaded. This takes about a minute.",
    "camera_starting": "A camera is being opened.",
}


def name_count(banner: StateBanner, latch: str | None, count: int | None) -> StateBanner:
    """The banner of a latched line with the number of its parts, where there are several and each counts."""
    sentence = _LATCHED_MANY.get(latch or "")
    if not banner.needs_reset or sentence is None or count is None or count < 2:
        return banner
    return replace(banner, sentence=sentence.format(count))


def name_step(banner: StateBanner, headline: str, sentence: str) -> StateBanner:
    """The banner of a line that waits for the challenge, with the step that is next."""
    return replace(banner, headline=headline, sentence=f"{sentence} The line may not run.")


def describe_state(
    service: ServiceState,
    state: OperatingState,
    reason: str | None,
    *,
    is_ready: bool,
    may_run: bool,
    cameras: tuple[str, ...] = (),
    has_failed_challenge: bool = False,
) -> StateBanner:
    """The banner of a line. `is_ready` is what the rules say, `may_run` the permission that was really sent;
    `cameras` are those that the reason is about."""
    if service is not ServiceState.RUNNING:
        return _NOT_SEEN[service]
    which = f"Camera {', '.join(cameras)}: " if cameras and (reason or "").startswith("camera_") else ""
    if state is OperatingState.STOPPED:
        return StateBanner(Light.GREY, "Stopped", "The line is being stopped: parts are not inspected.")
    if reason in _LATCHED:
        headline, sentence = _LATCHED[reason]
        return StateBanner(Light.RED, headline, sentence, needs_reset=True)
    if state is OperatingState.STARTING:
        return StateBanner(Light.AMBER, "Starting", f"{which}{_STARTING.get(reason or '', 'Wait.')}")
    if not is_ready:
        if reason == "challenge" and has_failed_challenge:
            reason = "challenge_failed"
        headline, sentence = _NOT_READY.get(reason or "", ("Not ready", "Call the engineer."))
        return StateBanner(
            Light.RED,
            headline,
            f"{which}{sentence} The line may not run.",
            needs_challenge=reason in ("challenge", "challenge_failed"),
            needs_recipe=reason == "no_recipe",
        )
    if not may_run:
        return StateBanner(
            Light.RED,
            "No connection",
            "The line does not reach the gate over the broker. The line may not run.",
        )
    if state is OperatingState.DEGRADED:
        return StateBanner(
            Light.AMBER, "Ready, but look", f"{which}{_LOOK.get(reason or '', 'Look at the page Live.')}"
        )
    return StateBanner(Light.GREEN, "Ready", "Parts are inspected. The line may run.")
