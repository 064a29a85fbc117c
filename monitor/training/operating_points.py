"""What a recipe's thresholds reject and let pass, for several rates of overkill, in figures and in words.

It knows nothing of images, networks or files: these are pure functions of recorded scores. Importing it loads
no torch, since pages state a version's points anew. Overkill is stated
from the scores of good parts (`monitor.training.thresholds`), escapes (missed defects) from the scores of
defects, with the exact interval of Clopper and Pearson (1934).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec

from monitor.evaluation.intervals import exact_interval
from monitor.evaluation.results import align_columns
from monitor.model.memory_level import farthest_product
from monitor.model.recipe_json import (
    REFERENCE,
    Calibration,
    DefectScores,
    DefectSource,
    Document,
    OperatingPoint,
)
from monitor.model.recipe_version import RecipeVersion
from monitor.model.threshold_change import real_defects
from monitor.training.thresholds import (
    UNRELATED_MAP,
    calibrate_again,
    confident_rate,
    count_parts,
    format_bound,
    guarantee_with,
    images_needed,
    is_extrapolated,
)

RATES = (0.005, 0.01, 0.02, 0.05)
"""The rates of overkill that every recipe has an operating point for, beside its own rate."""
MOST_ESCAPES = 0.5
"""Above this share of defects that pass there is a warning."""
ENOUGH_DEFECTS = 10
"""So many known defects are asked for."""
_MUCH_BETTER = 0.2
"""Another rate is recommended when it lets this share of the defects pass less."""
_FEW_TRAINING_IMAGES = 100
_FARTHEST_JOINED = 8.0
"""The largest value of the map of a memory of one vector: the squared distance of two sums of two vectors of
length 1. A projection makes no distance longer."""
_OVERKILL, _ESCAPE = "overkill, false rejects", "escape, missed defects"


def operating_points(
    own: Calibration,
    defects: DefectScores | None,
    ceiling: float = math.inf,
    *,
    as_paper: bool = False,
) -> tuple[OperatingPoint, ...]:
    """The operating points of `RATES` and of the calibration's own rate, in ascending order of their rates.

    The own rate's point has the calibration's own threshold. The others follow from its scores by the same
    rule. `ceiling` and `as_paper` are as in `monitor.training.thresholds.calibrate_again`.
    """
    source, scores = _defects(defects)
    points = []
    for rate in sorted({*RATES, own.overkill}):
        found = calibrate_again(own, rate, ceiling, extrapolate=is_extrapolated(own), as_paper=as_paper)
        threshold = own.threshold if rate == own.overkill else found.threshold
        guarantee, confident = _reached(found)
        point = OperatingPoint(
            overkill=rate,
            threshold=threshold,
            guarantee=guarantee,
            confident=confident,
            more_parts=max(0, images_needed(rate, own.left_out) - count_parts(own)),
        )
        points.append(_count_passed(point, source, scores))
    return tuple(points)


def _count_passed(point: OperatingPoint, source: DefectSource, scores: Sequence[float]) -> OperatingPoint:
    passed = sum(score <= point.threshold for score in scores)
    low, high = exact_interval(passed, len(scores)) if scores else (None, None)
    return msgspec.structs.replace(
        point, source=source, defects=len(scores), passed=passed, passed_low=low, passed_high=high
    )


def count_labelled(document: Document, labelled: Sequence[float]) -> Document:
    """The document as it would state what passes if the parts counted that people have labelled as real
    defects since. `labelled` has their scores by it."""
    if not labelled:
        return document
    before = document.defect_scores or DefectScores()
    scores = msgspec.structs.replace(before, labelled=real_defects(before, labelled))
    source, real = _defects(scores)
    points = tuple(_count_passed(point, source, real) for point in document.operating_points)
    return msgspec.structs.replace(document, defect_scores=scores, operating_points=points)


def _reached(found: Calibration) -> tuple[float | None, float | None]:
    """The rates that the threshold guarantees: on average, and for this recipe with 95 % confidence.

    Both follow from the number of parts at or below the threshold. A threshold that is the score of a part
    often guarantees a lower rate than was asked for, and equal thresholds guarantee the same.
    """
    if found.guarantee is None or found.added or is_extrapolated(found):
        return found.guarantee, found.confident
    guarantee = min(found.guarantee, guarantee_with(found, 0))
    count = count_parts(found) + found.left_out
    return guarantee, confident_rate(count, guarantee, one_image_a_part=not found.parts)


def _defects(defects: DefectScores | None) -> tuple[DefectSource, Sequence[float]]:
    """The scores that a statement about escapes may rest on, and where they come from."""
    if real := real_defects(defects):
        return DefectSource.KNOWN, real
    if defects is not None and defects.drawn and defects.drawn_is_reliable:
        return DefectSource.DRAWN, defects.drawn
    return DefectSource.UNKNOWN, ()


def score_ceiling(document: Document) -> float:
    """The highest score that the recipe can give."""
    from monitor.teachers.architectures import map_ceiling

    by_student = (
        map_ceiling(document.teacher.architecture) / document.student_unit if document.student else 0.0
    )
    by_memory = 0.0
    if document.memory:
        levels = document.memory.compared_levels()
        by_memory = (farthest_product(levels) if levels else _FARTHEST_JOINED) / document.memory.unit
    return max(by_student, by_memory)


def unrelated_score(document: Document) -> float:
    """The recipe's score where student and teacher have nothing to do with each other.

    It is infinite with a memory: no such score is known there.
    """
    return math.inf if document.memory else UNRELATED_MAP


def state(recipe: RecipeVersion) -> RecipeVersion:
    """The recipe with operating points and a statement from its reference calibration and its defects'
    scores, not yet committed."""
    document = recipe.document
    points = operating_points(
        document.calibration[REFERENCE],
        document.defect_scores,
        score_ceiling(document),
        as_paper=document.training is not None and document.training.as_paper,
    )
    stated = recipe.with_changes(operating_points=points)
    return stated.with_changes(statement=statement(stated.document))


def own_point(document: Document) -> OperatingPoint | None:
    """The operating point of the recipe's own rate of overkill; None where it has no points."""
    own = document.calibration[REFERENCE].overkill
    return next((point for point in document.operating_points if point.overkill == own), None)


