"""Overkills that people have labelled, taken as good images: the threshold that follows, and what it changes.

Worked out in a thread while people go on looking; nothing is in force before somebody has seen the effect and
accepts it. Must never calibrate from images that trained the recipe, nor call the result guaranteed where it
isn't (see `monitor.training.calibration.with_overkills`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from monitor.errors import LineMonitorError
from monitor.review.labels import Label
from monitor.review.snapshot_files import Key, NoSuchSnapshot, SnapshotFiles

if TYPE_CHECKING:
    from pathlib import Path

    from drivers.image_file import Image
    from monitor.model.recipe_document import Calibration
    from monitor.model.recipe_version import RecipeVersion

MOST_OF_A_LABEL = 500
"""Labelled parts looked at, the newest ones of each label."""


class State(Enum):
    WORKING = "working"
    READY = "ready"
    """The proposal waits for a person."""
    FAILED = "failed"
    ACCEPTED = "accepted"


class RecalibrationError(LineMonitorError):
    """There is no threshold to be had; one line says why and what to do."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A labelled part, scored anew by the recipe as it is now."""

    key: Key
    label: Label
    score: float


@dataclass(frozen=True, slots=True)
class Effect:
    """What becomes of one label's parts."""

    label: Label
    parts: int
    rejected_before: int
    rejected_after: int


@dataclass(frozen=True, slots=True)
class Proposal:
    before: Calibration
    after: Calibration
    judged: tuple[Judged, ...]
    draft: RecipeVersion
    """Not yet committed."""
    sha: str
    """Of the version it was made from."""
    left_out: int
    """Overkills that can't be used: unreadable, or the recipe was trained on them."""

    @property
    def effects(self) -> tuple[Effect, ...]:
        return effects(self.judged, self.before.threshold, self.after.threshold)

    @property
    def escapes(self) -> tuple[Judged, ...]:
        """Real defects that are rejected now and would pass."""
        low, high = self.before.threshold, self.after.threshold
        return tuple(one for one in self.judged if one.label is Label.DEFECT and low < one.score <= high)


def effects(judged: Iterable[Judged], before: float, after: float) -> tuple[Effect, ...]:
    """By label, how many of the parts either threshold rejects."""
    parts = list(judged)
    found = []
    for label in Label:
        scores = [one.score for one in parts if one.label is label]
        found.append(
            Effect(label, len(scores), sum(s > before for s in scores), sum(s > after for s in scores))
        )
    return tuple(found)


@dataclass(slots=True)
class Job:
    """One recipe's recalibration, from the button to the answer."""

    recipe: str
    labelled: frozenset[tuple[Key, Label]]
    """What people had said when it was begun."""
    state: State = State.WORKING
    done: int = 0
    total: int = 0
    proposal: Proposal | None = None
    trouble: str = ""
    id: str = field(default="")


