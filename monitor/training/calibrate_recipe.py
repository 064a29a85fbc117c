"""Calibration of a recipe: its threshold from good images that neither trained nor selected the student.

It knows nothing of how a threshold follows from scores (`monitor.training.thresholds`). Thresholds follow
from good parts alone: images of known defects are only scored afterwards, to state what passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from drivers import image_file
from monitor.images import preprocessing
from monitor.inference import presence
from monitor.inference.backends import OPENVINO, available_backends, choose_device
from monitor.inference.scorer import Scorer
from monitor.model.image_mark import list_digest
from monitor.model.in_force import explain_not_in_force
from monitor.model.recipe_json import REFERENCE, Calibration, Lineage, Origin, Presence
from monitor.model.recipe_version import RecipeVersion
from monitor.system.progress import SILENT, Progress
from monitor.training import presence_training
from monitor.training.first_look import add_first_looks_of_files
from monitor.training.image_scores import score_files
from monitor.training.known_defects import find_defects, score_defects
from monitor.training.operating_points import explain_points, score_ceiling, state, unrelated_score
from monitor.training.parts import explain_parts, find_parts, make_thumbnail, name_below
from monitor.training.readable_images import (
    content_mark,
    file_mark,
    find_image_files,
    read_with_progress,
    report_copies,
)
from monitor.training.recipe_pictures import save_decisions, show_oddest
from monitor.training.thresholds import (
    OVERKILL_OUT_OF_RANGE,
    CalibrationError,
    ThresholdRule,
    calibrate_again,
    explain_all,
    format_bound,
    images_needed,
    is_rate,
    make_calibration,
    share_float32_threshold,
)
from monitor.training.training_request import Say
from monitor.verdict import rfc3339_seconds

_WITHOUT_IT = "calibrate again without it"
"""What to do about a bad part among the oddest good images."""
_KEEP_GOOD = "an odd good part must stay, since the promised rate counts it too"
"""What not to do about a good part among them."""


@dataclass(frozen=True, kw_only=True)
class CalibrationRequest:
    """Which recipe to calibrate, from what, and how."""

    recipe: Path
    """The recipe's folder, for its newest version, or the document of another version."""
    images: Path | None = None
    """The folder of good images, at any depth. None: the scores that the recipe records are used."""
    overkill: float | None = None
    """The share of good parts that may be rejected. None: the recipe's present share."""
    part_of: str | None = None
    """A regular expression: images for whose names it matches the same text show one part."""
    extrapolate: bool = False
    """With too few parts for the rate, an estimated threshold above every good part."""
    defects: Path | None = None
    """The folder of images of known bad parts, at any depth."""
    empty: Path | None = None
    """A folder of images of the empty place, for a new presence gate."""
    gated: bool = True
    """False: the recipe loses its presence gate."""
    device: str = "auto"
    who: str = ""
    """Who calibrates, for the version's lineage."""

    @property
    def sets_threshold(self) -> bool:
        return self.images is not None or self.overkill is not None

    @property
    def sets_gate(self) -> bool:
        return self.empty is not None or not self.gated


def set_thresholds(
    recipe: RecipeVersion,
    files: Sequence[Path],
    rule: ThresholdRule,
    *,
    device: str,
    say: Say,
    progress: Progress,
    parts: Sequence[int] = (),
) -> RecipeVersion:
    """The recipe with a threshold from these files for every runtime and precision here, not yet committed.

    `parts` has the number of each file's part; without it each file shows a part of its own. The operating
    points stay as they were: `state` sets them. Raises CalibrationError, RecipeError, ValueError.
    """
    found: dict[str, Calibration] = {}
    say_skipped = say
    number = dict(zip(files, parts, strict=True)) if parts else {}
    for runtime, precision in available_backends(recipe, choose_device(device)):
        so_far = recipe.with_calibration(found)
        where = "cpu" if runtime == OPENVINO else device
        scorer = Scorer(so_far, device=where, runtime=runtime, precision=precision)
        scored = score_files(scorer, files, say_skipped, progress, f"calibrate {scorer.calibration_key}")
        say_skipped = _print_nothing  # The first runtime has printed which files are skipped.
        found[scorer.calibration_key] = make_calibration(
            [score for _, score in scored],
            rule.overkill,
            score_ceiling(recipe.document),
            parts=[number[file] for file, _ in scored] if number else (),
            extrapolate=rule.extrapolate,
            left_out=rule.left_out,
        )
    return recipe.with_calibration({**recipe.document.calibration, **share_float32_threshold(found)})


def _print_nothing(line: str) -> None:
    """A `say` for lines that were printed before or are printed later."""


Approve = Callable[[RecipeVersion, RecipeVersion], AbstractContextManager[object]]
"""Gets the recipe before and after; the commit is made in its context, or not at all where it raises."""


def _approve_all(before: RecipeVersion, after: RecipeVersion) -> AbstractContextManager[object]:
    return nullcontext()


