"""Calibration of a recipe: its threshold from good images that neither trained nor selected the student.

It knows nothing of how a threshold follows from scores (`monitor.training.thresholds`). It must never look at
an image of a defective part: the threshold follows from good parts alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from drivers import image_file
from monitor.images import preprocessing
from monitor.inference import presence
from monitor.inference.backends import OPENVINO, available_backends, choose_device
from monitor.inference.scorer import Scorer
from monitor.model.recipe_json import REFERENCE, Calibration, Presence
from monitor.model.recipe_version import RecipeVersion
from monitor.system.progress import SILENT, Progress
from monitor.teachers.architectures import map_ceiling
from monitor.training import presence_training
from monitor.training.readable_images import (
    file_mark,
    find_image_files,
    read_images,
    read_with_progress,
    report_copies,
)
from monitor.training.thresholds import (
    OVERKILL_OUT_OF_RANGE,
    CalibrationError,
    explain_all,
    is_rate,
    make_calibration,
    share_float32_threshold,
)

_BATCH = 8
_BATCH_BYTES = 64 << 20
"""A batch is scored as soon as its images take this much memory; one image of 6000x4500 pixels takes more."""


def score_images(
    scorer: Scorer, files: Sequence[Path], say: Callable[[str], None], progress: Progress, task: str
) -> list[float]:
    """The scores of the readable files. `say` gets one line about each of the others."""
    scores: list[float] = []
    batch: list[image_file.Image] = []
    skipped: list[str] = []
    for done, file in enumerate(files, start=1):
        batch += [image for _, _, image in read_images([file], skipped.append)]
        full = len(batch) == _BATCH or sum(image.nbytes for image in batch) >= _BATCH_BYTES
        if full or done == len(files):
            scores += [result.score for result in scorer.score(batch)]
            batch = []
        progress.update(task, done, len(files))
    for line in skipped:
        say(line)
    return scores


def set_thresholds(
    recipe: RecipeVersion,
    files: Sequence[Path],
    *,
    overkill: float,
    device: str,
    say: Callable[[str], None],
    progress: Progress,
    selected_student: bool = False,
) -> RecipeVersion:
    """The recipe with a threshold from these files for every runtime and precision here, not yet committed.

    `selected_student` is True if the same files selected the student: then there is no guarantee, however
    many files there are. Raises CalibrationError, RecipeError, ValueError.
    """
    found: dict[str, Calibration] = {}
    say_skipped = say
    for runtime, precision in available_backends(recipe, choose_device(device)):
        so_far = recipe.with_calibration(found)
        where = "cpu" if runtime == OPENVINO else device
        scorer = Scorer(so_far, device=where, runtime=runtime, precision=precision)
        scores = score_images(scorer, files, say_skipped, progress, f"calibrate {scorer.calibration_key}")
        say_skipped = _print_nothing  # The first runtime has printed which files are skipped.
        calibration = make_calibration(scores, overkill, map_ceiling(recipe.document.teacher.architecture))
        guaranteed = calibration.guaranteed and not selected_student
        found[scorer.calibration_key] = msgspec.structs.replace(calibration, guaranteed=guaranteed)
    return recipe.with_calibration({**recipe.document.calibration, **share_float32_threshold(found)})


def _print_nothing(line: str) -> None:
    """A `say` for lines that were printed before or are printed later."""


def calibrate_recipe(
    *,
    recipe: Path,
    images: Path | None,
    overkill: float | None = None,
    empty: Path | None = None,
    gated: bool = True,
    say: Callable[[str], None],
    progress: Progress = SILENT,
    device: str = "auto",
) -> RecipeVersion:
    """Sets a recipe's threshold again from the good images in a folder, at any depth, and commits the recipe.

    Images that trained the recipe or selected its student are left out. Without `overkill` the recipe keeps
    its rate. With the images of the empty place in the folder `empty` the recipe gets a new presence gate;
    with `gated` False it loses its gate. Without `images` nothing but the gate changes. With `images` the
    gate, new or old, is compared with all of them. Raises CalibrationError, PresenceError, RecipeError.
    """
    loaded = RecipeVersion.load(recipe)
    if overkill is None:
        overkill = loaded.document.calibration[REFERENCE].overkill
    if not is_rate(overkill):
        raise CalibrationError(OVERKILL_OUT_OF_RANGE.format(overkill))
    gate = loaded.document.presence if gated else None
    if empty is not None:
        gate = presence_training.learn_gate(
            empty, lambda image: preprocessing.resize_image(image, loaded.size), say=say, progress=progress
        )
    if images is None:
        if gate is not None:
            gate = presence_training.check_without_parts(gate)
        committed = loaded.with_presence(gate).commit()
    else:
        files = find_image_files(images, CalibrationError)
        if gate is not None:
            gate = _compare_gate(gate, files, loaded, progress)
        # Old thresholds are removed: those of other runtimes come from other images.
        bare = loaded.with_calibration({}).with_presence(gate)
        try:
            fresh = _fresh_files(loaded, files, say)
            found = set_thresholds(bare, fresh, overkill=overkill, device=device, say=say, progress=progress)
        except CalibrationError as error:
            raise CalibrationError(f"{images}: {error}") from None
        committed = found.commit()
        document = committed.document
        for line in explain_all(document.calibration, document.quantised.pairs if document.quantised else ()):
            say(line)
    if gate is not None:
        say(presence.describe_gate(gate))
    elif loaded.document.presence is not None:
        say("no presence gate any more: every frame is scored")
    return committed


def _compare_gate(
    gate: Presence, files: Sequence[Path], recipe: RecipeVersion, progress: Progress
) -> Presence:
    """The gate, compared with good parts. Skipped files are printed later, when the images are scored."""

    def parts() -> Iterator[tuple[Path, tuple[int, ...], image_file.Image]]:
        for file, _, image in read_with_progress(files, "presence", say=_print_nothing, progress=progress):
            yield file, image.shape, preprocessing.resize_image(image, recipe.size)

    otherwise = "give other images to --empty, or have no gate with --no-empty"
    return presence_training.compare_with_parts(gate, parts(), otherwise)


def _fresh_files(recipe: RecipeVersion, files: Sequence[Path], say: Callable[[str], None]) -> Sequence[Path]:
    """The files that neither trained the recipe nor selected its student, without copies.

    Raises CalibrationError if there are none.
    """
    seen = frozenset(recipe.document.training.seen if recipe.document.training else ())
    fresh = [file for file in files if not seen or file_mark(file) not in seen]
    trained = len(files) - len(fresh)
    if trained:
        say(f"left out: {trained} images that the recipe was trained on")
    # A copy counts once, because it is no new image: the guarantee needs exchangeable images.
    once = list({file_mark(file) or str(file): file for file in reversed(fresh)}.values())[::-1]
    report_copies(len(fresh) - len(once), say)
    if not once:
        why = "all of them trained this recipe" if files else "there are none"
        raise CalibrationError(f"no images to calibrate with: {why}: give new images of good parts")
    return once
