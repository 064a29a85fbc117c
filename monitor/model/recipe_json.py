"""`recipe.json`: the schema of a trained recipe, and the rules that the schema's types can't express.

It knows nothing of networks, runtimes or the weight files. The schema only gains fields; unknown fields are
ignored.
"""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from monitor.errors import LineMonitorError
from monitor.images.preprocessing import COLOUR_ORDER, DEVIATION, MEAN, RESIZE, TILED_RESIZE, Size, as_size
from monitor.images.tiling import Grid, TilingError, format_size
from monitor.model.memory_level import FIRST_MEMORY_LEVELS, MemoryLevel, are_complete
from monitor.names import NAME_PATTERN

SCHEMA: Literal[1] = 1
FILE = "recipe.json"
REFERENCE = "torch-f32"
"""Every recipe has this calibration. It also serves each runtime and precision, except int8, that has no
calibration of its own."""

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
Roi = tuple[int, int, int, int]
"""A region of interest: x, y, width and height in the camera's pixels."""
MIN_SIDE, MAX_TILE_SIDE, MAX_SIDE = 32, 2048, 8192
"""Limits in pixels: of any side; of one network input; of an image that is cut into tiles."""


class RecipeError(LineMonitorError):
    """The recipe can't be used. The message is one line with the file and the fix."""


ScorePair = tuple[float, float]
"""The score in a quick precision (int8 or bfloat16) and the float32 score of one image."""


class WeightsFile(msgspec.Struct, frozen=True, kw_only=True):
    """A safetensors file beside `recipe.json`."""

    file: Annotated[str, msgspec.Meta(pattern=r"^[a-z]+-[0-9a-f]{16}\.safetensors$")]
    sha256: Sha256
    """The hash of the file's bytes. Its first 16 digits are part of the file's name."""


class TeacherEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The teacher that trained the student, or the one that a memory has of its own."""

    name: str
    architecture: str
    sha256: Sha256
    """`monitor.model.weights.fingerprint` of the trunk's weights; it does not depend on their file's
    format."""
    origin: str = ""
    """The name of the file that the weights came from."""
    weights: WeightsFile


class Normalisation(msgspec.Struct, frozen=True, kw_only=True):
    mean: tuple[float, float, float] = MEAN
    deviation: tuple[float, float, float] = DEVIATION


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """A threshold, and the scores of good images that it was computed from
    (`monitor.training.thresholds`)."""

    threshold: Annotated[float, msgspec.Meta(gt=0)]
    overkill: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    """The requested rate of rejected good parts."""
    guaranteed: bool
    """False when there were too few scores to guarantee the rate, or when their images also selected the
    student: the threshold is then an estimate."""
    scores: tuple[float, ...]
    added: tuple[float, ...] = ()
    """Scores of parts that the line rejected and an operator labelled good."""
    parts: tuple[int, ...] = ()
    """By score, the number of the part that the image shows: images with one number show one part or are near
    copies. Empty: each image shows a part of its own."""
    left_out: Annotated[int, msgspec.Meta(ge=0)] = 0
    """How many good images a person left out because they look odd. They count as rejected good parts."""
    guarantee: float | None = None
    """The rate of overkill that the threshold guarantees, on average over calibration sets; null where it
    guarantees none, and in recipes of earlier versions."""
    confident: float | None = None
    """The rate of overkill that this threshold stays below with 95 % confidence; null without a guarantee."""
    extrapolated: bool = False
    """Whether the threshold is an estimate above every good part. Earlier versions did not record this."""

    @property
    def part_scores(self) -> tuple[float, ...]:
        """The score of the first image of each part. These are exchangeable where `scores` are not."""
        if not self.parts:
            return self.scores
        first: dict[int, float] = {}
        for part, score in zip(self.parts, self.scores, strict=True):
            first.setdefault(part, score)
        return tuple(first.values())


class DefectSource(StrEnum):
    """Where the defects come from that a statement about escapes rests on."""

    KNOWN = "known"
    """Images of real defective parts."""
    DRAWN = "drawn"
    """Defects drawn on images of good parts."""
    UNKNOWN = "unknown"
    """Neither is at hand, or drawn ones say nothing about this recipe."""


class OperatingPoint(msgspec.Struct, frozen=True, kw_only=True):
    """What one threshold does: the overkill that it guarantees and the share of defects that pass it."""

    overkill: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    """The requested rate of rejected good parts."""
    threshold: Annotated[float, msgspec.Meta(gt=0)]
    guarantee: float | None = None
    """As in `Calibration`."""
    confident: float | None = None
    """As in `Calibration`."""
    more_parts: Annotated[int, msgspec.Meta(ge=0)] = 0
    """How many more good parts the guarantee of the requested rate needs."""
    source: DefectSource = DefectSource.UNKNOWN
    defects: Annotated[int, msgspec.Meta(ge=0)] = 0
    """The number of defects that were scored."""
    passed: Annotated[int, msgspec.Meta(ge=0)] = 0
    """How many of them are not above the threshold."""
    passed_low: float | None = None
    """The lower end of the exact 95 % interval of the share of defects that pass; null without defects."""
    passed_high: float | None = None


class DefectScores(msgspec.Struct, frozen=True, kw_only=True):
    """The reference's scores of defects, from which the statements follow again at another threshold."""

    known: tuple[float, ...] = ()
    drawn: tuple[float, ...] = ()
    drawn_is_reliable: bool = False
    """Whether drawn defects may stand in as a number where there are no known ones."""
    labelled: tuple[float, ...] = ()
    """Scores of the parts that people had labelled as real defects on the page when the threshold was
    accepted. A part that is also a known defect is in both."""


