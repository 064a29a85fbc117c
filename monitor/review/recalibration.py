"""Calculates a new threshold and shows its effect: from parts labelled as overkill (good part rejected), or
for another rate of overkill from the scores that a version records.

It knows nothing of HTTP. The work runs in a thread while the page goes on. Nothing takes effect until a
person has seen the result and accepts it. Images that trained the recipe must never be used for its
threshold, and a threshold without a guarantee must never be called guaranteed (see
`monitor.training.thresholds.add_overkills`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

import msgspec

from monitor.errors import LineMonitorError
from monitor.model.threshold_change import real_defects, warn_of_change
from monitor.review.snapshot_files import Key, NoSuchSnapshot, SnapshotFiles
from monitor.review.torch_import import import_torch
from monitor.snapshots.labels import Label

if TYPE_CHECKING:
    from pathlib import Path

    from drivers.image_file import Image
    from monitor.model.recipe_json import Calibration, Lineage
    from monitor.model.recipe_version import RecipeVersion

MAX_PARTS_PER_LABEL = 500
"""The newest labelled parts of each label are used, up to this number."""
MAX_UNLABELLED = 100
"""For another rate, the newest parts without a label are scored too, up to this number."""


class State(Enum):
    WORKING = "working"
    READY = "ready"
    """A person has to accept or discard the proposal."""
    FAILED = "failed"
    ACCEPTED = "accepted"


class RecalibrationError(LineMonitorError):
    """There is no new threshold. The message is one line with the reason and the fix."""


@dataclass(frozen=True, slots=True)
class RateRequest:
    """The wish for the threshold of another rate of overkill."""

    version: int
    """The number of the version whose scores and weights it is for."""
    overkill: float


@dataclass(frozen=True, slots=True)
class ScoredPart:
    """A part with its score by the version that the proposal is made from."""

    key: Key
    label: Label | None
    score: float


@dataclass(frozen=True, slots=True)
class Effect:
    """How many parts of one label, or without one, each threshold rejects."""

    label: Label | None
    parts: int
    rejected_before: int
    rejected_after: int


@dataclass(frozen=True, slots=True)
class Proposal:
    before: Calibration
    after: Calibration
    parts: tuple[ScoredPart, ...]
    draft: RecipeVersion
    """Not yet committed."""
    sha: str
    """Of the version that the proposal was calculated from."""
    base: str
    """That version, `NAME@VERSION`."""
    asked: RateRequest | None
    """None: it was calculated from the parts labelled as overkill."""
    overkill_marks: tuple[str, ...]
    """The marks of the parts labelled as overkill that the threshold was calculated from."""
    left_out: int
    """Parts labelled as overkill that can't be used: unreadable, or the recipe was trained on them."""

    @property
    def effects(self) -> tuple[Effect, ...]:
        return effects(self.parts, self.before.threshold, self.after.threshold)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person has to read and confirm before this threshold is accepted."""
        defects = real_defects(self.draft.document.defect_scores)
        return warn_of_change(self.before.threshold, self.after.threshold, defects)

    @property
    def escapes(self) -> tuple[ScoredPart, ...]:
        """Escapes (missed defects): real defects that are rejected now and would pass."""
        low, high = self.before.threshold, self.after.threshold
        return tuple(part for part in self.parts if part.label is Label.DEFECT and low < part.score <= high)


def effects(parts: Iterable[ScoredPart], before: float, after: float) -> tuple[Effect, ...]:
    """For each label, how many of its parts the thresholds `before` and `after` reject; the parts without a
    label come last, if there are any."""
    parts = list(parts)
    found = []
    has_unlabelled = any(part.label is None for part in parts)
    for label in (*Label, None) if has_unlabelled else Label:
        scores = [part.score for part in parts if part.label is label]
        found.append(
            Effect(label, len(scores), sum(s > before for s in scores), sum(s > after for s in scores))
        )
    return tuple(found)


@dataclass(slots=True)
class Job:
    """One recipe's recalibration, from the request to the result."""

    recipe: str
    labelled: frozenset[tuple[Key, Label]]
    """The labels when the job began."""
    asked: RateRequest | None = None
    state: State = State.WORKING
    done: int = 0
    total: int = 0
    made: str = ""
    """The version that was made from the accepted proposal, `NAME@VERSION`."""
    proposal: Proposal | None = None
    error: str = ""
    id: str = field(default="")


