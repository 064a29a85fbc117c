"""The scoring worker: from frames in the rings to scores, earliest deadline first.

It takes what waits and never waits for more. Its work list is the rings' slot tables, so that a scorer that
was killed is followed by one that finds what was left; descriptors only wake it. It must never publish, and
an error of the device ends it: its successor starts with a fresh context.
"""

from __future__ import annotations

import logging
import statistics
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from types import MappingProxyType

import cv2
import zmq

from drivers.image_file import Image
from monitor.inference.presence import kind
from monitor.inference.scorer import Scorer
from monitor.line_state import messages
from monitor.line_state.board import Word
from monitor.line_state.frame import Frame, viewable
from monitor.line_state.ring import Ring, Scored
from monitor.line_state.worker_process import Worker
from monitor.scoring.drift import Detector, Drift, explain
from monitor.scoring.recipes import RecipesInForce
from monitor.settings import CameraSettings, Mode
from monitor.verdict import Reason, Verdict, judge

_IDLE_MS = 200
_SWITCH_S = 0.0005
_SERVED_LATELY = 100
_CPU_BATCH, _GPU_BATCH = 1, 16
_BACKLOG = 4
"""So many must wait before two are scored side by side: that is done with the two sooner, and with the first
of them later."""
_UNTRIED = 500
"""After so many single ones it is tried anew whether two side by side are done sooner."""


@dataclass(frozen=True, slots=True)
class Work:
    """A frame that waits, with the camera it is from."""

    camera: CameraSettings
    frame: Frame


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do next with all that waits."""

    batch: tuple[Work, ...] = ()
    """To be scored together: one recipe, earliest deadline first."""
    refused: tuple[tuple[Work, Reason], ...] = ()
    """Uninspected without scoring."""
    overdue: tuple[Work, ...] = ()
    """They can't be scored in time any more: the publisher closes them by itself."""