class Recalibration:
    """One job at a time; a new one takes the place of one that is done. For several threads."""

    def __init__(self, recipes: Path, files: SnapshotFiles) -> None:
        self._recipes, self._files = recipes, files
        self._lock = threading.Lock()
        self._count = 0
        self.job: Job | None = None

    def start(self, recipe: str, labelled: Sequence[tuple[Key, Label]]) -> Job:
        """Begins with these parts, newest first. Raises RecalibrationError while another one works."""
        with self._lock:
            if self.job is not None and self.job.state is State.WORKING:
                raise RecalibrationError(f"recipe {self.job.recipe} is being worked on: wait for that")
            self._count += 1
            job = self.job = Job(recipe, frozenset(labelled), total=len(labelled), id=str(self._count))
        threading.Thread(
            target=self._work, args=(job, tuple(labelled)), name="recalibration", daemon=True
        ).start()
        return job

    def accept(self, id_: str, labelled: Sequence[tuple[Key, Label]]) -> Job:
        """Commits the proposal that the person has seen. Raises RecalibrationError.

        `labelled` is what people say now: from other labels than those it would be another proposal.
        """
        from monitor.model.recipe_document import RecipeError
        from monitor.model.recipe_version import RecipeVersion

        with self._lock:
            job = self.job
            if job is None or job.id != id_ or job.state is not State.READY or job.proposal is None:
                raise RecalibrationError("this proposal is no longer there: make it again")
            if job.labelled != frozenset(labelled):
                raise RecalibrationError("labels have changed since: make it again")
            try:
                if RecipeVersion.load(self._recipes / job.recipe).sha != job.proposal.sha:
                    raise RecalibrationError(
                        f"recipe {job.recipe} has changed meanwhile: make the proposal again"
                    )
                job.proposal.draft.commit()
            except RecipeError as error:
                raise RecalibrationError(str(error)) from None
            job.state = State.ACCEPTED
            return job

    def discard(self) -> None:
        with self._lock:
            if self.job is not None and self.job.state is not State.WORKING:
                self.job = None

    def _work(self, job: Job, labelled: Sequence[tuple[Key, Label]]) -> None:
        def step() -> None:
            job.done += 1

        try:
            job.proposal = propose(self._recipes, job.recipe, self._files, labelled, step)
            job.state = State.READY
        except LineMonitorError as error:
            job.trouble, job.state = str(error), State.FAILED
        except Exception:
            # A thread's end would leave the page waiting for ever.
            logging.getLogger(__name__).exception("recalibration of recipe %s", job.recipe)
            job.trouble, job.state = "it failed; the service's log says how", State.FAILED


def propose(
    recipes: Path,
    name: str,
    files: SnapshotFiles,
    labelled: Sequence[tuple[Key, Label]],
    step: Callable[[], None] = lambda: None,
) -> Proposal:
    """The threshold that follows from the labelled overkills, and every labelled part's score.

    `step` is called for each part that is done. Raises RecalibrationError, RecipeError, CalibrationError.
    """
    import torch

    from drivers.image_file import ImageError, decode
    from monitor.inference.scorer import Scorer
    from monitor.model.recipe_document import REFERENCE, RecipeError
    from monitor.model.recipe_version import RecipeVersion
    from monitor.names import check_name
    from monitor.teachers.architectures import map_ceiling
    from monitor.training.readable_images import content_mark
    from monitor.training.thresholds import with_one_threshold, with_overkills

    torch.set_num_threads(1)
    recipe = RecipeVersion.load(recipes / check_name(name))
    seen = frozenset(recipe.document.training.seen if recipe.document.training else ())
    images: list[tuple[Key, Label, Image]] = []
    left_out = 0
    for key, label in labelled:
        try:
            content = files.read(key, ".png")
            if label is Label.OVERKILL and content_mark(content) in seen:
                raise ImageError("trained on")
            images.append((key, label, decode(content)))
        except (NoSuchSnapshot, ImageError):
            left_out += label is Label.OVERKILL
            step()
    if not any(label is Label.OVERKILL for _, label, _ in images):
        raise RecalibrationError(f"no usable part of recipe {name} is labelled as overkill: label some first")
    found: dict[str, Calibration] = {}
    judged: list[Judged] = []
    for key_of_running, before in recipe.document.calibration.items():
        runtime, _, precision = key_of_running.partition("-")
        is_reference = key_of_running == REFERENCE
        try:
            scorer = Scorer(recipe, device="cpu", runtime=runtime, precision=precision)
        except RecipeError:
            # Not to be had here: that way of running falls back on the reference's threshold.
            continue
        scores = []
        for key, label, image in images:
            if not is_reference and label is not Label.OVERKILL:
                continue
            score = scorer.score([image])[0].score
            if is_reference:
                judged.append(Judged(key, label, score))
                step()
            if label is Label.OVERKILL:
                scores.append(score)
        ceiling = map_ceiling(recipe.document.teacher.architecture)
        found[key_of_running] = with_overkills(before, scores, ceiling)
    return Proposal(
        before=recipe.document.calibration[REFERENCE],
        after=found[REFERENCE],
        judged=tuple(judged),
        draft=recipe.with_calibration(with_one_threshold(found)),
        sha=recipe.sha,
        left_out=left_out,
    )
