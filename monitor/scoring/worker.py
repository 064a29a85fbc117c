"""The scoring worker: it scores the frames that wait in the rings and writes each score into its ring.

It knows nothing of MQTT and publishes nothing. On a frame's way it stands between the capture worker and the
publisher. `monitor.scoring.schedule` holds the rule for which frame is next.

Its work list is the rings' slot tables; descriptors only wake it. So the successor of a killed scoring worker
finds the frames that were left. A turn scores frames that already wait; it never waits for more of them.
Where parts pile up on a CPU, a turn is a run: two parts at once, and the next as soon as one is done. A CUDA
error ends the process, since its CUDA context can't be used any more; the successor has a new one.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import cv2
import zmq

from drivers.image_file import Image
from monitor.inference.presence import describe_shape
from monitor.inference.scorer import Scorer, ScoreResult
from monitor.line_state import messages
from monitor.line_state.board import Field
from monitor.line_state.frame import publishing_margin_ms, to_image
from monitor.line_state.ring import Ring, ScorerVerdict
from monitor.line_state.worker_process import PUBLISH, Worker
from monitor.scoring.drift import Drift, DriftDetector, explain
from monitor.scoring.recipes import RecipesInForce
from monitor.scoring.schedule import Plan, Run, WaitingFrame, allowed_lane_ns, plan, plan_lane
from monitor.scoring.snapshot_choice import SnapshotChoice
from monitor.scoring.turn_time import TurnTime, alive_within_s
from monitor.scoring.views import LiveViews
from monitor.settings import CameraSettings, Mode, Settings
from monitor.verdict import Reason, Verdict, judge

_IDLE_MS = 200
_LINGER_MS = 100
_SWITCH_S = 0.0005
"""Python's thread switch interval. The scoring thread takes Python's global lock again at every layer of a
network, and each time it waits up to this interval while another thread loads a recipe. The default is 5
ms."""
_RECENT = 100
"""The schedule counts the scores of each camera among this many last scored parts."""
_CPU_BATCH, _GPU_BATCH = 1, 16
"""The most frames of a turn that is not a run."""
_LONGEST_RUN = 500
"""The most parts of a run after its first two."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A frame whose image the scorer gets."""

    work: WaitingFrame
    image: Image
    """What the camera showed. It may lie in the ring's slot."""
    seen: Image
    """What the scorer gets of it."""
    started_ns: int