def calibrate_recipe(
    request: CalibrationRequest, *, say: Say, progress: Progress = SILENT, approve: Approve = _approve_all
) -> RecipeVersion:
    """Sets a recipe's threshold, its presence gate or its known defects, as requested, and commits the
    recipe.

    The threshold comes from new good images, without those that trained the recipe or selected its student;
    or, for another rate of overkill alone, from the scores that the recipe records. Operating points and
    statement follow. `approve` is asked before the commit. Raises CalibrationError, DefectsError, PartsError,
    PresenceError, RecipeError.
    """
    loaded = RecipeVersion.load(request.recipe)
    if request.overkill is not None and not is_rate(request.overkill):
        raise CalibrationError(OVERKILL_OUT_OF_RANGE.format(request.overkill))
    recipe, files = _with_gate(loaded, request, say, progress)
    defects: Sequence[Path] = ()
    if request.images is not None:
        try:
            files = _fresh_files(loaded, files, say)
            # Refused before the good images are scored, which may take minutes.
            defects = _find_defects(request, loaded, files, say)
            recipe, files = _calibrate_with_images(recipe, request, files, say, progress)
        except CalibrationError as error:
            raise CalibrationError(f"{request.images}: {error}") from None
    else:
        defects = _find_defects(request, loaded, (), say)
        if request.overkill is not None:
            recipe = calibrate_with_recorded_scores(recipe, request.overkill, extrapolate=request.extrapolate)
    scored = None
    if defects:
        scored = score_defects(recipe, defects, device=request.device, say=say, progress=progress)
        recipe = recipe.with_changes(defect_scores=scored.scores)
    is_stated = request.sets_threshold or request.defects is not None
    recipe = (state(recipe) if is_stated else recipe).with_changes(lineage=_lineage(request, loaded, recipe))
    with approve(loaded, recipe):
        committed = recipe.commit()
    if request.images is not None:
        show_oddest(committed, files, _WITHOUT_IT, say, caution=_KEEP_GOOD)
    if is_stated:
        save_decisions(committed, scored, say)
    _report(loaded, committed, request, say)
    return committed


def _lineage(request: CalibrationRequest, parent: RecipeVersion, recipe: RecipeVersion) -> Lineage:
    asked = {
        "overkill": request.overkill,
        "part_of": request.part_of,
        "extrapolate": request.extrapolate or None,
        "images": request.images and request.images.absolute(),
        "defects": request.defects and request.defects.absolute(),
        "empty": request.empty and request.empty.absolute(),
        "no_empty": None if request.gated else True,
    }
    marks = recipe.document.calibrated_on if request.images is not None else ()
    return Lineage(
        origin=Origin.CALIBRATION,
        utc=rfc3339_seconds(datetime.now(UTC)),
        who=request.who,
        parent=parent.sha,
        images=len(marks),
        images_sha256=list_digest(marks) if marks else None,
        settings={name: str(value) for name, value in asked.items() if value is not None},
    )


def _find_defects(
    request: CalibrationRequest, recipe: RecipeVersion, files: Sequence[Path], say: Say
) -> Sequence[Path]:
    """The requested known defects; none without a folder. `files` will calibrate the recipe in place of those
    that did before. Raises DefectsError."""
    if request.defects is None:
        return ()
    calibrating = {file_mark(file) for file in files} - {""} if files else recipe.document.calibrated_on
    seen = recipe.document.training.seen if recipe.document.training else ()
    return find_defects(request.defects, {*seen, *calibrating}, say)


def _with_gate(
    loaded: RecipeVersion, request: CalibrationRequest, say: Say, progress: Progress
) -> tuple[RecipeVersion, Sequence[Path]]:
    """The recipe with its old, new or no presence gate, and the files of good images, if there are any.

    With good images the gate, new or old, is compared with all of them.
    """
    gate = loaded.document.presence if request.gated else None
    if request.empty is not None:
        gate = presence_training.learn_gate(
            request.empty,
            lambda image: preprocessing.resize_image(image, loaded.size),
            say=say,
            progress=progress,
        )
    files: Sequence[Path] = ()
    if request.images is not None:
        files = find_image_files(request.images, CalibrationError)
        if gate is not None:
            gate = _compare_gate(gate, files, loaded, progress)
    elif request.empty is not None and gate is not None:
        gate = presence_training.check_without_parts(gate)
    return loaded.with_presence(gate), files


def _compare_gate(
    gate: Presence, files: Sequence[Path], recipe: RecipeVersion, progress: Progress
) -> Presence:
    """The gate, compared with good parts. Skipped files are printed later, when the images are scored."""

    def parts() -> Iterator[tuple[Path, tuple[int, ...], image_file.Image]]:
        for file, _, image in read_with_progress(files, "presence", say=_print_nothing, progress=progress):
            yield file, image.shape, preprocessing.resize_image(image, recipe.size)

    otherwise = "give other images to --empty, or have no gate with --no-empty"
    return presence_training.compare_with_parts(gate, parts(), otherwise)


