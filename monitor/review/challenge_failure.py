"""The parts since the last success of the challenge: what a failed challenge puts in doubt.

It knows nothing of pages. In one session the marks of success and failure say it all; over restarts of the
service the journal's counts of each session do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from monitor.journal.reader import JournalReader, JournalReadError, Session, SessionTotal, VerdictRow
from monitor.line_state.challenge_run import CameraMark, Failure
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
    """Why the journal can't be read; parts of earlier sessions are then missing."""

    @property
    def passed(self) -> int:
        return sum(stretch.passed for stretch in self.stretches)


def find_parts_in_doubt(journal: Path, failure: Failure) -> PartsInDoubt:
    """The parts from the last success before the failure on."""
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
        tuple(_find_stretches(failure, totals, sessions)),
        tuple(rejects[:MOST_REJECTS]),
        len(rejects) > MOST_REJECTS,
        problem,
    )


def _find_stretches(
    failure: Failure, totals: list[SessionTotal], sessions: list[Session]
) -> Iterator[Stretch]:
    """Those of each camera in the order of time."""
    success = failure.since
    since = success.utc if success else ""
    before = {mark.camera: mark for mark in success.marks} if success else {}
    for end in failure.marks:
        start = before.get(end.camera)
        if start is not None and start.session != end.session:
            yield from _of_earlier_sessions(start, end, since, totals, sessions)
        is_same = start is not None and start.session == end.session
        begun = next((one.started_utc for one in sessions if one.session == end.session), since)
        yield _subtract(end, start if is_same else None, max(since, begun), failure.utc)


def _of_earlier_sessions(
    start: CameraMark,
    end: CameraMark,
    since: str,
    totals: list[SessionTotal],
    sessions: list[Session],
) -> Iterator[Stretch]:
    known = {total.session: total for total in totals if total.camera == end.camera}
    names = [session.session for session in sessions]
    first = names.index(start.session) if start.session in names else 0
    for session in sessions[first:]:
        total = known.get(session.session or "")
        is_earlier = first == 0 and session.session != start.session and session.started_utc < since
        if total is None or session.session == end.session or is_earlier:
            continue
        whole = CameraMark(
            end.camera, total.session, total.frames, total.passed, total.rejected, total.uninspected
        )
        taken = start if start.session == total.session else None
        yield _subtract(whole, taken, max(since, session.started_utc), session.ended_utc or "")


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