class ScoringLoop:
    """The scoring worker's loop."""

    def __init__(self, worker: Worker, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._worker, self._clock = worker, clock
        settings = worker.settings
        self._cameras = settings.camera
        self._rings = {
            camera.name: Ring(worker.folder, camera.name, worker.session) for camera in self._cameras
        }
        self._recipes = RecipesInForce(settings, worker.board, str(worker.session), worker.log)
        self._turn_time = TurnTime()
        """The time of the parts' turns. The live views' turns are in `_views`."""
        self._recent: deque[str] = deque(maxlen=_RECENT)
        """The cameras of the last scored parts."""
        self._allowed_ns = _allowed_ns(settings)
        """By camera of parts, the time that a part may take until its score."""
        self._views = LiveViews(
            [camera.name for camera in settings.camera if camera.mode is Mode.LATEST],
            min(self._allowed_ns.values(), default=None),
        )
        self._idle_ms = _IDLE_MS
        self._snapshot_choice = SnapshotChoice(settings.snapshots.pass_every)
        self._misfits: set[str] = set()
        """Cameras whose frames have another shape than the recipe's presence gate. The log has a line for
        each."""
        self._detectors: dict[str, DriftDetector] = {}
        for camera in self._cameras:
            self._adopt_recipe(camera)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._frames = messages.open_receiver(self._context, worker.folder, messages.FRAMES)
        self._verdicts = messages.open_sender(self._context, worker.folder, messages.VERDICTS)
        self._snapshots = messages.open_sender(
            self._context, worker.folder, messages.SNAPSHOTS, messages.SNAPSHOTS_HELD
        )

    def run(self) -> None:
        """Score until the worker is stopped. A CUDA error ends it."""
        self._worker.mark_running()
        self._recipes.watch.start()
        while not self._worker.stopping:
            self._report_alive()
            if not self.run_once():
                self._frames.poll(self._idle_ms, zmq.POLLIN)

    def close(self) -> None:
        """Send the messages that wait in the sockets, for at most 0.1 s, and close them."""
        self._context.destroy(linger=_LINGER_MS)

    def _report_alive(self) -> None:
        turn_time = self._turn_time
        turns_ns = (turn_time.usual_ns, turn_time.lane_ns, self._views.longest_turn_ns())
        self._worker.report_alive(alive_within_s(turns_ns))

    def run_once(self) -> bool:
        """Carry out one plan. Return whether it had frames for a turn."""
        if changed := self._recipes.step():
            for camera in self._cameras:
                if camera.name in changed:
                    self._adopt_recipe(camera)
        waiting = self._waiting()
        now = self._clock()
        self._see_parts(waiting)
        estimate_ns, lane_ns = self._turn_time.estimate_ns, self._lane_ns()
        recent = Counter(self._recent)
        todo = plan(waiting, now, self._in_force, self._max_batch, estimate_ns, recent, lane_ns, self._views)
        self._close_unscored(todo)
        self._lower_estimates([work for work in todo.overdue if now < work.frame.decide_by_ns])
        self._watch_views(waiting, now)
        if len(todo.batch) > 1 and lane_ns:
            self._score_run(todo.batch)
        elif todo.batch:
            self._score(todo.batch)
        return bool(todo.batch)

    def _see_parts(self, waiting: Sequence[WaitingFrame]) -> None:
        """Take note of the parts among the waiting frames, for the views and for runs."""
        parts = [work for work in waiting if work.camera.mode is Mode.EVERY_PART]
        for work in parts:
            self._views.see_part(work.camera.name, work.frame.captured_ns)
            # A running line takes over another deadline.
            self._allowed_ns[work.camera.name] = work.frame.decide_by_ns - work.frame.captured_ns
        self._views.see_parts([work.frame for work in parts], self._max_batch, self._turn_time.estimate_ns)

    def _close_unscored(self, todo: Plan) -> None:
        for work in todo.overdue:
            self._rings[work.camera.name].release(work.frame)
        for work, reason in todo.uninspected:
            self._settle(work, self._unscored(reason))

    def _lane_ns(self) -> int:
        """The time of a part in a lane; 0 where no run may begin or go on."""
        if not self._has_lanes or self._recipes.is_changing:
            return 0
        return allowed_lane_ns(self._turn_time.lane_ns, self._allowed_ns, Counter(self._recent))

    def _lower_estimates(self, given_up: Sequence[WaitingFrame]) -> None:
        """Lower the estimates because of which these frames were given up."""
        if any(work.camera.mode is Mode.EVERY_PART for work in given_up):
            self._turn_time.lower()
        for name in {work.camera.name for work in given_up if work.camera.mode is Mode.LATEST}:
            self._views.lower(name)

    def _watch_views(self, waiting: Sequence[WaitingFrame], now: int) -> None:
        """Write to the board for which live views no time is left, and find out when the next one may have
        its turn."""
        of_views = {work.camera.name for work in waiting if work.camera.mode is Mode.LATEST}
        # A view without a recipe has another trouble.
        names = of_views & self._in_force.keys()
        left_ns = self._views.wait_ns(names, now)
        self._idle_ms = _IDLE_MS if left_ns is None else min(_IDLE_MS, math.ceil(left_ns / 1e6))
        before = self._views.without_time
        if not self._views.see_waiting(names, now):
            return
        after = self._views.without_time
        self._write_cameras(Field.WITHOUT_TIME, after)
        for name in sorted(after - before):
            self._worker.log.warning("view %s: no time left for it: no picture was scored in time", name)
        for name in sorted(before - after):
            self._worker.log.info("view %s: there is time for it again", name)

    def _waiting(self, in_lanes: Collection[tuple[str, int]] = ()) -> list[WaitingFrame]:
        """The frames without a score; `in_lanes` names those that are being scored, by camera and number."""
        _, bad = messages.receive_descriptors(self._frames)
        if bad:
            self._worker.log.warning("refused %d malformed messages on the frame queue", bad)
        waiting = []
        for camera in self._cameras:
            ring = self._rings[camera.name]
            for frame in ring.unreleased_frames():
                if (camera.name, frame.number) in in_lanes:
                    continue
                if ring.scorer_verdict(frame.number) is None:
                    waiting.append(WaitingFrame(camera, frame))
                else:
                    # A predecessor died after it wrote the score and before it released the slot.
                    ring.release(frame)
        return waiting

    def _adopt_recipe(self, camera: CameraSettings) -> None:
        """Set up all that depends on the recipes in force, after the camera's recipe was loaded or
        replaced."""
        worker, scorers = self._worker, self._recipes.scorers
        self._in_force = {name: scorer.recipe.sha for name, scorer in scorers.items()}
        on_gpu = any(scorer.device.type == "cuda" for scorer in scorers.values())
        self._max_batch = _GPU_BATCH if on_gpu else _CPU_BATCH
        self._has_lanes = bool(scorers) and all(scorer.lanes > 1 for scorer in scorers.values())
        self._turn_time.forget_lanes()
        self._detectors.pop(camera.name, None)
        self._misfits.discard(camera.name)
        if camera.mode is Mode.LATEST:
            self._views.forget_turn_times(camera.name)
        elif camera.name in scorers:
            self._detectors[camera.name] = DriftDetector(scorers[camera.name].calibration)
        self._write_drift()
        without = [camera.name for camera in self._cameras if camera.name not in scorers]
        self._write_cameras(Field.WITHOUT_RECIPE, without)
        worker.board.write_trouble(worker.name, next(iter(self._recipes.troubles.values()), ""))

    def _score(self, batch: Sequence[WaitingFrame]) -> None:
        started = self._clock()
        scorer = self._recipes.scorers[batch[0].camera.name]
        good = [one for work in batch if (one := self._prepare(work, scorer, started)) is not None]
        scored_ns = self._clock()
        if good:
            # The thread that loads a recipe holds this lock while no other network may run.
            with self._recipes.network_lock:
                results = scorer.score([one.seen for one in good])
            scored_ns = self._clock()
            for one, result in zip(good, results, strict=True):
                self._finish(one, result, scorer, scored_ns)
        if batch[0].camera.mode is Mode.LATEST:
            self._add_view_turn(batch[0], started, scored=bool(good))
            return
        self._views.add_part_turn(started, self._clock())
        if good:
            # A turn without a scored part says nothing about the time or the shares of later turns.
            self._turn_time.add(scored_ns - started)
            self._recent.extend(one.work.camera.name for one in good)

    def _score_run(self, first: Sequence[WaitingFrame]) -> None:
        """Score these two parts at once, and the next as soon as one is done, until none is due."""
        began = self._clock()
        scorer = self._recipes.scorers[first[0].camera.name]
        in_lanes: dict[int, _Prepared] = {}
        """By place in the run."""

        def images() -> Iterator[Image | None]:
            parts = self._parts_of_run(first, scorer.recipe.sha, in_lanes.values())
            for place, work in enumerate(parts):
                prepared = self._prepare(work, scorer, self._clock())
                if prepared is not None:
                    in_lanes[place] = prepared
                yield prepared.seen if prepared is not None else None

        # The thread that loads a recipe waits for this lock, so the run ends once one is being loaded.
        with self._recipes.network_lock:
            for place, result in scorer.stream(images()):
                prepared, now = in_lanes.pop(place), self._clock()
                self._finish(prepared, result, scorer, now)
                self._turn_time.add_lane(now - prepared.started_ns)
                self._recent.append(prepared.work.camera.name)
        self._views.add_part_turn(began, self._clock())

    def _parts_of_run(
        self, first: Sequence[WaitingFrame], sha: str, in_lanes: Collection[_Prepared]
    ) -> Iterator[WaitingFrame]:
        """The parts of a run, each planned when a lane is free."""
        yield from first
        for _ in range(_LONGEST_RUN):
            self._report_alive()
            # It only begins a change here, and `_lane_ns` then ends the run.
            self._recipes.step()
            if self._worker.stopping or not (lane_ns := self._lane_ns()):
                return
            waiting = self._waiting({(one.work.camera.name, one.work.frame.number) for one in in_lanes})
            now = self._clock()
            self._see_parts(waiting)
            self._watch_views(waiting, now)
            other_ns = max((one.started_ns + lane_ns - now for one in in_lanes), default=0)
            todo = plan_lane(
                Run(sha, lane_ns, other_ns),
                waiting,
                now,
                self._in_force,
                self._turn_time.estimate_ns,
                Counter(self._recent),
                self._views.estimates_ns(),
            )
            self._close_unscored(todo)
            if not todo.batch:
                return
            yield from todo.batch

    def _prepare(self, work: WaitingFrame, scorer: Scorer, started: int) -> _Prepared | None:
        """Return the image for the scorer, or None for a frame that is settled without it."""
        try:
            pixels = self._rings[work.camera.name].pixels(work.frame)
            image = to_image(pixels, work.frame.format)
            seen = scorer.part_image(image)
        except (ValueError, cv2.error) as error:
            self._worker.log.warning("camera %s: unusable frame: %s", work.camera.name, error)
            self._settle(work, self._unscored(Reason.BAD_FRAME))
            return None
        if seen is None:
            self._pass_empty(work, scorer, started)
            return None
        self._warn_of_misfit(work.camera, scorer, image)
        return _Prepared(work, image, seen, started)

    def _add_view_turn(self, work: WaitingFrame, started: int, *, scored: bool) -> None:
        """Add the turn of a live view's frame to the times that the views have used."""
        name, now = work.camera.name, self._clock()
        in_time = now < work.frame.decide_by_ns
        part_ns = self._turn_time.estimate_ns
        if self._views.add(name, started, now, part_ns, scored=scored, in_time=in_time):
            # Without the time in it, the line is the same each time, so the log limits its number.
            self._worker.log.warning(
                "view %s: a picture took so long that a part could miss its deadline: the view has to wait "
                "before its next one",
                name,
            )

    def _finish(self, prepared: _Prepared, result: ScoreResult, scorer: Scorer, now: int) -> None:
        """Write a frame's score, wake the publisher, send the snapshot, and then release the slot."""
        work, image, started = prepared.work, prepared.image, prepared.started_ns
        verdict, reason = judge(result.score, scorer.threshold)
        # Read before the verdict is in the ring: the publisher then ends the challenge part's turn.
        is_challenge = self._may_be_challenge(work)
        wanted = self._snapshot_choice.wants(work.camera, verdict, now)
        keep = wanted and bool(self._snapshots.poll(0, zmq.POLLOUT))
        if wanted and not keep:
            self._snapshot_choice.see_unsent(work.camera.name)
        ring = self._rings[work.camera.name]
        ring.write_scored(
            work.frame.number,
            ScorerVerdict(
                verdict, reason, result.score, scorer.threshold, started, now, scorer.recipe.sha, keep
            ),
        )
        messages.send_descriptor(self._verdicts, work.camera.name, work.frame.number)
        if keep:
            # `image` may lie in the slot, so the slot is released after this.
            messages.send_snapshot(
                self._snapshots, work.camera.name, work.frame.number, image, result.anomaly_map
            )
        ring.release(work.frame)
        if not is_challenge:
            self._watch_drift(work.camera, result.score, verdict)

    def _may_be_challenge(self, work: WaitingFrame) -> bool:
        """Whether the frame may show a challenge part, which says nothing about the production's scores."""
        closed = self._rings[work.camera.name].final_verdict(work.frame.number)
        if closed is not None:
            # Its score comes after its deadline.
            return bool(closed.challenge)
        board = self._worker.board
        place = board.read(PUBLISH, Field.CHALLENGE_CAMERA)
        if place == 0 or self._cameras[place - 1].name != work.camera.name:
            return False
        return work.frame.captured_ns >= board.read(PUBLISH, Field.CHALLENGE_SINCE_NS)

    def _pass_empty(self, work: WaitingFrame, scorer: Scorer, started: int) -> None:
        """Write a pass for a frame without a part. It does not count for drift or for
        `snapshots.pass_every`."""
        self._snapshot_choice.see_empty_place(work.camera.name)
        scored = ScorerVerdict(
            Verdict.PASS,
            Reason.NO_PART,
            float("nan"),
            scorer.threshold,
            started,
            self._clock(),
            scorer.recipe.sha,
            snapshot=False,
        )
        self._settle(work, scored)

    def _warn_of_misfit(self, camera: CameraSettings, scorer: Scorer, image: Image) -> None:
        """Log once per camera and recipe that all frames are scored because the presence gate does not
        fit."""
        if (
            scorer.presence_gate is None
            or scorer.presence_gate.fits(image.shape)
            or camera.name in self._misfits
        ):
            return
        self._misfits.add(camera.name)
        self._worker.log.warning(
            "camera %s: the presence gate of recipe %s is for images of %s, but the frames are of %s: all "
            "frames are scored; calibrate the recipe with empty pictures of this camera",
            camera.name,
            self._recipes.name(camera.name),
            scorer.presence_gate.frame_description,
            describe_shape(image.shape),
        )

    def _watch_drift(self, camera: CameraSettings, score: float, verdict: Verdict) -> None:
        detector = self._detectors.get(camera.name)
        if detector is not None and detector.feed(score, verdict):
            worse = detector.drift is not Drift.NONE
            self._worker.log.log(
                logging.WARNING if worse else logging.INFO,
                "%s",
                explain(camera.name, self._recipes.name(camera.name), detector),
            )
            self._write_drift()

    def _write_drift(self) -> None:
        for word, drift in ((Field.DRIFT_HIGHER, Drift.HIGHER), (Field.DRIFT_LOWER, Drift.LOWER)):
            drifting = [name for name, detector in self._detectors.items() if detector.drift is drift]
            self._write_cameras(word, drifting)

    def _write_cameras(self, word: Field, names: Collection[str]) -> None:
        """Write cameras to the board: one bit for each, by its place in the settings."""
        bits = sum(1 << place for place, camera in enumerate(self._cameras) if camera.name in names)
        self._worker.board.write(self._worker.name, word, bits)

    def _unscored(self, reason: Reason) -> ScorerVerdict:
        now = self._clock()
        return ScorerVerdict(Verdict.UNINSPECTED, reason, float("nan"), float("nan"), now, now, "", False)

    def _settle(self, work: WaitingFrame, scored: ScorerVerdict) -> None:
        """Write the result of a frame that was not scored, and release its slot."""
        ring = self._rings[work.camera.name]
        ring.write_scored(work.frame.number, scored)
        ring.release(work.frame)
        messages.send_descriptor(self._verdicts, work.camera.name, work.frame.number)


def _allowed_ns(settings: Settings) -> dict[str, int]:
    """By camera of parts, the time that a part may take until its score."""
    return {
        camera.name: int((camera.deadline_ms - publishing_margin_ms(camera.deadline_ms)) * 1e6)
        for camera in settings.camera
        if camera.mode is Mode.EVERY_PART
    }


def work(worker: Worker) -> None:
    sys.setswitchinterval(_SWITCH_S)
    loop = ScoringLoop(worker)
    loop.run()
    loop.close()
