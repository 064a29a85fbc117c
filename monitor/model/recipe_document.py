"""`recipe.json`: the schema of a trained recipe, and the rules that its types can't express.

It knows nothing of networks, runtimes or files beside it. Only fields are added; unknown fields are ignored.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from monitor.errors import LineMonitorError
from monitor.images.preprocessing import COLOUR_ORDER, DEVIATION, MEAN, RESIZE, TILED_RESIZE, Size, as_size
from monitor.images.tiling import Grid, TilingError, shown
from monitor.names import NAME_PATTERN

SCHEMA: Literal[1] = 1
FILE = "recipe.json"
REFERENCE = "torch-f32"
"""The calibration that every recipe has, for ways of running that have none of their own."""

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
Roi = tuple[int, int, int, int]
LEAST_SIDE, LARGEST_TILE, LARGEST_SIDE = 32, 2048, 8192
"""Pixels: of all that is seen; of what the network sees at once; of what it sees in tiles."""


class RecipeError(LineMonitorError):
    """The recipe can't be used; the message is one line that names the file and the fix."""


Pair = tuple[float, float]
"""One image's quick and exact score."""


class WeightsFile(msgspec.Struct, frozen=True, kw_only=True):
    """A safetensors file beside `recipe.json`."""

    file: Annotated[str, msgspec.Meta(pattern=r"^[a-z]+-[0-9a-f]{16}\.safetensors$")]
    sha256: Sha256
    """Of the file's bytes; the file's name carries its first 16 digits."""


class TeacherEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Which teacher the student imitates."""

    name: str
    architecture: str
    sha256: Sha256
    """Of its trunk's weights, as `monitor.model.weights.fingerprint` counts it, whatever file they lie in."""
    origin: str = ""
    """The name of the file they came from."""
    weights: WeightsFile


class Normalisation(msgspec.Struct, frozen=True, kw_only=True):
    mean: tuple[float, float, float] = MEAN
    deviation: tuple[float, float, float] = DEVIATION


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """A threshold and the scores of good images that it came from (see `monitor.training.calibration`)."""

    threshold: Annotated[float, msgspec.Meta(gt=0)]
    overkill: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    """The rate of rejected good parts that was asked for."""
    guaranteed: bool
    """False when there were too few scores for that rate: the threshold is then an estimate."""
    scores: tuple[float, ...]
    added: tuple[float, ...] = ()
    """Scores of good parts that the line had rejected, as a person said (`calibration.with_overkills`)."""


class Quantised(msgspec.Struct, frozen=True, kw_only=True):
    """The pair in 8-bit integers, for OpenVINO (see `monitor.training.quantisation`)."""

    weights: WeightsFile
    """Two arrays of bytes, `graph` and `constants`: OpenVINO's model."""
    agreement: Annotated[float, msgspec.Meta(ge=-1, le=1)]
    """Rank correlation of its scores with float32's, on good images with and without drawn defects."""
    pairs: tuple[Pair, ...] = ()
    """Of each of those images its own score and float32's (`monitor.inference.second_look`)."""
    made_with: str = ""


