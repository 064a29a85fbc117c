"""Recovery after a kill of the whole service: its rings are read before the next session makes new ones.

It knows nothing of the running line. The verdicts in the rings that the journal lacks are added to it. A
reject that was not sent, or may not have been sent, is never sent later, so the line is latched for it. The
same holds for a part without a verdict where `on_uninspected` is `reject` or `stop`. A busy line is therefore
latched after every such kill, because it is not known which parts passed. Recovery must never prevent a
start: where something can't be read or written, it logs one line, and the journal has a gap.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from pydantic import ValidationError

from monitor import paths
from monitor.journal.recorder import read_outcomes
from monitor.journal.tallies import SLOT_NS
from monitor.journal.writer import JournalWriter
from monitor.line_state import challenge_board, verdict_rules
from monitor.line_state.board import Board, Field
from monitor.line_state.challenge_run import ChallengeState
from monitor.line_state.changeover import RecipeIdentity, find_judge
from monitor.line_state.counts import count_verdicts
from monitor.line_state.frame import Frame
from monitor.line_state.latch_file import Latch, read_latch, read_latch_and_parts, write_latch
from monitor.line_state.latched_parts import MOST, NO_PARTS, LatchedPart, LatchedParts, read_parts
from monitor.line_state.ring import RECORDS, FinalVerdict, Ring, RingError
from monitor.line_state.worker_process import PUBLISH, worker_names
from monitor.settings import CameraSettings, Settings
from monitor.verdict import Event, Reason, Verdict, rfc3339, snapshot_path

_LONGEST_READING_S = 5.0
_LONGEST_WRITING_S = 5.0
_MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class Recovered:
    """What the next session takes over from a killed service."""

    latch: Latch
    """The latch of the next session: the disk may have failed to store it."""
    lost_rejects: Mapping[str, int]
    """By camera: the rejects that were lost with the service."""
    challenge: ChallengeState | None = None
    """Where the challenge stood: the disk may have failed to store it."""


def recover(settings: Settings, folder: Path, log: logging.Logger) -> Recovered:
    """Latches the line for missed rejects, and adds to the journal the verdicts that it lacks.

    `folder` is the runtime directory of the killed service.
    """
    rings = _open_rings(settings, folder, log)
    if not rings:
        return Recovered(read_latch(paths.latch(settings)), {})
    board = _open_board(settings, folder)
    challenge = challenge_board.read_state(board) if board is not None else None
    newest = rings[0][1]
    # Rings from before a power cut may lack the last frames. Without a session the journal records a gap.
    session = str(newest.session) if newest.is_of_this_boot() else None

    def event_of(camera: CameraSettings, ring: Ring, frame: Frame, closed: FinalVerdict) -> Event:
        scored = ring.scorer_verdict(frame.number)
        judge = _find_judge(board, camera, scored.recipe_sha if scored else "")
        return verdict_rules.make_event(
            settings.prefix,
            str(ring.session),
            camera,
            judge,
            frame,
            closed,
            scored,
            _name_challenge(settings, board, closed.challenge),
        )

    journal = JournalWriter(
        paths.journal(settings),
        settings.journal,
        session=session,
        killed=True,
        held=RECORDS * len(rings),
        log=log,
    )
    recovered = _latch_missed(settings, rings, board, journal, log)
    until = time.monotonic() + _LONGEST_READING_S
    for camera, ring in rings:
        for found in read_outcomes(settings, camera, ring, event_of, for_good=True):
            journal.put(found.event, found.word, latency_ms=found.latency_ms, again=True)
            if time.monotonic() > until:
                log.warning(
                    "camera %s: only a part of the killed service's frames was read within %.0f s",
                    camera.name,
                    _LONGEST_READING_S,
                )
                break
        _record_tally(camera.name, ring, journal)
        ring.close()
    if board is not None:
        board.close()
    if not journal.close(_LONGEST_WRITING_S):
        log.error(
            "the killed service's verdicts could not be added to the journal: %s",
            journal.problem or "the disk is too slow",
        )
    return replace(recovered, challenge=challenge)


def _name_challenge(settings: Settings, board: Board | None, number: int) -> str | None:
    """The challenge part that a frame shows; by its number alone where the settings have other parts now."""
    if number == 0:
        return None
    parts = challenge_board.checksum_parts(settings.challenge)
    is_same = board is not None and board.read(PUBLISH, Field.CHALLENGE_PARTS) == parts
    return settings.challenge.find_id(number) if is_same else f"number-{number}"


def _record_tally(camera: str, ring: Ring, journal: JournalWriter) -> None:
    """Records what the killed service had judged. A frame without a verdict is uninspected."""
    frame, counts = ring.frame(ring.last_frame()), count_verdicts(ring)
    if frame is None:
        return
    uninspected = list(counts.uninspected)
    uninspected[Reason.PUBLISHER_LOST] += counts.in_flight
    slot_ns = frame.captured_utc_ns // SLOT_NS * SLOT_NS
    journal.record_tally(str(ring.session), camera, slot_ns, replace(counts, uninspected=tuple(uninspected)))


def _latch_missed(
    settings: Settings,
    rings: list[tuple[CameraSettings, Ring]],
    board: Board | None,
    journal: JournalWriter,
    log: logging.Logger,
) -> Recovered:
    """The latch of the next session. It is on disk before that session starts, unless writing it fails."""
    file = paths.latch(settings)
    before, parts_before = read_latch_and_parts(file)
    latch, parts = before, dict.fromkeys(Latch, NO_PARTS)
    parts[before] = parts_before
    # The killed service may have latched the line on the board and not yet written the file.
    found = [_read_board_latch(board)]
    if board is not None:
        parts[found[0]] = parts[found[0]].merge(read_parts(board))
    lost: dict[str, int] = {}
    for camera, ring in rings:
        missed, unjudged = _find_unsent(settings, camera, ring)
        lost[camera.name] = len(missed)
        missed, unjudged = (_since_first_contact(ring, board, numbers) for numbers in (missed, unjudged))
        if missed:
            log.error(
                "camera %s: %d rejects were lost with the service: %s",
                camera.name,
                len(missed),
                _list_frames(missed),
            )
            found.append(Latch.MISSED_REJECT)
            named = tuple(_name_parts(settings, camera, ring, missed))
            parts[Latch.MISSED_REJECT] = _add_all(parts[Latch.MISSED_REJECT], named, len(missed))
        if unjudged:
            log.error(
                "camera %s: the service ended before it had judged %d parts: %s",
                camera.name,
                len(unjudged),
                _list_frames(unjudged),
            )
            found.append(Latch.UNINSPECTED)
            named = tuple(_name_parts(settings, camera, ring, unjudged))
            parts[Latch.UNINSPECTED] = _add_all(parts[Latch.UNINSPECTED], named, len(unjudged))
    for one in found:
        if one is not Latch.NONE and one.outranks(latch):
            latch = one
    if latch is before and parts[latch] == parts_before:
        return Recovered(latch, lost)
    if latch is not before:
        journal.record_change("latch", before.word, latch.word, "service")
    try:
        write_latch(file, latch, time.time_ns(), parts[latch])
    except OSError as error:
        log.error("%s: %s: the latch %s could not be written", file, error.strerror, latch.word)
    return Recovered(latch, lost)


def _read_board_latch(board: Board | None) -> Latch:
    """The latch on the board; NONE when there is none, or when another version has written it."""
    try:
        return Latch(board.read(PUBLISH, Field.LATCH)) if board is not None else Latch.NONE
    except ValueError:
        return Latch.NONE


def _find_unsent(settings: Settings, camera: CameraSettings, ring: Ring) -> tuple[list[int], list[int]]:
    """Of the frames whose delivery had not ended: the numbers of those whose part the gate had to remove, and
    of those for which the line had to stop.

    Such a frame may be closed and not sent, only scored, or neither. The killed service itself latched the
    line for rejects that it missed.
    """
    missed, unjudged = [], []
    for number in range(ring.tally().cursor + 1, ring.last_frame() + 1):
        if ring.stage(number).is_final:
            continue
        closed = ring.final_verdict(number) or _make_verdict(ring, number)
        follows = verdict_rules.derive_consequences(closed, camera, settings)
        if follows.is_for_gate:
            missed.append(number)
        elif follows.latch is not Latch.NONE:
            unjudged.append(number)
    return missed, unjudged


def _since_first_contact(ring: Ring, board: Board | None, numbers: list[int]) -> list[int]:
    """The frames that were captured after the killed service had reached the broker. Earlier parts latch
    nothing: the line was never ready. Without a readable board all frames count."""
    if board is None:
        return numbers
    connected_ns = board.read(PUBLISH, Field.EVER_CONNECTED)
    return [
        number
        for number in numbers
        if connected_ns and ((frame := ring.frame(number)) is None or frame.captured_ns >= connected_ns)
    ]


def _make_verdict(ring: Ring, number: int) -> FinalVerdict:
    """The verdict of a frame that is not closed, as if it were closed now."""
    scored = ring.scorer_verdict(number)
    if scored is None:
        return FinalVerdict(Verdict.UNINSPECTED, Reason.PUBLISHER_LOST, False, False, 0, 0)
    return FinalVerdict(scored.verdict, scored.reason, True, False, 0, 0)


def _name_parts(
    settings: Settings, camera: CameraSettings, ring: Ring, numbers: list[int]
) -> Iterator[LatchedPart]:
    """The last of these frames, the newest first, for the person who looks for their parts: those are still
    near the machine, and only some of them are named."""
    for number in reversed(numbers[-MOST - 1 :]):
        frame, scored = ring.frame(number), ring.scorer_verdict(number)
        if frame is None:
            continue
        picture = None
        if scored is not None and scored.snapshot:
            picture = snapshot_path(frame.captured_utc_ns, camera.name, number, scored.score)
        if picture is not None and not (paths.snapshots(settings) / picture).is_file():
            # The snapshot writer ended with the service.
            picture = None
        yield LatchedPart(camera.name, number, rfc3339(frame.captured_utc_ns), picture)


def _add_all(parts: LatchedParts, named: Sequence[LatchedPart], number: int) -> LatchedParts:
    """With `number` parts, of which some have names."""
    for part in named:
        parts = parts.add(part)
    return parts.add_unnamed(number - len(named))


def _list_frames(numbers: list[int]) -> str:
    """The numbers as text. Of many, only the last 20: those parts are still near the machine."""
    listed = ", ".join(str(number) for number in numbers[-_MOST_NAMED:])
    return f"frames {listed}" if len(numbers) <= _MOST_NAMED else f"the last frames {listed}"


def _open_rings(settings: Settings, folder: Path, log: logging.Logger) -> list[tuple[CameraSettings, Ring]]:
    """Maps the rings of the cameras in the order of the settings, then those of cameras that are no longer
    there."""
    cameras = {camera.name: camera for camera in settings.camera}
    left = {file.stem for file in folder.glob("*.ring")}
    found = []
    for name in [*(name for name in cameras if name in left), *sorted(left - cameras.keys())]:
        try:
            ring = Ring(folder, name)
            camera = cameras.get(name) or _default_camera(name)
        except (RingError, ValidationError) as error:
            log.warning("frames of the killed service can't be read: %s", error)
            continue
        found.append((camera, ring))
    return found


def _default_camera(name: str) -> CameraSettings:
    """Settings for a camera that was removed or renamed: each of its frames counts as a part."""
    return CameraSettings(name=name, source="folder:///", recipe="unknown")


def _open_board(settings: Settings, folder: Path) -> Board | None:
    """Maps the board; None when it is missing or of another version."""
    try:
        return Board(folder / "board", worker_names(settings))
    except (OSError, ValueError):
        return None


def _find_judge(board: Board | None, camera: CameraSettings, sha: str) -> RecipeIdentity:
    """A part's recipe; the settings' recipe where the board lacks it, since the board may be of another
    version or without the camera."""
    if board is None:
        return RecipeIdentity(camera.recipe, sha)
    try:
        return find_judge(board, camera, sha)
    except (msgspec.MsgspecError, KeyError):
        return RecipeIdentity(camera.recipe, sha)
