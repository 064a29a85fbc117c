"""Reads the running line's state for the page from its rings and its board, mapped read-only.

It knows nothing of HTTP; it writes nothing and holds no slot of a ring. Each call opens the files and closes
them again: a line that was restarted is seen at once, and a page without visitors touches nothing.
"""

from __future__ import annotations

import math
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drivers.image_file import Image
from monitor import paths
from monitor.line_state import challenge_board, changeover
from monitor.line_state.board import Board, Field
from monitor.line_state.challenge_run import ChallengeState, Hold
from monitor.line_state.changeover import RecipeIdentity, RecipeStatus
from monitor.line_state.counts import Counts, count_verdicts
from monitor.line_state.frame import Frame, to_image
from monitor.line_state.latch_file import Latch
from monitor.line_state.latched_parts import NO_PARTS, LatchedParts, read_parts
from monitor.line_state.ring import SLOTS, FinalVerdict, Ring, RingError
from monitor.line_state.worker_process import PUBLISH, SCORING, SUPERVISOR, capture_name, worker_names
from monitor.model.recipe_json import FILE
from monitor.names import join_version
from monitor.publish.status import OperatingState, decide_status, read_camera, read_health
from monitor.review.challenge_words import describe_step
from monitor.review.recent_parts import RecentParts
from monitor.review.state_banner import ServiceState, StateBanner, describe_state, name_count, name_step
from monitor.review.unjudged_share import UnjudgedShare, add_to_banner
from monitor.settings import CameraSettings, Mode, Settings
from monitor.verdict import Reason, Verdict, rfc3339, snapshot_path

SCORED_FRAMES = 2000
"""The newest frames whose scores are read for the histogram."""
_PICTURE_TRIES, _PICTURE_RETRY_S = 3, 0.01
"""How often the newest frame is looked for while capture reuses each slot just then."""
SEARCHED_FRAMES = 500
"""The newest frames in which a page that has just been opened looks for a reject."""
_LONGEST_PROMISE_NS = 120 * 1_000_000_000
"""No worker promises to be alive for longer: a later time is from before the machine was switched on."""


@dataclass(frozen=True, slots=True)
class PartView:
    """One judged frame."""

    camera: str
    frame: int
    captured_utc: str
    verdict: Verdict
    reason: Reason
    ratio: float | None
    """Score divided by threshold; None without a score."""
    snapshot: str | None
    """The `.jpg`'s path below `snapshots/`; the file follows within seconds."""


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
    is_view: bool = False
    """Whether it is a live view, which judges no parts."""
    newest: PartView | None = None
    """Its newest frame with a verdict."""
    version: int | None = None
    """The number of the recipe's version that judges its parts; None where it is not known."""

    @property
    def recipe_name(self) -> str:
        """The recipe with its version, as `plate@3`."""
        return join_version(self.recipe, self.version)


