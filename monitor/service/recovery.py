"""What a service that was killed as a whole left in its rings, put into the journal before they go.

A reject that it had not sent, or of which nobody can know whether it was, will never be sent: the line is
latched for it, and for a part that nobody came to judge, where such parts are for the gate or stop the line.
A busy line is thus latched by every kill of the whole service, which is right: nobody knows what passed.
Called once, before the rings of the next session are laid down. It must never keep a line from starting:
what can't be read or written is one line in the log, and a gap in the journal.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import msgspec
from pydantic import ValidationError

from monitor import paths
from monitor.journal.recorder import ended
from monitor.journal.writer import Journal
from monitor.line_state import verdict_rules
from monitor.line_state.board import Board, Word
from monitor.line_state.changeover import recipe_name
from monitor.line_state.frame import Frame
from monitor.line_state.latch import Latch, read_latch, write_latch
from monitor.line_state.ring import RECORDS, Closed, Ring, RingError
from monitor.line_state.worker_process import PUBLISH, roll
from monitor.settings import CameraSettings, Settings
from monitor.verdict import Event, Reason, Verdict

_READING_S = 5.0
_WRITING_S = 5.0
_MOST_NAMED = 20


def salvage(settings: Settings, folder: Path, log: logging.Logger) -> Latch:
    """Latches what the killed service missed, and notes the verdicts in its rings that the journal does not
    have. Returns the latch that the next session begins with: the disk may have refused it. `folder` is the
    runtime directory as that service left it."""
    rings = _rings(settings, folder, log)
    if not rings:
        return read_latch(paths.latch(settings))
    board = _board(settings, folder)
    newest = rings[0][1]
    # Rings from before a power cut may lack its last moments: the journal then marks the gap.
    session = str(newest.session) if newest.is_of_this_boot() else None

    def event_of(camera: CameraSettings, ring: Ring, frame: Frame, closed: Closed) -> Event:
        scored = ring.scored(frame.number)
        recipe = _recipe(board, camera, scored.recipe_sha if scored else "")
        return verdict_rules.event(settings.prefix, str(ring.session), camera, recipe, frame, closed, scored)

    journal = Journal(
        paths.journal(settings),
        settings.journal,
        session=session,
        killed=True,
        held=RECORDS * len(rings),
        log=log,
    )
    latch = _latch(settings, rings, board, journal, log)
    until = time.monotonic() + _READING_S
    for camera, ring in rings:
        for found in ended(settings, camera, ring, event_of, for_good=True):
            journal.put(found.event, found.outcome, latency_ms=found.latency_ms, again=True)
            if time.monotonic() > until:
                log.warning("camera %s: not all that the killed service left was looked at", camera.name)
                break
        ring.close()
    if board is not None:
        board.close()
    if not journal.close(_WRITING_S):
        log.error("what the killed service left could not be noted: %s", journal.problem or "too slow a disk")
    return latch


def _latch(
    settings: Settings,
    rings: list[tuple[CameraSettings, Ring]],
    board: Board | None,
    journal: Journal,
    log: logging.Logger,
) -> Latch:
    """What keeps the next session from being ready, on disk before anything of it runs, if it can be."""
    file = paths.latch(settings)
    before = latch = read_latch(file)
    # What the killed service had latched, should it not have come to write it down.
    found = [_latched(board)]
    for camera, ring in rings:
        missed, unjudged = _never_sent(settings, camera, ring)
        if missed:
            log.error(
                "camera %s: %d parts to reject were lost with the service: %s",
                camera.name,
                len(missed),
                _frames(missed),
            )
            found.append(Latch.MISSED_REJECT)
        if unjudged:
            log.error(
                "camera %s: the service ended before %d parts were judged: %s",
                camera.name,
                len(unjudged),
                _frames(unjudged),
            )
            found.append(Latch.UNINSPECTED)
    for one in found:
        if one is not Latch.NONE and one.outranks(latch):
            latch = one
    if latch is before:
        return latch
    journal.changed("latch", before.word, latch.word, "service")
    try:
        write_latch(file, latch, time.time_ns())
    except OSError as error:
        log.error("%s: %s: the latch %s could not be written", file, error.strerror, latch.word)
    return latch


def _latched(board: Board | None) -> Latch:
    try:
        return Latch(board.read(PUBLISH, Word.LATCH)) if board is not None else Latch.NONE
    except ValueError:
        return Latch.NONE


def _never_sent(settings: Settings, camera: CameraSettings, ring: Ring) -> tuple[list[int], list[int]]:
    """The frames that the gate had to be told to remove, and of which nobody knows whether it was: not done
    with, whether closed, scored or neither. Then those for which the line had to stop. What was missed before
    the end was latched then."""
    missed, unjudged = [], []
    for number in range(ring.tally().cursor + 1, ring.last_frame() + 1):
        if ring.stage(number).is_final:
            continue
        closed = ring.closed(number) or _as_it_stands(ring, number)
        follows = verdict_rules.derive_consequences(closed, camera, settings)
        if follows.is_for_gate:
            missed.append(number)
        elif follows.latch is not Latch.NONE:
            unjudged.append(number)
    return missed, unjudged


def _as_it_stands(ring: Ring, number: int) -> Closed:
    """An open frame's verdict, had it been closed at the end."""
    scored = ring.scored(number)
    if scored is None:
        return Closed(Verdict.UNINSPECTED, Reason.PUBLISHER_LOST, False, False, 0, 0)
    return Closed(scored.verdict, scored.reason, True, False, 0, 0)


def _frames(numbers: list[int]) -> str:
    """Those that somebody can look for; of many, the last ones, which are still near."""
    listed = ", ".join(str(number) for number in numbers[-_MOST_NAMED:])
    return f"frames {listed}" if len(numbers) <= _MOST_NAMED else f"the last frames {listed}"


def _rings(settings: Settings, folder: Path, log: logging.Logger) -> list[tuple[CameraSettings, Ring]]:
    """In the settings' order, then of cameras that are in the settings no more."""
    cameras = {camera.name: camera for camera in settings.camera}
    left = {file.stem for file in folder.glob("*.ring")}
    found = []
    for name in [*(name for name in cameras if name in left), *sorted(left - cameras.keys())]:
        try:
            ring = Ring(folder, name)
            camera = cameras.get(name) or _once_there(name)
        except (RingError, ValidationError) as error:
            log.warning("what the killed service left can't be noted: %s", error)
            continue
        found.append((camera, ring))
    return found


def _once_there(name: str) -> CameraSettings:
    """A camera that was taken out of the settings or renamed: taken for one whose every part counts."""
    return CameraSettings(name=name, source="folder:///", recipe="unknown")


def _board(settings: Settings, folder: Path) -> Board | None:
    """None where it is missing, or was another version's."""
    try:
        return Board(folder / "board", roll(settings))
    except (OSError, ValueError):
        return None


def _recipe(board: Board | None, camera: CameraSettings, sha: str) -> str:
    """The settings' recipe where the board does not tell: it may be another version's, or lack the camera."""
    if board is None:
        return camera.recipe
    try:
        return recipe_name(board, camera, sha)
    except (msgspec.MsgspecError, KeyError):
        return camera.recipe