def _calibrate_with_images(
    recipe: RecipeVersion, request: CalibrationRequest, files: Sequence[Path], say: Say, progress: Progress
) -> tuple[RecipeVersion, Sequence[Path]]:
    """The recipe with thresholds from these files, and the readable ones. Old thresholds are removed: they
    come from other images."""
    assert request.images is not None
    readable: list[Path] = []
    marks: list[str] = []
    thumbnails = []
    for file, content, image in read_with_progress(files, "parts", say=say, progress=progress):
        readable.append(file)
        marks.append(content_mark(content))
        thumbnails.append(make_thumbnail(image))
    pattern = request.part_of or _recorded_pattern(recipe)
    parts = find_parts(name_below(request.images, readable), thumbnails, pattern)
    if line := explain_parts(parts):
        say(line)
    calibrated = set_thresholds(
        recipe.with_calibration({}),
        readable,
        ThresholdRule(
            request.overkill or recipe.document.calibration[REFERENCE].overkill, request.extrapolate
        ),
        device=request.device,
        say=say,
        progress=progress,
        parts=parts,
    )
    calibrated = add_first_looks_of_files(calibrated, readable)
    return calibrated.with_changes(calibrated_on=tuple(sorted(set(marks)))), readable


def calibrate_with_recorded_scores(
    recipe: RecipeVersion, overkill: float, *, extrapolate: bool = False
) -> RecipeVersion:
    """The recipe with thresholds for another rate of overkill from the scores that it records, not yet
    committed."""
    document = recipe.document
    ceiling = score_ceiling(document)
    as_paper = document.training is not None and document.training.as_paper
    found = {
        key: calibrate_again(before, overkill, ceiling, extrapolate=extrapolate, as_paper=as_paper)
        for key, before in document.calibration.items()
    }
    return recipe.with_calibration(share_float32_threshold(found))


def _recorded_pattern(recipe: RecipeVersion) -> str | None:
    """The pattern by which the training found the images of one part."""
    return recipe.document.training.part_of if recipe.document.training else None


def _fresh_files(recipe: RecipeVersion, files: Sequence[Path], say: Say) -> Sequence[Path]:
    """The files that neither trained the recipe nor selected its student, without copies.

    Raises CalibrationError if there are none.
    """
    training = recipe.document.training
    seen = frozenset(training.seen if training else ())
    called_bad = {image.mark for image in training.left_out if image.bad_by} if training else set()
    # Each mark is computed once: it takes reading the whole file.
    marks = {file: file_mark(file) for file in files}
    good = [file for file in files if marks[file] not in called_bad]
    if len(good) < len(files):
        say(f"left out: {len(files) - len(good)} images that were called bad at the training")
    fresh = [file for file in good if marks[file] not in seen]
    trained = len(good) - len(fresh)
    if trained:
        say(f"left out: {trained} images that the recipe was trained on")
    # A copy counts once, because it is no new image: the guarantee needs exchangeable images.
    once = list({marks[file] or str(file): file for file in reversed(fresh)}.values())[::-1]
    report_copies(len(fresh) - len(once), say)
    if not once:
        why = "all of them trained this recipe" if good else "there are none"
        raise CalibrationError(f"no images to calibrate with: {why}: give new images of good parts")
    return once


def _worse_guarantee(before: RecipeVersion, after: RecipeVersion) -> str:
    """A warning where the new threshold guarantees less than the one before; empty elsewhere."""
    old, new = (one.document.calibration[REFERENCE] for one in (before, after))
    if old.guarantee is None or new.guarantee is None or old.overkill != new.overkill:
        return ""
    if new.guarantee <= old.guarantee:
        return ""
    return (
        f"warning: the threshold before guaranteed {format_bound(old.guarantee)} of overkill (good parts "
        f"rejected), this one {format_bound(new.guarantee)}: images that trained the recipe can't calibrate "
        f"it; calibrate with {images_needed(new.overkill)} new good images, or train again with all images"
    )


def _report(before: RecipeVersion, after: RecipeVersion, request: CalibrationRequest, say: Say) -> None:
    """Prints what has changed: thresholds, operating points, presence gate."""
    document = after.document
    old, new = before.document.calibration[REFERENCE].threshold, document.calibration[REFERENCE].threshold
    if request.sets_threshold:
        pairs = document.quantised.pairs if document.quantised else ()
        for line in explain_all(document.calibration, pairs, unrelated_score(document)):
            say(line)
        say(f"the threshold was {old:.4g} and is {new:.4g}")
    if warning := _worse_guarantee(before, after):
        say(warning)
    if request.sets_threshold or request.defects is not None:
        for line in explain_points(document):
            say(line)
    gate = document.presence
    if gate is not None and (request.sets_gate or request.images is not None):
        say(presence.describe_gate(gate))
    elif gate is None and before.document.presence is not None:
        say("no presence gate any more: every frame is scored")
    known = document.defect_scores and document.defect_scores.known
    if known and request.sets_gate and request.defects is None:
        say("give --defects DIR again: the presence gate has changed, and with it what passes")
    for line in explain_not_in_force(after):
        say(line)