class Recalibration:
    """Runs one job at a time; a new job replaces a finished one. Safe for several threads."""

    def __init__(
        self,
        recipes: Path,
        files: SnapshotFiles,
        keep_versions: int,
        load_torch: Callable[[], None] = import_torch,
    ) -> None:
        self._recipes, self._files, self._keep_versions = recipes, files, keep_versions
        self._load_torch = load_torch
        self._lock = threading.Lock()
        self._count = 0
        self.job: Job | None = None

    def start(
        self,
        recipe: str,
        labelled: Sequence[tuple[Key, Label]],
        asked: RateRequest | None = None,
        unlabelled: Sequence[Key] = (),
    ) -> Job:
        """Starts a job with these parts, newest first. Raises RecalibrationError while a job is running."""
        with self._lock:
            if self.job is not None and self.job.state is State.WORKING:
                raise RecalibrationError(
                    f"a recalibration of recipe {self.job.recipe} is running: wait until it ends"
                )
            self._count += 1
            job = self.job = Job(
                recipe, frozenset(labelled), asked, total=len(labelled) + len(unlabelled), id=str(self._count)
            )
        parts = (*labelled, *((key, None) for key in unlabelled))
        threading.Thread(target=self._work, args=(job, parts), name="recalibration", daemon=True).start()
        return job

    def find_proposal(self, id_: str, labelled: Sequence[tuple[Key, Label]]) -> Proposal:
        """The proposal of the job `id_`, which waits for a person. Raises RecalibrationError.

        `labelled` holds the present labels: if they differ from the job's, the proposal is out of date.
        """
        with self._lock:
            return self._find(id_, labelled)[1]

    def accept(self, id_: str, labelled: Sequence[tuple[Key, Label]], who: str, utc: str) -> Job:
        """Commits the proposal of the job `id_` as a version that is not in force until it is promoted, and
        removes the oldest versions above the settings' bound.

        Raises RecalibrationError as `find_proposal`.
        """
        from monitor.model.in_force import find_in_force, hold_in_force
        from monitor.model.recipe_json import RecipeError
        from monitor.model.version_files import find_version
        from monitor.names import join_version

        with self._lock:
            job, proposal = self._find(id_, labelled)
            try:
                folder = self._recipes / job.recipe
                base = find_version(folder, job.asked.version) if job.asked else find_in_force(folder)
                if not proposal.sha.startswith(base.digits):
                    raise RecalibrationError(f"recipe {job.recipe} has changed since: calculate it again")
                hold_in_force(folder, utc)
                made = proposal.draft.with_changes(lineage=_lineage(proposal, who, utc)).commit()
                job.made = join_version(job.recipe, made.number)
            except RecipeError as error:
                raise RecalibrationError(str(error)) from None
            job.state = State.ACCEPTED
            self._remove_old_versions(folder)
            return job

    def _remove_old_versions(self, folder: Path) -> None:
        """The version is made by now: a failure here is only logged."""
        from monitor.model.recipe_json import RecipeError
        from monitor.model.version_retention import remove_old_versions

        log = logging.getLogger(__name__)
        try:
            removed = remove_old_versions(folder, self._keep_versions)
        except RecipeError as error:
            log.error("%s", error)
            return
        if removed:
            names = ", ".join(version.name for version in removed)
            log.info("removed: %s (recipes.keep_versions = %d)", names, self._keep_versions)

    def _find(self, id_: str, labelled: Sequence[tuple[Key, Label]]) -> tuple[Job, Proposal]:
        job = self.job
        if job is None or job.id != id_ or job.state is not State.READY or job.proposal is None:
            raise RecalibrationError("this proposal was replaced or discarded: calculate it again")
        if job.labelled != frozenset(labelled):
            raise RecalibrationError("labels have changed since: calculate it again")
        return job, job.proposal

    def discard(self) -> None:
        with self._lock:
            if self.job is not None and self.job.state is not State.WORKING:
                self.job = None

    def _work(self, job: Job, parts: Sequence[tuple[Key, Label | None]]) -> None:
        def step() -> None:
            job.done += 1

        try:
            self._load_torch()
            job.proposal = propose(self._recipes, job.recipe, self._files, parts, step, job.asked)
            job.state = State.READY
        except LineMonitorError as error:
            job.error, job.state = str(error), State.FAILED
        except Exception:
            # Without a result the page would wait for ever.
            logging.getLogger(__name__).exception("recalibration of recipe %s failed", job.recipe)
            job.error, job.state = "the calculation failed: the service's log has the reason", State.FAILED


def _lineage(proposal: Proposal, who: str, utc: str) -> Lineage:
    from monitor.model.image_mark import list_digest
    from monitor.model.recipe_json import Lineage, Origin

    if proposal.asked is not None:
        return Lineage(
            origin=Origin.CALIBRATION,
            utc=utc,
            who=who,
            parent=proposal.sha,
            settings={"overkill": str(proposal.asked.overkill)},
        )
    return Lineage(
        origin=Origin.REVIEW,
        utc=utc,
        who=who,
        parent=proposal.sha,
        images=len(proposal.overkill_marks),
        images_sha256=list_digest(proposal.overkill_marks),
    )


