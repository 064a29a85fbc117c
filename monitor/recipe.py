"""A recipe: one trained inspection on disk, and all that is needed to run it.

A folder `recipes/<name>/` with `recipe.json`, the student's weights and a copy of the teacher's trunk, so
that it runs where the teacher's own file is not. Renaming `recipe.json` into place commits a version; each
weight file's name carries its own sha256, so that two versions can't be mixed up. Nothing here is pickled,
and nothing here imports torch until a scorer is asked for.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import numpy as np

from monitor.images import COLOUR_ORDER, DEVIATION, MEAN, RESIZE, TILED_RESIZE, Size, as_size
from monitor.second_look import Pair
from monitor.tiling import Grid, TilingError, shown
from monitor.weights import Weights, WeightsError, fingerprint, from_bytes, to_bytes
from monitor.whole_file import WRITING, write_whole

if TYPE_CHECKING:
    from monitor.runtime import Scorer

SCHEMA: Literal[1] = 1
FILE = "recipe.json"
REFERENCE = "torch-f32"
"""The calibration that every recipe has, for ways of running that have none of their own."""

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
Roi = tuple[int, int, int, int]
LEAST_SIDE, LARGEST_TILE, LARGEST_SIDE = 32, 2048, 8192
"""Pixels: of all that is seen; of what the network sees at once; of what it sees in tiles."""


class RecipeError(Exception):
    """The recipe can't be used; the message is one line that names the file and the fix."""


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
    """Of its trunk's weights, as `monitor.weights.fingerprint` counts it, whatever file they lie in."""
    origin: str = ""
    """The name of the file they came from."""
    weights: WeightsFile


class Normalisation(msgspec.Struct, frozen=True, kw_only=True):
    mean: tuple[float, float, float] = MEAN
    deviation: tuple[float, float, float] = DEVIATION


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """A threshold and the scores of good images that it came from (see `monitor.calibration`)."""

    threshold: Annotated[float, msgspec.Meta(gt=0)]
    overkill: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    """The rate of rejected good parts that was asked for."""
    guaranteed: bool
    """False when there were too few scores for that rate: the threshold is then an estimate."""
    scores: tuple[float, ...]
    added: tuple[float, ...] = ()
    """Scores of good parts that the line had rejected, as a person said (`calibration.with_overkills`)."""


class Quantised(msgspec.Struct, frozen=True, kw_only=True):
    """The pair in 8-bit integers, for OpenVINO (see `monitor.quantising`)."""

    weights: WeightsFile
    """Two arrays of bytes, `graph` and `constants`: OpenVINO's model."""
    agreement: Annotated[float, msgspec.Meta(ge=-1, le=1)]
    """Rank correlation of its scores with float32's, on good images with and without drawn defects."""
    pairs: tuple[Pair, ...] = ()
    """Of each of those images its own score and float32's (`monitor.second_look`)."""
    made_with: str = ""


class Tiles(msgspec.Struct, frozen=True, kw_only=True):
    """How the squashed image is cut for the network (see `monitor.tiling`); in its pixels."""

    rows: int
    columns: int
    overlap: Annotated[int, msgspec.Meta(ge=0)]


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """What the place looks like without a part, so that empty frames pass unscored (`monitor.presence`)."""

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
    """How well drawn defects were told from the select images after each epoch, 0 to 1 (`monitor.trial`). The
    largest one's student was kept, of equals the one with the smallest map; empty when the map chose."""
    seen: tuple[str, ...] = ()
    """The first 16 digits of the sha256 of each file that trained or chose the student: none of them may
    calibrate."""
    curve: str = ""
    """The picture of `losses` and `select_maps`, a file beside `recipe.json`."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """`recipe.json`. Only ever gains fields; fields that are not known are ignored."""

    schema: Literal[1] = SCHEMA
    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]{1,32}$")]
    teacher: TeacherEntry
    student: WeightsFile
    levels: tuple[str, str, str]
    evened: bool = False
    """Whether each channel is divided by its deviation (`monitor.evening`); the student's file holds them."""
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