@dataclass(frozen=True, slots=True)
class LineStatus:
    banner: StateBanner
    problems: tuple[str, ...]
    """The workers' problems, one line each."""
    cameras: tuple[CameraView, ...]
    utc: str
    """RFC 3339."""
    latched: LatchedParts = NO_PARTS
    """The parts to look for before a reset."""
    latch: Latch = Latch.NONE
    running: bool = False
    """Whether a line runs here, ready or not."""


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
        self._following = threading.Lock()
        self._seen: dict[str, tuple[uuid.UUID | None, int, PartView | None]] = {}
        """By camera: the session, the last frame that was looked at, and the newest reject."""
        self._recent = {
            camera.name: RecentParts(camera.name)
            for camera in settings.camera
            if camera.mode is Mode.EVERY_PART
        }
        """A live view judges no parts: what it leaves out is no loss."""

    def status(self) -> LineStatus:
        utc = rfc3339(self._utc_ns())
        with self._open_board() as (board, service):
            if board is None:
                cameras = tuple(
                    CameraView(camera.name, camera.recipe, "stopped", "", None, None)
                    for camera in self._settings.camera
                )
                banner = describe_state(
                    service, OperatingState.OFFLINE, "offline", is_ready=False, may_run=False
                )
                return LineStatus(banner, (), cameras, utc)
            latch = Latch(board.read(PUBLISH, Field.LATCH))
            latched = read_parts(board) if latch is not Latch.NONE else NO_PARTS
            banner = self._name_step(board, self._banner(board, service))
            return LineStatus(
                name_count(banner, latch.word, latched.count),
                tuple(self._problems(board)),
                tuple(self._camera(board, camera) for camera in self._settings.camera),
                utc,
                latched,
                latch,
                running=True,
            )

    def _banner(self, board: Board, service: ServiceState) -> StateBanner:
        now = self._clock()
        health = read_health(board, self._settings, now)
        status = decide_status(self._settings.camera, health)
        may_run = board.is_fresh(PUBLISH, now) and bool(board.read(PUBLISH, Field.READY))
        banner = describe_state(
            service,
            status.state,
            status.reason,
            is_ready=status.ready,
            may_run=may_run,
            cameras=tuple(
                name for name, state in health.cameras.items() if f"camera_{state.word}" == status.reason
            ),
            has_failed_challenge=board.read(PUBLISH, Field.CHALLENGE_HOLD) == Hold.FAILED,
        )
        if not (status.ready and may_run):
            return banner
        return add_to_banner(banner, self._find_unjudged_shares(now))

    def _find_unjudged_shares(self, now: int) -> Iterator[UnjudgedShare]:
        for camera, recent in self._recent.items():
            with self._ring(camera) as ring:
                if ring is not None and (share := recent.find_unjudged_share(ring, now)) is not None:
                    yield share

    def _name_step(self, board: Board, banner: StateBanner) -> StateBanner:
        """The banner with the step of the challenge for which the line waits."""
        parts = self._settings.challenge.part
        if not banner.needs_challenge or not parts or (state := challenge_board.read_state(board)) is None:
            return banner
        # The settings may have lost parts since the state was written.
        step = describe_step(state, parts[min(state.place, len(parts) - 1)])
        return name_step(banner, *step) if step is not None else banner

    def _problems(self, board: Board) -> Iterator[str]:
        # Each camera's problem is shown beside the camera.
        captures = {capture_name(camera.name) for camera in self._settings.camera}
        for name in worker_names(self._settings):
            if name not in captures and (problem := board.read_trouble(name)):
                untaught = self._find_untaught(board, problem) if name == SCORING else None
                yield untaught or f"{name}: {problem}"
        if board.is_fresh(SCORING, self._clock()):
            waiting = board.read(SCORING, Field.WITHOUT_TIME)
            for i, camera in enumerate(self._settings.camera):
                if waiting >> i & 1:
                    yield f"view {camera.name}: no time left for it, since parts come first"

    def _find_untaught(self, board: Board, problem: str) -> str | None:
        """A line for people without a shell, where the problem is a recipe of which there is no version."""
        for camera in self._settings.camera:
            recipe = changeover.find_judge(board, camera, "").recipe
            file = paths.recipe(self._settings, recipe) / FILE
            if problem.startswith(f"{file}:") and not file.exists():
                return f"camera {camera.name}: recipe {recipe} is not taught yet: open the page Teach"
        return None

    def newest_reject(self) -> PartView | None:
        """The newest part that was rejected in this session. Each call looks only at the frames since the one
        before, so it is cheap."""
        found: list[PartView] = []
        with self._following:
            for camera in self._settings.camera:
                with self._ring(camera.name) as ring:
                    if ring is not None and (reject := self._follow(camera.name, ring)) is not None:
                        found.append(reject)
        return max(found, key=lambda part: part.captured_utc, default=None)

    def _follow(self, camera: str, ring: Ring) -> PartView | None:
        session, checked, newest = self._seen.get(camera, (None, 0, None))
        last = ring.last_frame()
        if session != ring.session:
            checked, newest = 0, None
        checked = max(checked, last - SEARCHED_FRAMES)
        while checked < last and (closed := ring.final_verdict(checked + 1)) is not None:
            checked += 1
            if closed.verdict is Verdict.REJECT and not closed.challenge:
                newest = _part(camera, ring, checked, closed) or newest
        self._seen[camera] = ring.session, checked, newest
        return newest

    def challenge_state(self) -> ChallengeState | None:
        """Where the challenge stands, without its history; None where no line runs, and before its publisher
        has begun."""
        with self._board() as board:
            return challenge_board.read_state(board) if board is not None else None

    def is_running(self) -> bool:
        """Whether a line runs here, ready or not."""
        with self._board() as board:
            return board is not None

    def recipe_name(self, camera: CameraSettings) -> str:
        """The recipe that judges the camera's parts now; where no line runs, the one in the settings."""
        with self._board() as board:
            return camera.recipe if board is None else changeover.find_judge(board, camera, "").recipe

    def recipe_status(self, camera: str) -> RecipeStatus | None:
        """The camera's recipe in force and the answer to its last change; None where no line runs, and while
        its scoring worker starts or is late with its report."""
        with self._board() as board:
            if board is None or not board.is_fresh(SCORING, self._clock()):
                return None
            return changeover.read_recipe_status(board, camera)

    def judging_sha(self, camera: str) -> str:
        """The sha256 of the version that judges the camera's parts; empty where none does."""
        status = self.recipe_status(camera)
        return status.in_force.sha if status and status.in_force else ""

    def judges(self, cameras: Iterable[str]) -> dict[str, RecipeIdentity]:
        """The version that judges each camera's parts. A camera without one is left out, as are all while no
        line runs."""
        found = {camera: self.recipe_status(camera) for camera in cameras}
        return {camera: status.in_force for camera, status in found.items() if status and status.in_force}

    def newest_frame(self, camera: str) -> tuple[Frame, Image] | None:
        """The camera's newest frame as the scorer gets it, uint8 (H, W, 3) BGR or (H, W); None without one.

        The slot is checked again after its pixels are copied: if capture has reused it meanwhile, the copy
        may mix two frames and is dropped, and another frame is tried.
        """
        with self._ring(camera) as ring:
            if ring is None:
                return None
            for tries_left in range(_PICTURE_TRIES - 1, -1, -1):
                if (found := _copy_newest(ring)) is not None:
                    return found
                if tries_left and ring.last_frame():
                    time.sleep(_PICTURE_RETRY_S)
        return None

    def newest_number(self, camera: str) -> int | None:
        """The number of the camera's newest frame, without a copy of its pixels; None without one."""
        with self._ring(camera) as ring:
            newest = next(_newest_frames(ring), None) if ring is not None else None
            return newest.number if newest is not None else None

    def final_verdict(self, camera: str, number: int) -> FinalVerdict | None:
        """The verdict of the camera's frame of that number; None before it, and once the frame has left the
        ring."""
        with self._ring(camera) as ring:
            return ring.final_verdict(number) if ring is not None else None

    def judging_recipe(self, camera: str) -> str:
        """The recipe that judges the parts of the camera of that name."""
        return next(self.recipe_name(one) for one in self._settings.camera if one.name == camera)

    def passed_scores(self, camera: str) -> list[float]:
        """Scores of the newest passed parts, newest first, all by the recipe of the newest one."""
        with self._ring(camera) as ring:
            if ring is None:
                return []
            last = ring.last_frame()
            numbers = range(last, max(0, last - SCORED_FRAMES), -1)
            scored = (ring.scorer_verdict(number) for number in numbers if not _is_challenge(ring, number))
            passed = [
                frame
                for frame in scored
                if frame and frame.verdict is Verdict.PASS and frame.reason is not Reason.NO_PART
            ]
            # Scores from before a changeover are of another recipe: their scale is another one.
            return [frame.score for frame in passed if frame.recipe_sha == passed[0].recipe_sha]

    def _camera(self, board: Board, camera: CameraSettings) -> CameraView:
        worker, judge = capture_name(camera.name), changeover.find_judge(board, camera, "")
        with self._ring(camera.name) as ring:
            newest = ring.frame(ring.last_frame()) if ring is not None else None
            return CameraView(
                camera.name,
                judge.recipe,
                read_camera(board, camera.name, self._clock()).word,
                board.read_trouble(worker),
                count_verdicts(ring) if ring is not None else None,
                (self._clock() - newest.captured_ns) / 1e9 if newest is not None else None,
                camera.mode is Mode.LATEST,
                _newest_judged(camera.name, ring) if ring is not None else None,
                judge.version,
            )

    @contextmanager
    def _board(self) -> Iterator[Board | None]:
        """The board of a running line; None without one."""
        with self._open_board() as (board, _):
            yield board

    @contextmanager
    def _open_board(self) -> Iterator[tuple[Board | None, ServiceState]]:
        try:
            board = Board(self._folder / "board", worker_names(self._settings), writable=False)
        except PermissionError:
            yield None, ServiceState.HIDDEN
            return
        except (OSError, ValueError):
            # No line runs, or its settings are other ones.
            yield None, ServiceState.ABSENT
            return
        try:
            if self._is_alive(board):
                yield board, ServiceState.RUNNING
            else:
                yield None, ServiceState.DEAD
        finally:
            board.close()

    def _is_alive(self, board: Board) -> bool:
        """Whether the board belongs to a running line: a killed one leaves its board behind."""
        latest = max(board.read(name, Field.ALIVE_UNTIL_NS) for name in worker_names(self._settings))
        if latest > self._clock() + _LONGEST_PROMISE_NS:
            return False
        supervisor = board.read(SUPERVISOR, Field.PID)
        try:
            if supervisor:
                os.kill(supervisor, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

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


def _newest_frames(ring: Ring) -> Iterator[Frame]:
    """The frames whose pixels the ring holds, newest first."""
    last = ring.last_frame()
    for number in range(last, max(0, last - SLOTS), -1):
        frame = ring.frame(number)
        if frame is not None and ring.still_holds(frame) and ring.is_filled(number):
            yield frame


def _copy_newest(ring: Ring) -> tuple[Frame, Image] | None:
    for frame in _newest_frames(ring):
        pixels = ring.pixels(frame).copy()
        if ring.still_holds(frame):
            return frame, to_image(pixels, frame.format)
    return None


def _is_challenge(ring: Ring, number: int) -> bool:
    closed = ring.final_verdict(number)
    return closed is not None and closed.challenge != 0


def _newest_judged(camera: str, ring: Ring) -> PartView | None:
    last = ring.last_frame()
    for number in range(last, max(0, last - SLOTS), -1):
        if (closed := ring.final_verdict(number)) is not None:
            return _part(camera, ring, number, closed)
    return None


def _part(camera: str, ring: Ring, number: int, closed: FinalVerdict) -> PartView | None:
    """None where the frame has left the ring meanwhile."""
    frame, scored = ring.frame(number), ring.scorer_verdict(number)
    if frame is None:
        return None
    ratio = snapshot = None
    if closed.from_scorer and scored is not None and math.isfinite(scored.score) and scored.threshold > 0:
        ratio = scored.score / scored.threshold
        if closed.snapshot:
            snapshot = snapshot_path(frame.captured_utc_ns, camera, number, scored.score)
    utc = rfc3339(frame.captured_utc_ns)
    return PartView(camera, number, utc, closed.verdict, closed.reason, ratio, snapshot)
