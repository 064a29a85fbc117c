"""Reads the running line's state for the page from its rings and its board, mapped read-only.

It knows nothing of HTTP; it writes nothing and holds no slot of a ring. Each call opens the files and closes
them again: a line that was restarted is seen at once, and a page without visitors touches nothing.
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
from monitor.line_state.board import Board, CameraState, Field
from monitor.line_state.changeover import RecipeStatus
from monitor.line_state.counts import Counts, count_verdicts
from monitor.line_state.frame import Frame, to_image
from monitor.line_state.latch_file import Latch
from monitor.line_state.latched_parts import NO_PARTS, LatchedParts, read_parts
from monitor.line_state.ring import SLOTS, Ring, RingError
from monitor.line_state.worker_process import PUBLISH, SCORING, capture_name, worker_names
from monitor.settings import CameraSettings, Settings
from monitor.verdict import Reason, Verdict

SCORED_FRAMES = 2000
"""The newest frames whose scores are read for the histogram."""
_LATCH_PROBLEMS = {
    Latch.MISSED_REJECT: "a reject was missed: look for the part, then reset the line",
    Latch.UNINSPECTED: "a part was uninspected (not judged in time): look for it, then reset the line",
    Latch.REJECT_RUN: "too many rejects in a row: "
    "look at the parts, the lamp and the camera, then reset the line",
    Latch.REJECT_RATE: "too large a share of rejects: "
    "look at the parts, the lamp and the camera, then reset the line",
}


@dataclass(frozen=True, slots=True)
class CameraView:
    """One camera at one moment."""

    name: str
    recipe: str
    state: str
    """up, lost, frozen, undated, starting, or stopped where no line runs."""
    problem: str
    """The capture worker's problem in one line; empty when there is none."""
    counts: Counts | None
    """Since the session's start."""
    age_s: float | None
    """Seconds since its newest frame was captured."""


@dataclass(frozen=True, slots=True)
class LineStatus:
    running: bool
    ready: bool
    problems: tuple[str, ...]
    """One line each: first what to check before a reset, then the workers' problems."""
    cameras: tuple[CameraView, ...]
    utc: str
    latched: LatchedParts = NO_PARTS
    """The parts to look for before a reset."""


class LineView:
    """The state of the line of these settings. Safe for several threads."""

    def __init__(
        self,
        settings: Settings,
        folder: Path | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`folder` is the runtime directory; without it, the directory that `run` would use."""
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
            publisher_is_fresh = board.is_fresh(PUBLISH, self._clock())
            cameras = tuple(self._camera(board, camera) for camera in self._settings.camera)
            # Each camera's problem is shown beside the camera.
            captures = {capture_name(camera.name) for camera in self._settings.camera}
            problems = [
                f"{name}: {problem}"
                for name in worker_names(self._settings)
                if name not in captures and (problem := board.read_trouble(name))
            ]
            if board.is_fresh(SCORING, self._clock()):
                waiting = board.read(SCORING, Field.WITHOUT_TIME)
                problems += [
                    f"view {camera.name}: no time left for it, since parts come first"
                    for i, camera in enumerate(self._settings.camera)
                    if waiting >> i & 1
                ]
            if (latch := Latch(board.read(PUBLISH, Field.LATCH))) is not Latch.NONE:
                problems.insert(0, _LATCH_PROBLEMS[latch])
            return LineStatus(
                running=True,
                ready=publisher_is_fresh and bool(board.read(PUBLISH, Field.READY)),
                problems=tuple(problems),
                cameras=cameras,
                utc=utc,
                latched=read_parts(board) if latch is not Latch.NONE else NO_PARTS,
            )

    def recipe_name(self, camera: CameraSettings) -> str:
        """The recipe that judges the camera's parts now; where no line runs, the one in the settings."""
        with self._board() as board:
            return camera.recipe if board is None else changeover.find_judge(board, camera, "").recipe

    def recipe_status(self, camera: str) -> RecipeStatus | None:
        """The camera's recipe in force and the answer to its last change; None where no line runs."""
        with self._board() as board:
            if board is None or not board.is_fresh(SCORING, self._clock()):
                return None
            return changeover.read_recipe_status(board, camera)

    def judging_sha(self, camera: str) -> str:
        """The sha256 of the version that judges the camera's parts; empty where none does."""
        status = self.recipe_status(camera)
        return status.in_force.sha if status and status.in_force else ""

    def newest_frame(self, camera: str) -> tuple[Frame, Image] | None:
        """The camera's newest frame as the scorer gets it, uint8 (H, W, 3) BGR or (H, W); None without one.

        The slot is checked again after its pixels are copied: if capture has reused it meanwhile, the copy
        may mix two frames and is dropped.
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
                    return frame, to_image(pixels, frame.format)
        return None

    def passed_scores(self, camera: str) -> list[float]:
        """Scores of the newest passed parts, newest first, all by the recipe of the newest one."""
        with self._ring(camera) as ring:
            if ring is None:
                return []
            last = ring.last_frame()
            scored = (ring.scorer_verdict(number) for number in range(last, max(0, last - SCORED_FRAMES), -1))
            passed = [
                frame
                for frame in scored
                if frame and frame.verdict is Verdict.PASS and frame.reason is not Reason.NO_PART
            ]
            # Scores from before a changeover are of another recipe: their scale is another one.
            return [frame.score for frame in passed if frame.recipe_sha == passed[0].recipe_sha]

    def _camera(self, board: Board, camera: CameraSettings) -> CameraView:
        worker = capture_name(camera.name)
        state = CameraState(board.read(worker, Field.CAMERA_STATE))
        if not board.is_fresh(worker, self._clock()):
            ran_before = board.read(worker, Field.EVER_RAN)
            state = CameraState.LOST if ran_before else CameraState.STARTING
        with self._ring(camera.name) as ring:
            newest = ring.frame(ring.last_frame()) if ring is not None else None
            return CameraView(
                camera.name,
                changeover.find_judge(board, camera, "").recipe,
                state.word,
                board.read_trouble(worker),
                count_verdicts(ring) if ring is not None else None,
                (self._clock() - newest.captured_ns) / 1e9 if newest is not None else None,
            )

    @contextmanager
    def _board(self) -> Iterator[Board | None]:
        try:
            board = Board(self._folder / "board", worker_names(self._settings), writable=False)
        except (OSError, ValueError):
            # No line runs, or its settings are other ones.
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
