"""The parts since the last success of the challenge: what a failed challenge puts in doubt.

It knows nothing of pages. In one session the marks of success and failure say it all; over restarts of the
service the journal's counts of each session do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from monitor.journal.reader import JournalReader, JournalReadError, Session, SessionTotal, VerdictRow
from monitor.line_state.challenge_run import CameraMark, Failure, Success
from monitor.verdict import rfc3339

MOST_REJECTS = 500
_BEFORE_NS = 3_600_000_000_000
"""A killed session may have ended later than the journal holds; it is looked for among those before."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The frames of one camera in one session. Frames of challenge parts lie between them and are not
    counted."""

    camera: str
    session: str
    first: int
    last: int
    from_utc: str
    to_utc: str
    passed: int
    rejected: int
    uninspected: int


@dataclass(frozen=True, slots=True)
class PartsInDoubt:
    since_utc: str | None
    """The last success; None: none is known, so every earlier part is in doubt too."""
    until_utc: str
    stretches: tuple[Stretch, ...]
    rejects: tuple[VerdictRow, ...]
    """The newest first."""
    has_more_rejects: bool = False
    problem: str = ""
    """Why the journal can't be read; rejects, and parts of earlier sessions, are then missing."""
    is_whole: bool = True
    """Whether all parts in doubt are listed."""

    @property
    def passed(self) -> dict[str, int]:
        """How many passed, by camera. One part may pass several cameras, so the numbers have no sum."""
        numbers: dict[str, int] = {}
        for stretch in self.stretches:
            numbers[stretch.camera] = numbers.get(stretch.camera, 0) + stretch.passed
        return numbers


def find_parts_in_doubt(journal: Path, failure: Failure, views: Collection[str] = ()) -> PartsInDoubt:
    """The parts from the last success before the failure on; without a success those of the whole journal.
    `views` are the live views, which judge no parts."""
    success = failure.since
    since = success.utc if success else ""
    try:
        with JournalReader(journal) as reader:
            totals = reader.session_totals(since)
            sessions = reader.sessions(rfc3339(success.utc_ns - _BEFORE_NS) if success else "")
            rejects = reader.rejects(since, failure.utc, MOST_REJECTS + 1)
            problem = ""
    except JournalReadError as error:
        totals, sessions, rejects, problem = [], [], [], str(error)
    return PartsInDoubt(
        since or None,
        failure.utc,
        tuple(_find_stretches(failure, totals, sessions, views)),
        tuple(rejects[:MOST_REJECTS]),
        len(rejects) > MOST_REJECTS,
        problem,
        is_whole=_is_whole(success, failure, problem),
    )


def _is_whole(success: Success | None, failure: Failure, problem: str) -> bool:
    """Whether marks and journal tell all parts. A failure that is not on disk yet has no marks."""
    if success is None or not failure.marks:
        return False
    return not problem or {mark.session for mark in success.marks} == {mark.session for mark in failure.marks}


def _find_stretches(
    failure: Failure, totals: list[SessionTotal], sessions: list[Session], views: Collection[str]
) -> Iterator[Stretch]:
    """Those of each camera in the order of time. A camera that is in only one of success, failure and journal
    counts too: it was added or removed meanwhile."""
    success = failure.since
    starts = {mark.camera: mark for mark in success.marks} if success else {}
    ends = {mark.camera: mark for mark in failure.marks}
    counted = {total.camera for total in totals} - set(views)
    runs = {session.session: session for session in sessions if session.session is not None}
    for camera in [*ends, *sorted((starts.keys() | counted) - ends.keys())]:
        of_camera = {total.session: total for total in totals if total.camera == camera}
        for name in _choose_sessions(failure, runs, of_camera):
            end, total, start = ends.get(camera), of_camera.get(name), starts.get(camera)
            run = runs.get(name)
            begun = max(success.utc if success else "", run.started_utc if run else "")
            taken = start if start is not None and start.session == name else None
            if end is not None and end.session == name:
                yield _subtract(end, taken, begun, failure.utc)
            elif total is not None:
                counts = total.frames, total.passed, total.rejected, total.uninspected
                ended = (run.ended_utc if run else None) or ""
                yield _subtract(CameraMark(camera, name, *counts), taken, begun, ended)


def _choose_sessions(failure: Failure, runs: dict[str, Session], of_camera: Iterable[str]) -> Iterator[str]:
    """The sessions from that of the success to that of the failure, oldest first. A session that the journal
    counts but no longer dates is one of the oldest."""
    begun_in = {mark.session for mark in failure.since.marks} if failure.since else set()
    failed_in = {mark.session for mark in failure.marks}
    since = failure.since.utc if failure.since else ""
    yield from (name for name in of_camera if name not in runs and name not in failed_in)
    for name, run in runs.items():
        if name not in failed_in and (name in begun_in or since <= run.started_utc <= failure.utc):
            yield name
    yield from failed_in


def _subtract(end: CameraMark, start: CameraMark | None, from_utc: str, to_utc: str) -> Stretch:
    begin = start or CameraMark(end.camera, end.session, 0, 0, 0, 0)
    return Stretch(
        end.camera,
        end.session,
        begin.frame + 1,
        end.frame,
        from_utc,
        to_utc,
        end.passed - begin.passed,
        end.rejected - begin.rejected,
        end.uninspected - begin.uninspected,
    )