def propose(
    recipes: Path,
    name: str,
    files: SnapshotFiles,
    judged: Sequence[tuple[Key, Label | None]],
    step: Callable[[], None] = lambda: None,
    asked: RateRequest | None = None,
) -> Proposal:
    """Calculates the threshold from the parts labelled as overkill, or for the rate that is `asked` for, and
    the score of every part.

    `step` is called after each part. Raises RecalibrationError, RecipeError, CalibrationError.
    """
    from monitor.model.in_force import find_in_force
    from monitor.model.recipe_json import REFERENCE, DefectScores
    from monitor.model.recipe_version import RecipeVersion
    from monitor.model.version_files import find_version
    from monitor.names import check_name, join_version
    from monitor.training.calibrate_recipe import calibrate_with_recorded_scores
    from monitor.training.operating_points import state
    from monitor.training.thresholds import is_extrapolated, share_float32_threshold

    folder = recipes / check_name(name)
    base = find_version(folder, asked.version) if asked else find_in_force(folder)
    recipe = RecipeVersion.load(base.file)
    images, marks, left_out = _read_images(recipe, files, judged, step)
    if not marks and asked is None:
        raise RecalibrationError(
            f"no usable part of recipe {name} is labelled as overkill (good part rejected): label some first"
        )
    parts = _score_parts(recipe, images, step)
    own = recipe.document.calibration[REFERENCE]
    if asked is not None:
        draft = calibrate_with_recorded_scores(recipe, asked.overkill, extrapolate=is_extrapolated(own))
    else:
        draft = recipe.with_calibration(share_float32_threshold(_calibrate_ways(recipe, images, parts)))
    defects = tuple(part.score for part in parts if part.label is Label.DEFECT)
    if defects:
        known = recipe.document.defect_scores or DefectScores()
        draft = draft.with_changes(defect_scores=msgspec.structs.replace(known, labelled=defects))
    return Proposal(
        before=own,
        after=draft.document.calibration[REFERENCE],
        parts=tuple(parts),
        draft=state(draft),
        sha=recipe.sha,
        base=join_version(name, base.number),
        asked=asked,
        overkill_marks=tuple(marks),
        left_out=left_out,
    )


def _score_parts(
    recipe: RecipeVersion, images: Sequence[tuple[Key, Label | None, Image]], step: Callable[[], None]
) -> list[ScoredPart]:
    """The reference's scores of all parts."""
    from monitor.inference.scorer import Scorer

    scorer = Scorer(recipe, device="cpu", runtime="torch", precision="f32")
    parts = []
    for key, label, image in images:
        parts.append(ScoredPart(key, label, scorer.score([image])[0].score))
        step()
    return parts


def _calibrate_ways(
    recipe: RecipeVersion,
    images: Sequence[tuple[Key, Label | None, Image]],
    parts: Sequence[ScoredPart],
) -> dict[str, Calibration]:
    """The calibration of each way to score, with the overkills added. A way whose runtime this machine lacks
    is left out: it will use the reference's threshold. `parts` has the reference's scores."""
    from monitor.inference.scorer import Scorer
    from monitor.model.recipe_json import REFERENCE, RecipeError
    from monitor.training.operating_points import score_ceiling
    from monitor.training.thresholds import add_overkills

    overkills = [image for _, label, image in images if label is Label.OVERKILL]
    found: dict[str, Calibration] = {}
    ceiling = score_ceiling(recipe.document)
    for way, before in recipe.document.calibration.items():
        if way == REFERENCE:
            scores = [part.score for part in parts if part.label is Label.OVERKILL]
        else:
            runtime, _, precision = way.partition("-")
            try:
                scorer = Scorer(recipe, device="cpu", runtime=runtime, precision=precision)
            except RecipeError:
                continue
            scores = [scorer.score([image])[0].score for image in overkills]
        found[way] = add_overkills(before, scores, ceiling)
    return found


def _read_images(
    recipe: RecipeVersion,
    files: SnapshotFiles,
    judged: Sequence[tuple[Key, Label | None]],
    step: Callable[[], None],
) -> tuple[list[tuple[Key, Label | None, Image]], list[str], int]:
    """The usable parts with their images, the marks of the usable overkills, and the number of those that
    are left out."""
    from drivers.image_file import ImageError, decode
    from monitor.training.readable_images import content_mark

    trained_on = frozenset(recipe.document.training.seen if recipe.document.training else ())
    images: list[tuple[Key, Label | None, Image]] = []
    marks: list[str] = []
    left_out = 0
    for key, label in judged:
        try:
            content = files.read(key, ".png")
            mark = content_mark(content) if label is Label.OVERKILL else ""
            if mark in trained_on:
                raise ImageError("the recipe was trained on this image")
            images.append((key, label, decode(content)))
            if mark:
                marks.append(mark)
        except (NoSuchSnapshot, ImageError):
            left_out += label is Label.OVERKILL
            step()
    return images, marks, left_out
