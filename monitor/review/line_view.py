"""The running line as the page sees it: the rings and the board, mapped for reading alone.

Everything is opened for one look and closed after it, so that a line that was started anew is seen at once,
and a page that nobody looks at touches nothing. Must never write, and never hold a slot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from drivers.image_file import Image
from monitor import paths
from monitor.line_state import changeover
from monitor.line_state.board import Board, CameraState, Word
from monitor.line_state.counts import Counts, counts
from monitor.line_state.frame import Frame, viewable
from monitor.line_state.latch import Latch
from monitor.line_state.ring import SLOTS, Ring, RingError
from monitor.line_state.worker_process import PUBLISH, capture_name, roll
from monitor.settings import CameraSettings, Settings
from monitor.verdict import Reason, Verdict

SCORES_LOOKED_AT = 2000
"""Frames back from the newest whose scores are shown."""
_WAITS_FOR = {
    Latch.MISSED_REJECT: "a reject was missed: look for the part",
    Latch.UNINSPECTED: "a part was not inspected: look for it",
    Latch.REJECT_RUN: "too many rejects in a row: look at the parts, the lamp and the camera",
    Latch.REJECT_RATE: "too large a share of rejects: look at the parts, the lamp and the camera",
}


@dataclass(frozen=True, slots=True)
class CameraView:
    """One camera at one moment."""

    name: str
    recipe: str
    state: str
    """up, lost, frozen, starting, or stopped where no line runs."""
    trouble: str
    counts: Counts | None
    """Of the session."""
    age_s: float | None
    """Since its newest frame."""


@dataclass(frozen=True, slots=True)
class LineStatus:
    running: bool
    ready: bool
    troubles: tuple[str, ...]
    """What somebody has to look at before a reset, and what the workers say is wrong; a line each."""
    cameras: tuple[CameraView, ...]
    utc: str


class LineView:
    """A look at the line of these settings. For several threads."""

    def __init__(
        self,
        settings: Settings,
        folder: Path | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`folder` is the runtime directory, where it is known; else it is where `run` would make it."""
        self._settings, self._clock, self._utc_ns = settings, clock, utc_ns
        self._folder = folder or paths.runtime(settings)

    def status(self) -> LineStatus:
        utc = f"{datetime.fromtimestamp(self._utc_ns() / 1e9, UTC):%Y-%m-%d %H:%M:%S}"
        with self._board() as board:
            if board is None:
                cameras = tuple(
                    CameraView(camera.name, camera.recipe, "stopped", "", None, None)
                    for camera in self._settings.camera
                )
                return LineStatus(False, False, (), cameras, utc)
            told = board.is_fresh(PUBLISH, self._clock())
            cameras = tuple(self._camera(board, place) for place in range(len(self._settings.camera)))
            captures = {capture_name(camera.name) for camera in self._settings.camera}
            troubles = [
                f"{name}: {said}" for name in roll(self._settings) if (said := self._said(board, name))
            ]
            if (latch := Latch(board.read(PUBLISH, Word.LATCH))) is not Latch.NONE:
                troubles.insert(0, f"{_WAITS_FOR[latch]}; then the line waits for a reset")
            return LineStatus(
                running=True,
                ready=told and bool(board.read(PUBLISH, Word.READY)),
                troubles=tuple(line for line in troubles if line.split(":")[0] not in captures),
                cameras=cameras,
                utc=utc,
            )

    def recipe(self, camera: CameraSettings) -> str:
        """The name of the recipe that judges a camera's parts now; where no line runs, the settings'."""
        with self._board() as board:
            return camera.recipe if board is None else changeover.recipe_name(board, camera, sha="")

    def newest(self, camera: str) -> tuple[Frame, Image] | None:
        """A camera's newest frame, as scorers see it, uint8 (H, W, 3) BGR or (H, W); None when there is none.

        The pixels are copied, and then the slot is looked at again: one that capture has taken meanwhile
        gives no picture rather than half of two.
        """
        with self._ring(camera) as ring:
            if ring is None:
                return None
            last = ring.last_frame()
            for number in range(last, max(0, last - SLOTS), -1):
                frame = ring.frame(number)
                if frame is None or not ring.still_holds(frame) or not ring.is_filled(number):
                    continue
                pixels = ring.pixels(frame).copy()
                if ring.still_holds(frame):
                    return frame, viewable(pixels, frame.format)
        return None

    def passed_scores(self, camera: str) -> list[float]:
        """Scores of the last passed parts that one recipe judged, newest first."""
        with self._ring(camera) as ring:
            if ring is None:
                return []
            last = ring.last_frame()
            scored = (ring.scored(number) for number in range(last, max(0, last - SCORES_LOOKED_AT), -1))
            passed = [
                found
                for found in scored
                if found and found.verdict is Verdict.PASS and found.reason is not Reason.NO_PART
            ]
            # Scores of another recipe, from before a changeover, are on another scale.
            return [found.score for found in passed if found.recipe_sha == passed[0].recipe_sha]

    def _camera(self, board: Board, place: int) -> CameraView:
        camera = self._settings.camera[place]
        worker = capture_name(camera.name)
        state = CameraState(board.read(worker, Word.CAMERA_STATE))
        if not board.is_fresh(worker, self._clock()):
            ever = board.read(worker, Word.EVER_RAN)
            state = CameraState.LOST if ever else CameraState.STARTING
        with self._ring(camera.name) as ring:
            newest = ring.frame(ring.last_frame()) if ring is not None else None
            return CameraView(
                camera.name,
                changeover.recipe_name(board, camera, sha=""),
                state.word,
                self._said(board, worker),
                counts(ring) if ring is not None else None,
                (self._clock() - newest.captured_ns) / 1e9 if newest is not None else None,
            )

    def _said(self, board: Board, worker: str) -> str:
        return board.said(worker)

    @contextmanager
    def _board(self) -> Iterator[Board | None]:
        try:
            board = Board(self._folder / "board", roll(self._settings), writable=False)
        except (OSError, ValueError):
            # No line runs, or one with other settings.
            yield None
            return
        try:
            yield board
        finally:
            board.close()

    @contextmanager
    def _ring(self, camera: str) -> Iterator[Ring | None]:
        try:
            ring = Ring(self._folder, camera, writable=False)
        except RingError:
            yield None
            return
        try:
            yield ring
        finally:
            ring.close()