class Tiles(msgspec.Struct, frozen=True, kw_only=True):
    """How the squashed image is cut for the network (see `monitor.images.tiling`); in its pixels."""

    rows: int
    columns: int
    overlap: Annotated[int, msgspec.Meta(ge=0)]


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """What the place looks like without a part, so that empty frames pass unscored
    (`monitor.inference.presence`)."""

    images: Annotated[int, msgspec.Meta(ge=1)]
    """How many pictures of the empty place it is from."""
    rows: Annotated[int, msgspec.Meta(ge=1)]
    columns: Annotated[int, msgspec.Meta(ge=1)]
    """Of the frames, in pixels: those of another size are scored."""
    colour: bool
    """Of the frames: BGR, or else mono."""
    means: tuple[float, ...]
    """Grey levels of the cells, row by row; in colour three a cell, BGR."""
    deviations: tuple[Annotated[float, msgspec.Meta(gt=0)], ...]
    """Of the cells, in the same order."""
    limit: Annotated[float, msgspec.Meta(gt=0)]
    """In deviations, how far from its mean a cell may lie in an empty frame."""
    parts: Annotated[int, msgspec.Meta(ge=0)] = 0
    """How many images of good parts it was compared with."""
    nearest: float | None = None
    """How far the one of these departs that looks most like the empty place, in limits."""


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """How the student was trained, for people and for doing it again."""

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
    """How well drawn defects were told from the select images after each epoch, 0 to 1
    (`monitor.training.student_selection`). The
    largest one's student was kept, of equals the one with the smallest map; empty when the map chose."""
    seen: tuple[str, ...] = ()
    """The first 16 digits of the sha256 of each file that trained or chose the student: none of them may
    calibrate."""
    curve: str = ""
    """The picture of `losses` and `select_maps`, a file beside `recipe.json`."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """`recipe.json`. Only ever gains fields; fields that are not known are ignored."""

    schema: Literal[1] = SCHEMA
    name: Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
    teacher: TeacherEntry
    student: WeightsFile
    levels: tuple[str, str, str]
    evened: bool = False
    """Whether each channel is divided by its deviation (`monitor.model.channel_scaling`); the student's
    file holds them."""
    size: int | tuple[int, int]
    """What images are squashed to: a square's side, or rows and columns. `unusable` says what they may be:
    msgspec 0.22 crashes when it decodes such a union with bounds on its numbers."""
    tiles: Tiles | None = None
    """Null: the network sees all of it at once."""
    colour_order: Literal["RGB"] = "RGB"
    normalisation: Normalisation = Normalisation()
    resize: str = RESIZE
    roi: Roi | None = None
    """x, y, width, height in the camera's pixels that the training images were cut to; null: all of it."""
    calibration: dict[str, Calibration] = {}
    """By runtime and precision, as in `torch-f32`."""
    quantised: Quantised | None = None
    training: Training | None = None
    presence: Presence | None = None
    """The presence gate; null: every frame is scored."""


def unusable(size: Size, tiles: Tiles | None) -> str:
    """Why images can't be squashed and cut so; empty when they can."""
    tile = size if tiles is None else (tiles.rows, tiles.columns)
    if min(*size, *tile) < LEAST_SIDE or max(size) > LARGEST_SIDE:
        return f"size is {LEAST_SIDE} to {LARGEST_SIDE} pixels, not {shown(size)}"
    if tiles is not None and tiles.overlap < 0:
        return f"tiles can't overlap by {tiles.overlap} pixels: use 0 or more"
    if max(tile) > LARGEST_TILE:
        return f"{shown(tile)} at once is too large: use tiles of at most {LARGEST_TILE} pixels"
    try:
        grid_of(size, tiles)
    except TilingError as error:
        return str(error)
    return ""


def tiles_of(tile: Size, overlap: int | None = None) -> Tiles:
    """Tiles of that size; without `overlap` they share an eighth of their shorter side."""
    return Tiles(rows=tile[0], columns=tile[1], overlap=min(tile) // 8 if overlap is None else overlap)


def grid_of(size: Size, tiles: Tiles | None) -> Grid:
    """Raises TilingError."""
    return Grid(size, (tiles.rows, tiles.columns), tiles.overlap) if tiles else Grid.whole(size)


def check_document(file: Path, document: Document) -> None:
    """What the types can't say. Raises RecipeError."""
    # So that a program that knows of no tiles refuses a recipe that has them.
    known_resize = RESIZE if document.tiles is None else TILED_RESIZE
    known = (COLOUR_ORDER, known_resize, MEAN, DEVIATION)
    normalisation = document.normalisation
    if (document.colour_order, document.resize, normalisation.mean, normalisation.deviation) != known:
        raise RecipeError(
            f"{file}: prepares images otherwise ({document.resize}) than this program ({known_resize}): "
            "update the program or train the recipe again"
        )
    problem = unusable(as_size(document.size), document.tiles)
    if problem:
        raise RecipeError(f"{file}: {problem}: train the recipe again")
    if REFERENCE not in document.calibration:
        raise RecipeError(f"{file}: has no threshold for {REFERENCE}: train the recipe again")
    for key, calibration in document.calibration.items():
        if not math.isfinite(calibration.threshold):
            raise RecipeError(f"{file}: the threshold for {key} is not finite: calibrate the recipe")
    if document.presence is not None and not _is_whole(document.presence):
        raise RecipeError(f"{file}: its presence gate is damaged: train it again or restore the file")


def _is_whole(presence: Presence) -> bool:
    """Whether the gate has a square of cells, and numbers for all of them."""
    channels = 3 if presence.colour else 1
    count = len(presence.means)
    return count == len(presence.deviations) == channels * math.isqrt(count // channels) ** 2 > 0 and all(
        math.isfinite(value) for value in (*presence.means, *presence.deviations, presence.limit)
    )