@dataclass(frozen=True, eq=False)
class Recipe:
    """One version of a recipe, wholly in memory: what was loaded runs, whatever is committed later."""

    folder: Path
    document: Document
    sha: str
    """sha256 (hex) of `recipe.json`: the `recipe_sha` of verdicts."""
    teacher: Weights
    student: Weights
    quantised: Weights | None = None

    @property
    def name(self) -> str:
        return self.document.name

    @property
    def size(self) -> Size:
        """Rows and columns that images are squashed to, and of their anomaly maps."""
        return as_size(self.document.size)

    @property
    def frame(self) -> Size:
        """Of the images that it was trained for, as far as it knows: else its own size."""
        if self.document.presence is not None:
            return self.document.presence.rows, self.document.presence.columns
        return (self.roi[3], self.roi[2]) if self.roi else self.size

    @property
    def grid(self) -> Grid:
        """The tiles in which the network sees an image of `size`; mostly one."""
        return grid_of(self.size, self.document.tiles)

    @property
    def roi(self) -> Roi | None:
        return self.document.roi

    @staticmethod
    def load(path: str | Path) -> Recipe:
        """The version that is committed in a recipe's folder, or in the folder of a `recipe.json`.

        Raises RecipeError when anything is missing, damaged or not what `recipe.json` says it is.
        """
        folder = _folder(Path(path))
        content = _read(folder / FILE)
        while True:
            try:
                return _assemble(folder, content)
            except RecipeError:
                # A newer version may have been committed, and this one's weights removed, meanwhile.
                newer = _read(folder / FILE)
                if newer == content:
                    raise
                content = newer

    def scorer(
        self,
        device: str = "auto",
        runtime: str = "auto",
        precision: str = "auto",
        *,
        alone: AbstractContextManager[object] | None = None,
    ) -> Scorer:
        """The recipe made ready to run on this machine. Raises RecipeError.

        `device` is auto, cpu, cuda or cuda:N; `runtime` auto, torch or openvino (faster, CPU alone);
        `precision` auto, f32, f16 (CUDA alone) or int8 (OpenVINO alone). Call `warm_up()` on it before the
        first image that has a deadline. `alone` is for who scores meanwhile: it is entered while no other
        network of this process may run.
        """
        from monitor.runtime import Scorer

        return Scorer(self, device=device, runtime=runtime, precision=precision, alone=alone)

    def with_calibration(self, calibration: Mapping[str, Calibration]) -> Recipe:
        """The same recipe with other thresholds, not yet committed."""
        document = msgspec.structs.replace(self.document, calibration=dict(calibration))
        return replace(self, document=document, sha="")

    def with_presence(self, presence: Presence | None) -> Recipe:
        """The same recipe with another presence gate, or none, not yet committed."""
        return replace(self, document=msgspec.structs.replace(self.document, presence=presence), sha="")

    def commit(self) -> Recipe:
        """Writes this version and puts it in force; older versions' weights are removed after that.

        A crash at any moment leaves the old version or the new one, whole. Raises RecipeError when the disk
        refuses.
        """
        contents = {
            self.document.teacher.weights.file: to_bytes(self.teacher),
            self.document.student.file: to_bytes(self.student),
        }
        if self.document.quantised and self.quantised is not None:
            contents[self.document.quantised.weights.file] = to_bytes(self.quantised)
        text = msgspec.json.format(msgspec.json.encode(self.document), indent=1) + b"\n"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _locked(self.folder):
                for name, content in contents.items():
                    write_whole(self.folder / name, content)
                write_whole(self.folder / FILE, text)
                for file in self.folder.iterdir():
                    if file.name not in contents and _LEFT_OVER.match(file.name):
                        file.unlink(missing_ok=True)
        except OSError as error:
            raise RecipeError(f"{self.folder}: can't be written: {error.strerror or error}") from None
        return replace(self, sha=hashlib.sha256(text).hexdigest())


_LEFT_OVER = re.compile(rf"(student|teacher|quantised)-[0-9a-f]{{16}}\.safetensors$|{re.escape(WRITING)}")
"""Weights of other versions, and files that a crash left half written."""


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


def check_name(name: str) -> str:
    """The name itself. Raises RecipeError when it is none that a recipe may have."""
    if not re.fullmatch(r"[a-z0-9-]{1,32}", name):
        raise RecipeError(f"{name!r} can't be a recipe's name: use 1 to 32 of a-z, 0-9 and -")
    return name


def weights_file(kind: Literal["teacher", "student", "quantised"], weights: Weights) -> WeightsFile:
    """What `recipe.json` says about weights that `Recipe.commit` is going to write."""
    sha = hashlib.sha256(to_bytes(weights)).hexdigest()
    return WeightsFile(file=f"{kind}-{sha[:16]}.safetensors", sha256=sha)


def _folder(path: Path) -> Path:
    if path.name == FILE and not path.is_dir():
        path = path.parent
    return path.absolute()


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        fix = "train the recipe" if file.name == FILE else "train the recipe again or restore the file"
        raise RecipeError(f"{file}: no such file: {fix}") from None
    except OSError as error:
        raise RecipeError(f"{file}: {error.strerror or error}") from None


def _assemble(folder: Path, content: bytes) -> Recipe:
    file = folder / FILE
    try:
        document = msgspec.json.decode(content, type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecipeError(f"{file}: not a recipe ({error}): train it again or restore the file") from None
    _check(file, document)
    teacher = _load_weights(folder, document.teacher.weights)
    if fingerprint(teacher) != document.teacher.sha256:
        raise RecipeError(
            f"{folder / document.teacher.weights.file}: not the teacher this recipe was trained with "
            f"({document.teacher.name}, sha256 {document.teacher.sha256[:16]}...): train the recipe again"
        )
    student = _load_weights(folder, document.student)
    quantised = _load_weights(folder, document.quantised.weights) if document.quantised else None
    return Recipe(folder, document, hashlib.sha256(content).hexdigest(), teacher, student, quantised)


def _check(file: Path, document: Document) -> None:
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


def _load_weights(folder: Path, entry: WeightsFile) -> Weights:
    file = folder / entry.file
    content = _read(file)
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise RecipeError(
            f"{file}: damaged, its sha256 is not the one in {FILE}: "
            "train the recipe again or restore the file"
        )
    try:
        weights = from_bytes(content)
    except WeightsError as error:
        raise RecipeError(f"{file}: {error}: train the recipe again") from None
    # A network may make an ordinary number of one that is none: OpenVINO's rectifier gives 0.
    if not all(np.isfinite(array).all() for array in weights.values() if array.dtype.kind == "f"):
        raise RecipeError(f"{file}: holds values that are not finite: train the recipe again")
    return weights


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One commit at a time: another one's clearing up would take the weights this one just wrote."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