class Quantised(msgspec.Struct, frozen=True, kw_only=True):
    """Teacher and student as an int8 model for OpenVINO (`monitor.training.quantisation`)."""

    weights: WeightsFile
    """OpenVINO's model as two arrays of bytes, `graph` and `constants`."""
    agreement: Annotated[float, msgspec.Meta(ge=-1, le=1)]
    """Rank correlation of the int8 and float32 scores of good images with and without synthetic defects."""
    pairs: tuple[ScorePair, ...] = ()
    """The two scores of each of these images (used by `monitor.inference.second_look`)."""
    made_with: str = ""


class FirstLook(msgspec.Struct, frozen=True, kw_only=True):
    """Scores in bfloat16 and in float32 of the same images, good ones with and without drawn defects
    (`monitor.training.first_look`)."""

    pairs: tuple[ScorePair, ...]
    """The scores of the recipe's maps."""
    student: tuple[ScorePair, ...] = ()
    """Where the recipe has a student and a memory: the scores of the student's maps alone."""
    memory: tuple[ScorePair, ...] = ()
    """Where the recipe has a student and a memory: the scores of the memory's maps alone."""
    made_with: str = ""
    """The processor and the versions of the libraries that computed them."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """The memory of good features (`monitor.feature_memory`)."""

    weights: WeightsFile
    """The features, the projections and the channel deviations of the memory's own teacher; without a student
    also those of the recipe's teacher."""
    unit: Annotated[float, msgspec.Meta(gt=0)]
    """The memory's map is divided by this. It was fixed at training. With a student, no image that calibrates
    took part in it."""
    share: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    """With a student: the memory's share in the weighted mean of both maps, each in its unit. Null: the map
    is the larger of both, as the first recipes with a student and a memory have it."""
    by_level: bool = False
    """Whether the levels are compared apart and their distances multiplied. In recipes of earlier versions
    levels 2 and 3 are one vector."""
    levels: tuple[MemoryLevel, ...] = ()
    """With `by_level`: how each level is compared. Empty in the first such recipes (`compared_levels`)."""
    teacher: TeacherEntry | None = None
    """The memory's own teacher, of which `levels` has two more levels; null in recipes of earlier versions.
    Its channel deviations are among the memory's arrays."""

    def compared_levels(self) -> tuple[MemoryLevel, ...]:
        """How each level is compared; empty unless `by_level`."""
        return (self.levels or FIRST_MEMORY_LEVELS) if self.by_level else ()


class Tiles(msgspec.Struct, frozen=True, kw_only=True):
    """How the resized image is cut into tiles (`monitor.images.tiling`), in pixels of the resized image."""

    rows: int
    columns: int
    overlap: Annotated[int, msgspec.Meta(ge=0)]


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """The presence gate: how the camera's view looks without a part (`monitor.inference.presence`)."""

    images: Annotated[int, msgspec.Meta(ge=1)]
    """The number of images without a part that the gate was computed from."""
    rows: Annotated[int, msgspec.Meta(ge=1)]
    columns: Annotated[int, msgspec.Meta(ge=1)]
    """The frames' size in pixels. A frame of another size is never taken for empty."""
    colour: bool
    """True for BGR frames, false for mono frames."""
    means: tuple[float, ...]
    """The mean grey level of each cell, row by row; three values (BGR) a cell for colour."""
    deviations: tuple[Annotated[float, msgspec.Meta(gt=0)], ...]
    """The standard deviation of each cell's grey level, in the order of `means`."""
    limit: Annotated[float, msgspec.Meta(gt=0)]
    """The largest distance from its mean, in standard deviations, that any cell of an empty frame may
    have."""
    parts: Annotated[int, msgspec.Meta(ge=0)] = 0
    """The number of images of good parts that the gate was compared with."""
    nearest: float | None = None
    """The smallest departure of these images (`monitor.inference.presence`), in units of `limit`; null
    without such images."""


class LeftOutImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image of the training folder that a person left out."""

    file: str
    mark: str
    """As in `Training.seen`."""
    bad_by: str = ""
    """Who calls it a bad part; empty: it counts as a good part that is rejected."""
    reason: str = ""


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """How the student was trained, for information and to repeat the training."""

    utc: str
    images: int
    train: int
    select: int
    calibrate: int
    skipped: int
    epochs: int
    best_epoch: int
    seed: int
    as_paper: bool
    optimiser: str
    device: str
    torch: str
    seconds: float
    losses: tuple[float, ...]
    """The mean training loss of each epoch."""
    select_maps: tuple[float, ...]
    """The mean anomaly map of the select images after each epoch."""
    told_apart: tuple[float, ...] = ()
    """How well the maps separated synthetic defects from the select images after each epoch, 0 to 1
    (`monitor.training.student_selection`). The student of the largest value was kept; among equal values, the
    one with the smallest map. Empty when the smallest map alone decided."""
    seen: tuple[str, ...] = ()
    """The first 16 digits of the sha256 of each file that trained or selected the student or gave features to
    the memory. Calibration skips these files."""
    curve: str = ""
    """The name of the plot of the training's course, a file beside `recipe.json`."""
    part_of: str | None = None
    """The regular expression by which images of one part were found; `calibrate` uses it again."""
    left_out: tuple[LeftOutImage, ...] = ()
    guarantee_if_good: float | None = None
    """The rate of overkill that is guaranteed if all images of `left_out` show good parts; null without
    such images."""
    automatic_size: bool = False
    """Whether `size` and `tiles` were chosen by the rule of `monitor.training.image_size`."""
    smallest_defect: float | None = None
    """The smallest defect that they were chosen for, in pixels of the images; null: none was named."""
    learning_rate: str = "constant"
    """The course of the learning rate over the steps (`monitor.training.learning_rate`)."""
    precision: str = "f32"
    """The precision of the student's convolutions while it learnt: `f32` or `bf16`. The student's weights are
    float32 in both."""


class Origin(StrEnum):
    """What made a version."""

    TRAINING = "trained"
    CALIBRATION = "calibrated"
    REVIEW = "recalibrated"
    """From parts that people labelled on the operators' page."""


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """Where a version comes from, for the record. `Training` and `Calibration` hold the results."""

    origin: Origin
    utc: str
    who: str
    """The account that started it."""
    parent: Sha256 | None = None
    """`RecipeVersion.sha` of the version that it was made from; null for a training."""
    images: Annotated[int, msgspec.Meta(ge=0)] = 0
    """The number of good images that were read for it; 0 for a threshold from recorded scores."""
    images_sha256: Sha256 | None = None
    """sha256 of the list of these images: their marks (`monitor.model.image_mark`), sorted, a line each."""
    settings: dict[str, str] = {}
    """What was asked for, by the names of the command's options."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """`recipe.json`. The schema only gains fields; unknown fields are ignored."""

    schema: Literal[1] = SCHEMA
    name: Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
    teacher: TeacherEntry
    student: WeightsFile | None = None
    """Null: the memory alone judges."""
    student_unit: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    """The map of teacher and student is divided by this; 1 without a memory."""
    memory: Memory | None = None
    """Null: teacher and student alone judge. With both, the map is their weighted mean (`Memory.share`)."""
    levels: tuple[str, str, str]
    evened: bool = False
    """Whether each channel is divided by its standard deviation (`monitor.model.channel_scaling`). The
    deviations lie in the student's file."""
    size: int | tuple[int, int]
    """The size in pixels that images are resized to: the side of a square, or rows and columns.
    `check_document` checks the bounds, because msgspec 0.22 crashes on a union with bounded numbers."""
    tiles: Tiles | None = None
    """Null: the network gets the whole image at once."""
    colour_order: Literal["RGB"] = "RGB"
    normalisation: Normalisation = Normalisation()
    resize: str = RESIZE
    roi: Roi | None = None
    """x, y, width, height of the training images in the camera's pixels; null: the whole frame."""
    calibration: dict[str, Calibration] = {}
    """Calibrations by runtime and precision, for example `torch-f32`."""
    calibrated_on: tuple[str, ...] = ()
    """The marks (`monitor.model.image_mark`) of the images that set the thresholds. Evaluation leaves them
    out; another calibration may use them again. Empty in recipes of earlier versions."""
    operating_points: tuple[OperatingPoint, ...] = ()
    """What other thresholds do, in the order of their rates; the reference's (`torch-f32`)."""
    defect_scores: DefectScores | None = None
    statement: str = ""
    """The operating points in one plain sentence."""
    quantised: Quantised | None = None
    first_looks: dict[str, FirstLook] = {}
    """By runtime and precision, for example `openvino-bf16`: the pairs that show how far such scores are from
    float32's. Without an entry no part may pass by such a score."""
    training: Training | None = None
    lineage: Lineage | None = None
    """Null in recipes of earlier versions of this program."""
    presence: Presence | None = None
    """The presence gate; null: every frame is scored."""


