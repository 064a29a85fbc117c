"""What a service that was killed as a whole left in its rings, put into the journal before they go.

Called once, before the rings of the next session are laid down. It must never keep a line from starting: what
can't be read or written is one line in the log, and a gap in the journal.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import msgspec

from monitor import ledger, places
from monitor.board import Board
from monitor.changeover import recipe_name
from monitor.frame import Frame
from monitor.journal import Journal
from monitor.recorder import ended
from monitor.ring import RECORDS, Closed, Ring, RingError
from monitor.settings import CameraSettings, Settings
from monitor.verdict import Event
from monitor.worker import roll

_READING_S = 5.0
_WRITING_S = 5.0


def salvage(settings: Settings, folder: Path, log: logging.Logger) -> int:
    """Notes the verdicts in the rings of a killed service that the journal does not have. Returns how many
    frames it put. `folder` is the runtime directory as that service left it."""
    rings = _rings(settings, folder, log)
    if not rings:
        return 0
    board = _board(settings, folder)
    newest = rings[0][1]
    # Rings from before a power cut may lack its last moments: the journal then marks the gap.
    session = str(newest.session) if newest.is_of_this_boot() else None

    def event_of(camera: CameraSettings, ring: Ring, frame: Frame, closed: Closed) -> Event:
        scored = ring.scored(frame.number)
        recipe = _recipe(board, camera, scored.recipe_sha if scored else "")
        return ledger.event(settings.prefix, str(ring.session), camera, recipe, frame, closed, scored)

    journal = Journal(
        places.journal(settings),
        settings.journal,
        session=session,
        killed=True,
        held=RECORDS * len(rings),
        log=log,
    )
    put, until = 0, time.monotonic() + _READING_S
    for camera, ring in rings:
        for found in ended(settings, camera, ring, event_of, for_good=True):
            journal.put(found.event, found.outcome, latency_ms=found.latency_ms, again=True)
            put += 1
            if time.monotonic() > until:
                log.warning("camera %s: not all that the killed service left was looked at", camera.name)
                break
        ring.close()
    if board is not None:
        board.close()
    if not journal.close(_WRITING_S):
        log.error("what the killed service left could not be noted: %s", journal.problem or "too slow a disk")
    return put


def _rings(settings: Settings, folder: Path, log: logging.Logger) -> list[tuple[CameraSettings, Ring]]:
    found = []
    for camera in settings.camera:
        if not (folder / f"{camera.name}.ring").exists():
            continue
        try:
            ring = Ring(folder, camera.name)
        except RingError as error:
            log.warning("what the killed service left can't be noted: %s", error)
            continue
        found.append((camera, ring))
    return found


def _board(settings: Settings, folder: Path) -> Board | None:
    """None where it is missing, or was another version's."""
    try:
        return Board(folder / "board", roll(settings))
    except (OSError, ValueError):
        return None


def _recipe(board: Board | None, camera: CameraSettings, sha: str) -> str:
    """The settings' recipe where the board does not tell: it may be another version's."""
    if board is None:
        return camera.recipe
    try:
        return recipe_name(board, camera, sha)
    except msgspec.MsgspecError:
        return camera.recipe
