"""The threshold, from good images that neither trained nor chose the student, by split conformal prediction.

With n calibration scores and a rate r the threshold is the score of rank ceil((n + 1)(1 - r)). The guarantee:
a new good part's score lies above it with a probability of at most r, on average over calibration sets, and
at least r - 1 / (n + 1) if no two scores are equal (Vovk et al. 2005; Lei et al. 2018, theorem 2.2).

Its condition: calibration images and future good parts are exchangeable, that is, any order of them would
have been as likely. Consecutive frames of one part are not, nor are images from before a change of light,
lens or product. The guarantee says nothing about defects.

Must never look at a defective image: what is rejected is decided by what is good.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import NormalDist

import msgspec
import numpy as np
from numpy.typing import NDArray

from drivers import image_file
from monitor.errors import LineMonitorError
from monitor.images import preprocessing
from monitor.inference import presence
from monitor.inference.backends import F32, INT8, OPENVINO, choose_device, ways
from monitor.inference.scorer import Scorer
from monitor.inference.second_look import clearly_below
from monitor.model.recipe_document import REFERENCE, Calibration, Pair, Presence
from monitor.model.recipe_version import RecipeVersion
from monitor.system.progress import SILENT, Progress
from monitor.teachers.architectures import map_ceiling
from monitor.training import presence_training, readable_images

_USUAL_SPREAD = 0.4
"""Standard deviation of the logarithm of good parts' scores, and how many scores this guess is worth."""
_NOTHING_IN_COMMON = 8.0
"""The anomaly map where teacher and student give vectors at right angles at all three levels."""
_BLIND = _NOTHING_IN_COMMON / 2
"""Students that had learnt for one epoch had mean maps of 2.2 to 6.7."""
_TOO_OFTEN = 0.6
"""A first look takes about 0.4 of the time of a second one."""
_USUAL_WEIGHT = 4
_TINY = float(np.finfo(np.float32).tiny)
_BATCH = 8
_BATCH_BYTES = 64 << 20
"""Images that wait to be scored together: one of 6000x4500 is more than that alone."""
_LEAST_RATE = 1e-9
NO_RATE = "overkill is a rate between 0 and 1, at least 1e-9, not {}"


class CalibrationError(LineMonitorError):
    """There is no threshold to be had from these images; the message is one line with the fix."""


def is_rate(overkill: float) -> bool:
    """Whether an overkill rate can be asked for."""
    return _LEAST_RATE <= overkill < 1


def rank(count: int, overkill: float) -> int:
    """Which of `count` ascending scores is the threshold, counted from 1; above `count`: there are too few.

    Raises ValueError for what is no rate.
    """
    if not is_rate(overkill):
        raise ValueError(NO_RATE.format(overkill))
    # Rounded first: (99 + 1) * (1 - 0.01) is a hair above 99 in binary.
    return max(1, math.ceil(round((count + 1) * (1 - overkill), 9)))


def needed(overkill: float) -> int:
    """The fewest scores that carry the guarantee for this rate: 99 for 0.01."""
    return math.ceil(round(1 / overkill, 9)) - 1


def calibrated(scores: Sequence[float], overkill: float, ceiling: float = math.inf) -> Calibration:
    """The threshold from good images' scores (n floats, any order), of which none can exceed `ceiling`.

    Raises CalibrationError, ValueError.

    With too few scores for the rate there is no guarantee; the threshold is then the largest score times a
    margin. The largest of n is exceeded with probability 1 / (n + 1); the level that is exceeded with
    probability r lies further on, by as much as if the scores' logarithms were normal with their spread. So
    the margin shrinks to nothing as n grows to where the guarantee begins. Few scores say little of their
    spread: they are weighed against a usual one. Over log-normal, log-logistic and exponential scores the
    overkill for r = 1 % came to 0.5 to 3.5 % with 16 images, where the largest score alone has 6 %; a fatter
    tail would come nearer but let defects of twice the contrast escape.

    Under a ceiling the same is done with the logarithm of score / (ceiling - score) instead: far below it
    that is the score's own, and near it the threshold stays below as well.
    """
    if not scores:
        raise CalibrationError("no good images to calibrate with")
    ordered = np.sort(np.asarray(scores, np.float64))
    if not np.isfinite(ordered).all() or ordered[0] < 0:
        raise CalibrationError("a calibration score is not finite: train the recipe again")
    count, place = len(ordered), rank(len(ordered), overkill)
    guaranteed = place <= count
    threshold = float(ordered[place - 1]) if guaranteed else _estimate(ordered, overkill, ceiling)
    return Calibration(
        threshold=max(threshold, _TINY),
        overkill=overkill,
        guaranteed=guaranteed,
        scores=tuple(float(score) for score in scores),
    )


