"""The scoring worker: it scores the frames that wait in the rings and writes each score into its ring.

It knows nothing of MQTT and publishes nothing. On a frame's way it stands between the capture worker and the
publisher. `monitor.scoring.schedule` holds the rule for which frame is next.

Its work list is the rings' slot tables; descriptors only wake it. So the successor of a killed scoring worker
finds the frames that were left. A turn scores frames that already wait; it never waits for more of them. A
CUDA error ends the process, since its CUDA context can't be used any more; the successor has a new one.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence

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
from monitor.scoring.schedule import WaitingFrame, plan
from monitor.scoring.snapshot_choice import SnapshotChoice
from monitor.scoring.turn_time import TurnTime, alive_within_s
from monitor.scoring.views import LiveViews
from monitor.settings import CameraSettings, Mode, Settings
from monitor.verdict import Reason, Verdict, judge

_IDLE_MS = 200
_SWITCH_S = 0.0005
"""Python's thread switch interval. The scoring thread takes Python's global lock again at every layer of a
network, and each time it waits up to this interval while another thread loads a recipe. The default is 5
ms."""
_RECENT = 100
"""The schedule counts the scores of each camera among this many last scored parts."""
_CPU_BATCH, _GPU_BATCH = 1, 16
"""The most frames of a turn."""


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
        self._views = _make_views(settings)
        self._idle_ms = _IDLE_MS
        self._snapshot_choice = SnapshotChoice(settings.snapshots.pass_every)
        self._misfits: set[str] = set()
        """Cameras whose frames have another shape than the recipe's presence gate. The log has a line for
        each."""
        self._detectors: dict[str, DriftDetector] = {}
        for camera in self._cameras:
            self._adopt_recipe(camera)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._frames = messages.open_receiver(context, worker.folder, messages.FRAMES)
        self._verdicts = messages.open_sender(context, worker.folder, messages.VERDICTS)
        self._snapshots = messages.open_sender(
            context, worker.folder, messages.SNAPSHOTS, messages.SNAPSHOTS_HELD
        )

    def run(self) -> None:
        """Score until the worker is stopped. A CUDA error ends it."""
        self._worker.mark_running()
        self._recipes.watch.start()
        while not self._worker.stopping:
            turns_ns = (self._turn_time.usual_ns, self._views.longest_turn_ns())
            self._worker.report_alive(alive_within_s(turns_ns))
            if not self.run_once():
                self._frames.poll(self._idle_ms, zmq.POLLIN)

    def run_once(self) -> bool:
        """Carry out one plan. Return whether it had frames for a turn."""
        if changed := self._recipes.step():
            for camera in self._cameras:
                if camera.name in changed:
                    self._adopt_recipe(camera)
        _, bad = messages.receive_descriptors(self._frames)
        if bad:
            self._worker.log.warning("refused %d malformed messages on the frame queue", bad)
        waiting = self._waiting()
        now = self._clock()
        parts = [work for work in waiting if work.camera.mode is Mode.EVERY_PART]
        for work in parts:
            self._views.see_part(work.camera.name, work.frame.captured_ns)
        self._views.see_parts([work.frame for work in parts], self._max_batch, self._turn_time.estimate_ns)
        pair_ns = self._turn_time.pair_ns if self._makes_pairs else 0
        todo = plan(
            waiting,
            now,
            self._in_force,
            self._max_batch,
            self._turn_time.estimate_ns,
            Counter(self._recent),
            pair_ns,
            self._views,
        )
        for work in todo.overdue:
            self._rings[work.camera.name].release(work.frame)
        self._lower_estimates([work for work in todo.overdue if now < work.frame.decide_by_ns])
        for work, reason in todo.uninspected:
            self._settle(work, self._unscored(reason))
        self._watch_views(waiting, now)
        if todo.batch:
            self._score(todo.batch)
        return bool(todo.batch)

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

    def _waiting(self) -> list[WaitingFrame]:
        waiting = []
        for camera in self._cameras:
            ring = self._rings[camera.name]
            for frame in ring.unreleased_frames():
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
        self._makes_pairs = bool(scorers) and all(scorer.parallel_images > 1 for scorer in scorers.values())
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
        good: list[tuple[WaitingFrame, Image, Image]] = []
        for work in batch:
            try:
                pixels = self._rings[work.camera.name].pixels(work.frame)
                image = to_image(pixels, work.frame.format)
                seen = scorer.part_image(image)
            except (ValueError, cv2.error) as error:
                self._worker.log.warning("camera %s: unusable frame: %s", work.camera.name, error)
                self._settle(work, self._unscored(Reason.BAD_FRAME))
                continue
            if seen is None:
                self._pass_empty(work, scorer, started)
                continue
            self._warn_of_misfit(work.camera, scorer, image)
            good.append((work, image, seen))
        scored_ns = self._clock()
        if good:
            # The thread that loads a recipe holds this lock while no other network may run.
            with self._recipes.network_lock:
                results = scorer.score([seen for _, _, seen in good])
            scored_ns = self._clock()
            for (work, image, _), result in zip(good, results, strict=True):
                self._finish(work, image, result, scorer, started, scored_ns)
        if batch[0].camera.mode is Mode.LATEST:
            self._add_view_turn(batch[0], started, scored=bool(good))
            return
        self._views.add_part_turn(started, self._clock())
        if good:
            # A turn without a scored part says nothing about the time or the shares of later turns.
            self._turn_time.add(scored_ns - started, pair=self._makes_pairs and len(good) > 1)
            self._recent.extend(work.camera.name for work, _, _ in good)

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

    def _finish(
        self, work: WaitingFrame, image: Image, result: ScoreResult, scorer: Scorer, started: int, now: int
    ) -> None:
        """Write a frame's score, wake the publisher, send the snapshot, and then release the slot."""
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


def _make_views(settings: Settings) -> LiveViews:
    """The live views of these settings, with the shortest time that a part may take until its score."""
    allowed_ms = [
        camera.deadline_ms - publishing_margin_ms(camera.deadline_ms)
        for camera in settings.camera
        if camera.mode is Mode.EVERY_PART
    ]
    views = [camera.name for camera in settings.camera if camera.mode is Mode.LATEST]
    return LiveViews(views, int(min(allowed_ms) * 1e6) if allowed_ms else None)


def work(worker: Worker) -> None:
    sys.setswitchinterval(_SWITCH_S)
    ScoringLoop(worker).run()