def resize_name(tiles: Tiles | None, memory: Memory | None) -> str:
    """The `resize` of a recipe's document.

    Recipes with tiles, with a memory, with a mean of both maps, with a memory that compares the levels apart,
    with one that records how, and with one that has a teacher of its own, have names of their own, so that a
    program that does not know these refuses them.
    """
    name = RESIZE if tiles is None else TILED_RESIZE
    if memory is None:
        return name
    name += ", with a memory" if memory.share is None else ", averaged with a memory"
    name += " by recorded levels" if memory.levels else " by level" if memory.by_level else ""
    return name + (" of two teachers" if memory.teacher else "")


def size_problem(size: Size, tiles: Tiles | None) -> str:
    """Why images can't be resized to `size` and cut into `tiles`; empty when they can."""
    tile = size if tiles is None else (tiles.rows, tiles.columns)
    if min(*size, *tile) < MIN_SIDE or max(size) > MAX_SIDE:
        return f"size is {MIN_SIDE} to {MAX_SIDE} pixels, not {format_size(size)}"
    if tiles is not None and tiles.overlap < 0:
        return f"tiles can't overlap by {tiles.overlap} pixels: use 0 or more"
    if max(tile) > MAX_TILE_SIDE:
        return f"{format_size(tile)} at once is too large: use tiles of at most {MAX_TILE_SIDE} pixels"
    try:
        make_grid(size, tiles)
    except TilingError as error:
        return str(error)
    return ""


def make_tiles(tile: Size, overlap: int | None = None) -> Tiles:
    """Tiles of that size. Without `overlap`, neighbours share an eighth of the shorter side."""
    return Tiles(rows=tile[0], columns=tile[1], overlap=min(tile) // 8 if overlap is None else overlap)


def make_grid(size: Size, tiles: Tiles | None) -> Grid:
    """The positions of the tiles on an image of `size`. Raises TilingError."""
    return Grid(size, (tiles.rows, tiles.columns), tiles.overlap) if tiles else Grid.whole(size)


def check_document(file: Path, document: Document) -> None:
    """Checks the rules that the schema's types can't express. Raises RecipeError."""
    known_resize = resize_name(document.tiles, document.memory)
    known = (COLOUR_ORDER, known_resize, MEAN, DEVIATION)
    normalisation = document.normalisation
    if (document.colour_order, document.resize, normalisation.mean, normalisation.deviation) != known:
        raise RecipeError(
            f"{file}: the recipe's preprocessing ({document.resize}) differs from this program's "
            f"({known_resize}): update the program or train the recipe again"
        )
    problem = size_problem(as_size(document.size), document.tiles)
    if problem:
        raise RecipeError(f"{file}: {problem}: train the recipe again")
    if REFERENCE not in document.calibration:
        raise RecipeError(f"{file}: there is no threshold for {REFERENCE}: train the recipe again")
    for key, calibration in document.calibration.items():
        if not math.isfinite(calibration.threshold):
            raise RecipeError(f"{file}: the threshold for {key} is not finite: calibrate the recipe")
    if document.student is None and document.memory is None:
        raise RecipeError(f"{file}: there is neither a student nor a memory: train the recipe again")
    memory = document.memory
    if memory is not None and not _is_memory_complete(memory):
        raise RecipeError(f"{file}: its memory is damaged: train the recipe again or restore the file")
    if document.presence is not None and not _is_complete(document.presence):
        raise RecipeError(f"{file}: the presence gate is damaged: train the recipe again or restore the file")


def _is_memory_complete(memory: Memory) -> bool:
    """Whether it says how each level of its teachers is compared; recipes of earlier versions need not."""
    has_own = memory.teacher is not None
    if not memory.levels:
        return not has_own
    return memory.by_level and are_complete(memory.levels, own_teacher=has_own)


def _is_complete(presence: Presence) -> bool:
    """Whether the gate's cells form a square and every cell has finite numbers."""
    channels = 3 if presence.colour else 1
    count = len(presence.means)
    return count == len(presence.deviations) == channels * math.isqrt(count // channels) ** 2 > 0 and all(
        math.isfinite(value) for value in (*presence.means, *presence.deviations, presence.limit)
    )