def with_overkills(before: Calibration, overkills: Sequence[float], ceiling: float = math.inf) -> Calibration:
    """The calibration with scores of good parts added that the line rejected (m floats, any order; `ceiling`
    as in `calibrated`).

    These were picked because their scores are high, so they are not exchangeable with future good parts, and
    no number of them carries the guarantee. They can only raise the threshold, though: what `before`
    guaranteed of overkill holds on, and what it did not is still an estimate. They are kept apart from
    `scores`, which stay a fair sample; another call adds to those added before. Raises CalibrationError.
    """
    added = sorted({*before.added, *(float(score) for score in overkills)})
    together = calibrated([*before.scores, *added], before.overkill, ceiling)
    return Calibration(
        threshold=max(together.threshold, before.threshold),
        overkill=before.overkill,
        guaranteed=before.guaranteed,
        scores=before.scores,
        added=tuple(added),
    )


def _estimate(scores: NDArray[np.float64], overkill: float, ceiling: float) -> float:
    """From ascending scores that are too few for the guarantee; never below the largest."""
    positive = np.maximum(scores, _TINY)
    # Rounding may lift a score to the ceiling.
    odds = positive / np.maximum(1 - positive / ceiling, _TINY)
    further = float(odds[-1]) * _margin(np.log(odds), overkill)
    return max(further / (1 + further / ceiling), float(scores[-1]))


def _margin(logs: NDArray[np.float64], overkill: float) -> float:
    squares = float(((logs - logs.mean()) ** 2).sum())
    freedom = len(logs) - 1
    spread = math.sqrt((_USUAL_WEIGHT * _USUAL_SPREAD**2 + squares) / (_USUAL_WEIGHT + freedom))
    further = NormalDist().inv_cdf(1 - overkill) - NormalDist().inv_cdf(1 - 1 / (len(logs) + 1))
    return math.exp(spread * max(0.0, further))


def explain(calibration: Calibration) -> str:
    """One line for a person."""
    count, percent = len(calibration.scores), 100 * calibration.overkill
    threshold = f"threshold {calibration.threshold:.4g} from {count} calibration images"
    if calibration.added:
        threshold += f" and {len(calibration.added)} overkills"
    if calibration.guaranteed:
        return f"{threshold}: at most {percent:g} % of good parts are rejected, if they are like these images"
    more = needed(calibration.overkill) - count
    if more <= 0:
        return (
            f"{threshold}: an estimate, and too low, since these images chose the student; "
            "`line-monitor calibrate` with new good images can guarantee it"
        )
    return f"{threshold}: an estimate; {more} more good images are needed to guarantee {percent:g} % overkill"


def explained(calibrations: Mapping[str, Calibration], pairs: Sequence[Pair] = ()) -> Iterator[str]:
    """For a person: one for each way of running, and a warning when hardly anything can be rejected, or when
    8-bit integers, whose `pairs` are the recipe's, would cost time instead of saving it."""
    for key, calibration in calibrations.items():
        yield f"{key}: {explain(calibration)}"
    highest = max(calibration.threshold for calibration in calibrations.values())
    if highest >= _BLIND:
        yield (
            f"warning: the threshold {highest:.4g} is so high that hardly any defect can be rejected (a map "
            f"is at {_NOTHING_IN_COMMON:g} where teacher and student have nothing in common): train with "
            "more epochs, more good images or another --seed"
        )
    eight = calibrations.get(f"{OPENVINO}-{INT8}")
    if eight is not None:
        clear = clearly_below(pairs, eight.threshold)
        again = sum(score > clear for score in eight.scores) / len(eight.scores)
        if again > _TOO_OFTEN:
            yield (
                f"int8: {again:.0%} of these images would be looked at again in float32, which takes longer "
                'than float32 alone: better not set precision = "int8"'
            )


def scores_of(
    scorer: Scorer, files: Sequence[Path], say: Callable[[str], None], progress: Progress, task: str
) -> list[float]:
    """The scores of the files that are readable; `say` hears of the others."""
    scores: list[float] = []
    waiting: list[image_file.Image] = []
    unusable: list[str] = []
    for done, file in enumerate(files, start=1):
        waiting += [image for _, _, image in readable_images.readable([file], unusable.append)]
        full = len(waiting) == _BATCH or sum(image.nbytes for image in waiting) >= _BATCH_BYTES
        if full or done == len(files):
            scores += [result.score for result in scorer.score(waiting)]
            waiting = []
        progress.update(task, done, len(files))
    for line in unusable:
        say(line)
    return scores


def calibrate(
    recipe: RecipeVersion,
    files: Sequence[Path],
    *,
    overkill: float,
    device: str,
    say: Callable[[str], None],
    progress: Progress,
    chose: bool = False,
) -> RecipeVersion:
    """The recipe with thresholds from these files for every way this machine runs it, not yet committed.

    `chose` says that the same files chose the student: there is no guarantee then, however many they are.
    Raises CalibrationError, RecipeError, ValueError.
    """
    found: dict[str, Calibration] = {}
    hear = say
    for runtime, precision in ways(recipe, choose_device(device)):
        so_far = recipe.with_calibration(found)
        where = "cpu" if runtime == OPENVINO else device
        scorer = Scorer(so_far, device=where, runtime=runtime, precision=precision)
        scores = scores_of(scorer, files, hear, progress, f"calibrate {scorer.calibration_key}")
        hear = _unheard  # what is skipped has been said once
        calibration = calibrated(scores, overkill, map_ceiling(recipe.document.teacher.architecture))
        guaranteed = calibration.guaranteed and not chose
        found[scorer.calibration_key] = msgspec.structs.replace(calibration, guaranteed=guaranteed)
    return recipe.with_calibration({**recipe.document.calibration, **with_one_threshold(found)})