class Pace:
    """How long scoring takes, by the median of the last few times.

    Who starts on a frame that can't be done by its deadline does it for nothing, and the next one is late
    for that: an overloaded scorer would judge none. A single slow turn says little, so it does not count;
    and each frame given up for the estimate's sake lowers the estimate, so that it is put to the test again.
    """

    def __init__(self, remembered: int = 5) -> None:
        self._took: deque[int] = deque(maxlen=remembered)
        self._alone_took: deque[int] = deque(maxlen=remembered)
        self._abreast_took: deque[int] = deque(maxlen=remembered)
        self._alone_since_abreast = 0
        self._trust = 1.0

    @property
    def estimate_ns(self) -> int:
        """Of one turn that scores frames as they come."""
        return int(statistics.median(self._took) * self._trust) if self._took else 0

    @property
    def abreast_ns(self) -> int:
        """Of a turn that scores two side by side: never less than of one, twice as long until it is known.
        0 where that gained nothing when it was tried last."""
        if not self._abreast_took or not self._alone_took:
            return 2 * self.estimate_ns
        known = int(statistics.median(self._abreast_took))
        return max(self.estimate_ns, known) if known < 2 * statistics.median(self._alone_took) else 0

    def took(self, elapsed_ns: int, *, abreast: bool = False) -> None:
        if abreast:
            self._abreast_took.append(elapsed_ns)
            self._alone_since_abreast = 0
            if elapsed_ns > 2 * self.estimate_ns:
                # It has become slower, which single ones may not show for long.
                self._took.append(elapsed_ns // 2)
        else:
            self._took.append(elapsed_ns)
            self._alone_took.append(elapsed_ns)
            self._alone_since_abreast += 1
            if self._alone_since_abreast > _UNTRIED:
                self._abreast_took.clear()
        self._trust = 1.0

    def gave_up(self) -> None:
        self._trust *= 0.8


def plan(
    waiting: Sequence[Work],
    now_ns: int,
    recipes: Mapping[str, str],
    batch: int,
    estimate_ns: int = 0,
    served: Mapping[str, int] = MappingProxyType({}),
    abreast_ns: int = 0,
) -> Plan:
    """Which frames to score now, and which never.

    `recipes` has the sha of the recipe in force for every camera that has one; `estimate_ns` is how long
    scoring takes, of up to `batch` frames at once; `served` is how many of the frames scored lately were each
    camera's; `abreast_ns` is how long two frames take side by side, 0 where that can't be done.

    The earliest deadline comes first, of all cameras alike. When not all can be met, the camera that was
    served most stands back, so a fast camera can't starve a slow one. Of a live view (`latest`) only the
    newest frame is worth scoring, and that at once: by its deadline a newer one would have taken its place,
    and so on for ever.
    """
    newest = {work.camera.name: work.frame.number for work in sorted(waiting, key=lambda w: w.frame.number)}
    refused, overdue, ready = [], [], []
    for work in waiting:
        if work.camera.mode is Mode.LATEST and work.frame.number != newest[work.camera.name]:
            refused.append((work, Reason.SUPERSEDED))
        elif now_ns + estimate_ns >= work.frame.decide_by_ns:
            overdue.append(work)
        elif work.camera.name not in recipes:
            refused.append((work, Reason.NO_RECIPE))
        else:
            ready.append(work)
    ready.sort(key=lambda work: (_due_ns(work, now_ns, estimate_ns), served.get(work.camera.name, 0)))
    if ready:
        fits, rest = _fitting(ready, now_ns, recipes, batch, estimate_ns, served)
        recipe = recipes[fits[0].camera.name]
        ready = [work for work in fits + rest if recipes[work.camera.name] == recipe][:batch]
        if abreast_ns and len(fits) >= _BACKLOG:
            pair = _abreast(fits, bool(rest), now_ns, abreast_ns, served)
            if len({recipes[work.camera.name] for work in pair}) == 1:
                ready = pair
    return Plan(tuple(ready), tuple(refused), tuple(overdue))


def _due_ns(work: Work, now_ns: int, estimate_ns: int) -> int:
    """By when a frame should be scored: a part by its deadline, a live view's in the next turn."""
    if work.camera.mode is Mode.LATEST:
        return now_ns + estimate_ns + 1
    return work.frame.decide_by_ns


def _fitting(
    ready: Sequence[Work],
    now_ns: int,
    recipes: Mapping[str, str],
    batch: int,
    estimate_ns: int,
    served: Mapping[str, int],
) -> tuple[list[Work], list[Work]]:
    """The frames that can all be scored in time, turn after turn, and the rest.

    `ready` is in the order in which they are due. Moore's algorithm (1968), with the camera served most in
    the place of the longest job: of one recipe as many frames fit as can, since each takes as long. A turn is
    of one recipe, so who does not fit may need a whole turn of another's to stand back, or does itself. A
    part that a live view goes before has a turn in reserve.
    """
    fits: list[Work] = []
    rest: list[Work] = []
    of = Counter[str]()
    """How many of those that fit are each recipe's."""
    for work in ready:
        trial, back = [*fits, work], list[Work]()
        of[recipes[work.camera.name]] += 1
        while now_ns + _turns(trial, work, of, batch) * estimate_ns >= _due_ns(work, now_ns, estimate_ns):
            counts = Counter(one.camera.name for one in trial)
            most = max(counts, key=lambda name: (served.get(name, 0), counts[name]))
            place = max(place for place, one in enumerate(trial) if one.camera.name == most)
            back.append(trial.pop(place))
            of[recipes[most]] -= 1
            if back[-1] is work:
                break
        if back and back[-1] is work:
            # Those that stood back for it have done so in vain.
            of.update(recipes[one.camera.name] for one in back[:-1])
            rest.append(work)
        else:
            fits = trial
            rest += back
    return fits, rest


def _abreast(
    fits: Sequence[Work], overloaded: bool, now_ns: int, abreast_ns: int, served: Mapping[str, int]
) -> list[Work]:
    """The two frames to be scored side by side next; empty where one alone is better.

    `fits` is in the order in which they are due. They are the next two and no others: a third one's deadline
    was reckoned with behind both. Where not all can be judged anyway, those that are too urgent for it are
    given up, if they are of the camera served most: else each would be begun alone at its last moment.
    """
    urgent = list(takewhile(lambda work: now_ns + abreast_ns >= work.frame.decide_by_ns, fits))
    most = max(served.get(work.camera.name, 0) for work in fits)
    of_the_most_served = all(served.get(work.camera.name, 0) == most for work in urgent)
    if fits[0].camera.mode is Mode.LATEST or (urgent and not (overloaded and of_the_most_served)):
        return []
    pair = fits[len(urgent) : len(urgent) + 2]
    return list(pair) if len(pair) == 2 else []


def _turns(trial: Sequence[Work], last: Work, of: Mapping[str, int], batch: int) -> int:
    """After how many turns the last of these is scored, of which `of` counts each recipe's."""
    turns = sum(-(-count // batch) for count in of.values())
    if last.camera.mode is Mode.EVERY_PART and trial[0].camera.mode is Mode.LATEST:
        turns += 1
    return turns


class Scoring:
    """The scoring worker's loop."""

    def __init__(self, worker: Worker, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._worker, self._clock = worker, clock
        settings = worker.settings
        self._cameras = settings.camera
        self._rings = {
            camera.name: Ring(worker.folder, camera.name, worker.session) for camera in self._cameras
        }
        self._recipes = RecipesInForce(settings, worker.board, str(worker.session), worker.log)
        self._pace = Pace()
        self._served: deque[str] = deque(maxlen=_SERVED_LATELY)
        self._rejecting: set[str] = set()
        """Live views whose last judged frame was a reject."""
        self._misfits: set[str] = set()
        """Cameras of which it was said that their recipe's presence gate is for other frames."""
        self._detectors: dict[str, Detector] = {}
        for camera in self._cameras:
            self._meet_recipe(camera)
        self._passed = dict.fromkeys(self._rings, 0)
        self._pass_every = settings.snapshots.pass_every
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._frames = messages.pull(context, worker.folder, messages.FRAMES)
        self._verdicts = messages.push(context, worker.folder, messages.VERDICTS)
        self._snapshots = messages.push(context, worker.folder, messages.SNAPSHOTS, messages.SNAPSHOTS_HELD)

    def run(self) -> None:
        """Scores until told to stop; an error of the device ends it."""
        self._worker.running()
        while not self._worker.stopping:
            self._worker.promise(1.5)
            if not self.run_once():
                self._frames.poll(_IDLE_MS, zmq.POLLIN)

    def run_once(self) -> bool:
        """One plan carried out. Returns whether there was anything to score."""
        if changed := self._recipes.step():
            self._meet_recipe(next(camera for camera in self._cameras if camera.name == changed))
        _, bad = messages.drain(self._frames)
        if bad:
            self._worker.log.warning("refused %d malformed messages on the frame queue", bad)
        waiting = []
        for camera in self._cameras:
            ring = self._rings[camera.name]
            for frame in ring.waiting():
                if ring.scored(frame.number) is None:
                    waiting.append(Work(camera, frame))
                else:
                    # A predecessor died between its score and the release.
                    ring.release(frame)
        now = self._clock()
        served = Counter(self._served)
        abreast_ns = self._pace.abreast_ns if self._may_abreast else 0
        todo = plan(waiting, now, self._in_force, self._batch, self._pace.estimate_ns, served, abreast_ns)
        for work in todo.overdue:
            self._rings[work.camera.name].release(work.frame)
        if any(now < work.frame.decide_by_ns for work in todo.overdue):
            self._pace.gave_up()
        for work, reason in todo.refused:
            self._settle(work, self._unscored(reason))
        if todo.batch:
            self._score(todo.batch)
        return bool(todo.batch)

    def _meet_recipe(self, camera: CameraSettings) -> None:
        """A camera's parts are judged by another recipe from here on, or by none."""
        worker, scorers = self._worker, self._recipes.scorers
        self._in_force = {name: scorer.recipe.sha for name, scorer in scorers.items()}
        on_gpu = any(scorer.device.type == "cuda" for scorer in scorers.values())
        self._batch = _GPU_BATCH if on_gpu else _CPU_BATCH
        self._may_abreast = bool(scorers) and all(scorer.abreast > 1 for scorer in scorers.values())
        self._detectors.pop(camera.name, None)
        self._misfits.discard(camera.name)
        if camera.name in scorers and camera.mode is Mode.EVERY_PART:
            self._detectors[camera.name] = Detector(scorers[camera.name].calibration)
        self._tell_drift()
        missing = sum(1 << i for i, camera in enumerate(self._cameras) if camera.name not in scorers)
        worker.board.write(worker.name, Word.WITHOUT_RECIPE, missing)
        worker.board.say(worker.name, next(iter(self._recipes.troubles.values()), ""))

    def _score(self, batch: Sequence[Work]) -> None:
        started = self._clock()
        scorer = self._recipes.scorers[batch[0].camera.name]
        good: list[tuple[Work, Image, Image]] = []
        for work in batch:
            try:
                pixels = self._rings[work.camera.name].pixels(work.frame)
                image = viewable(pixels, work.frame.format)
                seen = scorer.part_in(image)
            except (ValueError, cv2.error) as error:
                self._worker.log.warning("camera %s: unusable frame: %s", work.camera.name, error)
                self._settle(work, self._unscored(Reason.BAD_FRAME))
                continue
            if seen is None:
                self._pass_empty(work, scorer, started)
                continue
            self._tell_misfit(work.camera, scorer, image)
            good.append((work, image, seen))
        if not good:
            # What took no scoring says nothing of how long that takes, nor of who was served.
            return
        with self._recipes.alone:
            results = scorer.score([seen for _, _, seen in good])
        now = self._clock()
        self._pace.took(now - started, abreast=self._may_abreast and len(good) > 1)
        self._served.extend(work.camera.name for work, _, _ in good)
        for (work, image, _), result in zip(good, results, strict=True):
            verdict, reason = judge(result.score, scorer.threshold)
            keep = self._wants_snapshot(work, verdict) and bool(self._snapshots.poll(0, zmq.POLLOUT))
            scored = Scored(
                verdict, reason, result.score, scorer.threshold, started, now, scorer.recipe.sha, keep
            )
            ring = self._rings[work.camera.name]
            ring.write_scored(work.frame.number, scored)
            messages.wake(self._verdicts, work.camera.name, work.frame.number)
            if keep:
                messages.send_snapshot(
                    self._snapshots, work.camera.name, work.frame.number, image, result.anomaly_map
                )
            ring.release(work.frame)
            self._watch(work.camera, result.score, verdict)

    def _pass_empty(self, work: Work, scorer: Scorer, started: int) -> None:
        """An empty place says nothing of parts; of a live view, that its defect has left."""
        self._rejecting.discard(work.camera.name)
        scored = Scored(
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

    def _tell_misfit(self, camera: CameraSettings, scorer: Scorer, image: Image) -> None:
        """Once: every frame is scored, though the recipe has a gate."""
        if scorer.gate is None or scorer.gate.fits(image.shape) or camera.name in self._misfits:
            return
        self._misfits.add(camera.name)
        self._worker.log.warning(
            "camera %s: the presence gate of recipe %s was made of pictures of %s, its frames are of %s: "
            "all are scored",
            camera.name,
            self._recipes.name(camera.name),
            scorer.gate.kind,
            kind(image.shape),
        )

    def _watch(self, camera: CameraSettings, score: float, verdict: Verdict) -> None:
        detector = self._detectors.get(camera.name)
        if detector is not None and detector.feed(score, verdict):
            worse = detector.drift is not Drift.NONE
            self._worker.log.log(
                logging.WARNING if worse else logging.INFO,
                "%s",
                explain(camera.name, self._recipes.name(camera.name), detector),
            )
            self._tell_drift()

    def _tell_drift(self) -> None:
        for word, drift in ((Word.DRIFT_HIGHER, Drift.HIGHER), (Word.DRIFT_LOWER, Drift.LOWER)):
            drifting = sum(
                1 << i
                for i, camera in enumerate(self._cameras)
                if camera.name in self._detectors and self._detectors[camera.name].drift is drift
            )
            self._worker.board.write(self._worker.name, word, drifting)

    def _wants_snapshot(self, work: Work, verdict: Verdict) -> bool:
        if verdict is Verdict.PASS:
            self._rejecting.discard(work.camera.name)
            self._passed[work.camera.name] += 1
            return self._pass_every > 0 and self._passed[work.camera.name] % self._pass_every == 0
        if work.camera.mode is Mode.LATEST:
            return self._begins_rejecting(work.camera.name, verdict)
        return verdict is Verdict.REJECT

    def _begins_rejecting(self, camera: str, verdict: Verdict) -> bool:
        """Of a defect that stays in view one picture is kept."""
        before = camera in self._rejecting
        if verdict is Verdict.REJECT:
            self._rejecting.add(camera)
        return verdict is Verdict.REJECT and not before

    def _unscored(self, reason: Reason) -> Scored:
        now = self._clock()
        return Scored(Verdict.UNINSPECTED, reason, float("nan"), float("nan"), now, now, "", False)

    def _settle(self, work: Work, scored: Scored) -> None:
        ring = self._rings[work.camera.name]
        ring.write_scored(work.frame.number, scored)
        ring.release(work.frame)
        messages.wake(self._verdicts, work.camera.name, work.frame.number)


def work(worker: Worker) -> None:
    # A recipe that is loaded beside gives Python's lock back sooner, which scoring asks for at every layer.
    sys.setswitchinterval(_SWITCH_S)
    Scoring(worker).run()