def statement(document: Document, *, with_commands: bool = True) -> str:
    """The operating points in one plain sentence: that of the own rate, and the one that lets the fewest
    defects pass where it lets fewer pass; empty without points.

    With commands the sentence is for a person at a shell; pages have buttons and links instead.
    """
    own = own_point(document)
    if own is None:
        return ""
    tell_defects = f": {_tell_defects(document)}" if with_commands else ""
    if own.source is DefectSource.UNKNOWN:
        return f"{_rejected(own)}, it is not known how many defects would pass ({_ESCAPE}){tell_defects}."
    text = f"{_rejected(own)}, {_passing(own, whole=True)}"
    other = _better(document, own)
    if other is not None:
        where = f"at {other.threshold:.4g}" if other.guarantee is None else f"with {_rate(other)}"
        calibrate = f": {_calibrate(document, other)}" if with_commands else ""
        text += f"; {where}, {_passing(other, whole=False)}{calibrate}"
    if own.source is DefectSource.DRAWN:
        text += f"; drawn defects only stand in for real ones{tell_defects}"
    elif document.defect_scores is not None and document.defect_scores.labelled:
        text += "; most defects labelled on the page had been rejected: those that passed unseen do not count"
    return f"{text}."


def warning(document: Document) -> str:
    """One line where more than half of the defects pass or nobody knows, with what helps most; else empty."""
    own = own_point(document)
    if own is None:
        return ""
    if own.source is DefectSource.UNKNOWN:
        return f"nobody knows which defects pass ({_ESCAPE}): what helps most: {_tell_defects(document)}"
    share = own.passed / own.defects
    if share <= MOST_ESCAPES:
        return ""
    return (
        f"{own.passed} of {own.defects} {own.source} defects pass ({_ESCAPE}), more than half: "
        f"what helps most: {_what_helps(document, own)}"
    )


def explain_points(document: Document) -> Iterator[str]:
    """Lines for a person: a table of the operating points, the statement, and a warning if needed."""
    own = own_point(document)
    if own is None:
        return
    rows: list[Sequence[str]] = [
        (
            "asked",
            "threshold",
            "rejected on average",
            "this recipe, 95 % sure",
            "more to calibrate",
            "defects that pass (95 % sure)",
        )
    ]
    rows += [_row(point, own) for point in document.operating_points]
    yield "good parts rejected (overkill, false rejects) and defects that pass (escape), by threshold:"
    yield from align_columns(rows).splitlines()
    if own.guarantee is None:
        yield (
            f"good parts rejected ({_OVERKILL}): no rate is guaranteed, because the images that set the "
            "threshold selected the student: calibrate with new good images"
        )
    if own.source is DefectSource.UNKNOWN:
        yield f"WARNING: {document.statement}"
        return
    yield document.statement
    if line := warning(document):
        yield f"WARNING: {line}"