def with_one_threshold(found: Mapping[str, Calibration]) -> dict[str, Calibration]:
    """By way of running, those of 8-bit integers with float32's threshold on the same runtime: float32 judges
    all that is near it (`runtime.Scorer.score`)."""
    return {
        key: msgspec.structs.replace(own, threshold=exact.threshold)
        if key.endswith(f"-{INT8}") and (exact := found.get(key.replace(INT8, F32)))
        else own
        for key, own in found.items()
    }


def _unheard(line: str) -> None:
    """A `say` for lines that were said before."""


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
    """Sets a recipe's threshold anew from the good images in a folder, at any depth, and commits it.

    Images that trained or chose the student are left out. Without `overkill` the rate stays what it was.
    With the pictures without a part in the folder `empty` the recipe gets a presence gate, or another one;
    not `gated`, it has none any more. Without `images` that is all that changes. With them the gate, also one
    that was there, is compared with all of them. Raises CalibrationError, PresenceError, RecipeError.
    """
    loaded = RecipeVersion.load(recipe)
    if overkill is None:
        overkill = loaded.document.calibration[REFERENCE].overkill
    if not is_rate(overkill):
        raise CalibrationError(NO_RATE.format(overkill))
    gate = loaded.document.presence if gated else None
    if empty is not None:
        gate = presence_training.learned(
            empty, lambda image: preprocessing.squashed(image, loaded.size), say=say, progress=progress
        )
    if images is None:
        if gate is not None:
            gate = presence_training.without_parts(gate)
        committed = loaded.with_presence(gate).commit()
    else:
        files = _good_files(images)
        if gate is not None:
            gate = _beside(gate, files, loaded, progress)
        # Thresholds of other ways of running would be from other images.
        stripped = loaded.with_calibration({}).with_presence(gate)
        try:
            fresh = _fresh(loaded, files, say)
            found = calibrate(stripped, fresh, overkill=overkill, device=device, say=say, progress=progress)
        except CalibrationError as error:
            raise CalibrationError(f"{images}: {error}") from None
        committed = found.commit()
        quantised = committed.document.quantised
        for line in explained(committed.document.calibration, quantised.pairs if quantised else ()):
            say(line)
    if gate is not None:
        say(presence.explain(gate))
    elif loaded.document.presence is not None:
        say("no presence gate any more: every frame is scored")
    return committed


def _good_files(images: Path) -> list[Path]:
    try:
        return image_file.find(images)
    except image_file.ImageError as error:
        raise CalibrationError(f"{images}: {error}") from None


def _beside(gate: Presence, files: Sequence[Path], recipe: RecipeVersion, progress: Progress) -> Presence:
    """Which of the files are no images is said when they are scored."""

    def pictures() -> Iterator[tuple[Path, tuple[int, ...], image_file.Image]]:
        for done, file in enumerate(files, start=1):
            for _, _, image in readable_images.readable([file], _unheard):
                yield file, image.shape, preprocessing.squashed(image, recipe.size)
            progress.update("presence", done, len(files))

    otherwise = "give other pictures to --empty, or have no gate with --no-empty"
    return presence_training.beside_parts(gate, pictures(), otherwise)


def _fresh(recipe: RecipeVersion, files: Sequence[Path], say: Callable[[str], None]) -> Sequence[Path]:
    """The files that neither trained nor chose the student, each once. Raises CalibrationError for none."""
    seen = frozenset(recipe.document.training.seen if recipe.document.training else ())
    fresh = [file for file in files if not seen or file_mark(file) not in seen]
    trained = len(files) - len(fresh)
    if trained:
        say(f"left out: {trained} images that the recipe was trained on")
    # A copy is no second witness: the guarantee counts images that were drawn one by one.
    once = list({file_mark(file) or str(file): file for file in reversed(fresh)}.values())[::-1]
    if len(once) < len(fresh):
        say(f"left out: {len(fresh) - len(once)} images that are copies of others")
    fresh = once
    if not fresh:
        why = "all of them trained this recipe" if files else "there are none"
        raise CalibrationError(f"no images to calibrate with: {why}")
    return fresh


def file_mark(file: Path) -> str:
    """By what a recipe remembers an image file: 16 digits of its sha256; empty when it can't be read."""
    try:
        return content_mark(image_file.content_of(file))
    except image_file.ImageError:
        # Whoever reads it next says why it can't be used.
        return ""


def content_mark(content: bytes) -> str:
    """`file_mark` for a file's bytes."""
    return hashlib.sha256(content).hexdigest()[:16]