def _row(point: OperatingPoint, own: OperatingPoint) -> tuple[str, ...]:
    guarantee, confident = point.guarantee, point.confident
    return (
        f"{100 * point.overkill:g} %" + (" (this one)" if point is own else ""),
        f"{point.threshold:.4g}",
        "not known" if guarantee is None else f"at most {format_bound(guarantee)}",
        "not known" if confident is None else f"below {format_bound(confident)}",
        str(point.more_parts) if point.more_parts else "none",
        f"{point.passed} of {point.defects}, {_interval(point)}" if point.defects else "not known",
    )


def _rate(point: OperatingPoint) -> str:
    """The rate of rejected good parts that a sentence names: what was asked for, or what is guaranteed
    instead."""
    if point.guarantee is not None and point.guarantee > point.overkill:
        return f"at most {format_bound(point.guarantee)}"
    return f"{100 * point.overkill:g} %"


def _missing(point: OperatingPoint) -> str:
    parts = _plural("part", point.more_parts)
    return f"{point.more_parts} more good {parts} to calibrate for {100 * point.overkill:g} %"


def _rejected(point: OperatingPoint) -> str:
    """The beginning of a sentence: how many good parts are rejected."""
    if point.guarantee is None:
        return f"At this threshold, whose rate of rejected good parts ({_OVERKILL}) is not known"
    more = f"; {_missing(point)}" if point.more_parts else ""
    return f"With {_rate(point)} of good parts rejected ({_OVERKILL}{more})"


def _passing(point: OperatingPoint, *, whole: bool) -> str:
    """How many defects pass. `whole`: as a sentence with its terms, else as its end alone."""
    number = _number(point)
    if not whole:
        return f"{number} ({_interval(point)})"
    if point.source is DefectSource.DRAWN:
        of = f"{point.defects} {_plural('defect', point.defects)} drawn on good images"
    else:
        of = f"your {point.defects} known {_plural('defect', point.defects)}"
    return f"{number} of {of} would pass ({_ESCAPE}; {_interval(point)} of such defects)"


def _number(point: OperatingPoint) -> str:
    return str(point.passed) if point.passed else "none"


def _interval(point: OperatingPoint) -> str:
    assert point.passed_low is not None
    assert point.passed_high is not None
    return f"{100 * point.passed_low:.0f} to {100 * point.passed_high:.0f} %"


def _better(document: Document, own: OperatingPoint) -> OperatingPoint | None:
    """The point with the lowest rate of those that let the fewest defects pass; None where that is the own
    one's number. A higher rate has a lower threshold."""
    fewest = min(document.operating_points, key=lambda point: (point.passed, point.overkill))
    return fewest if fewest.passed < own.passed else None


def _what_helps(document: Document, own: OperatingPoint) -> str:
    """What lets fewer defects pass, most of all."""
    other = _better(document, own)
    if other is not None and own.passed - other.passed >= _MUCH_BETTER * own.defects:
        return (
            f"with {_rate(other)} of good parts rejected, {_number(other)} of {other.defects} would pass: "
            f"{_calibrate(document, other)}"
        )
    if is_extrapolated(document.calibration[REFERENCE]):
        return "its threshold lies above every good part: calibrate it without --extrapolate"
    training = document.training
    if training is not None and training.images < _FEW_TRAINING_IMAGES:
        return (
            f"train with more good images: {training.images} are few, "
            f"{_FEW_TRAINING_IMAGES} or more are better"
        )
    return "train with a larger --size, or with --tile, so that a defect covers more pixels"


def _calibrate(document: Document, point: OperatingPoint) -> str:
    """The command that puts the point in force."""
    return f"line-monitor calibrate {document.name} --overkill {point.overkill:g}"


def _tell_defects(document: Document) -> str:
    return (
        f"give {ENOUGH_DEFECTS} or more images of bad parts: "
        f"line-monitor calibrate {document.name} --defects DIR"
    )


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
