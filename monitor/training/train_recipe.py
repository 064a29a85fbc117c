"""Training a recipe: a student learns to see good images as its teacher does (the paper's section 3.2).

SGD with rate 0.4, momentum 0.9 and weight decay 1e-4 on batches of 32, as in the official code. As in the
paper, the student with the lowest mean anomaly map on images it did not learn from is kept; by default the
one that tells defects drawn on them best from the images as they are. The images are split 70 / 10 / 20:
to train, to select that student, and to calibrate the threshold, since a threshold from images that chose the
student is not honest.

The same images, seed and machine give the same recipe. Must never look at a defective image, and never
commit a recipe whose loss went astray.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import torch

from drivers import image_file
from drivers.image_file import Image, ImageError
from monitor.images import preprocessing
from monitor.images.preprocessing import RESIZE, TILED_RESIZE, Pictures, Size, as_size
from monitor.images.tiling import Grid, shown
from monitor.inference.backends import AGREES, can_quantise, choose_device
from monitor.inference.presence import explain as explain_gate
from monitor.model.channel_scaling import channel_deviations, with_deviations
from monitor.model.recipe_document import (
    Document,
    RecipeError,
    Roi,
    TeacherEntry,
    Tiles,
    Training,
    grid_of,
    unusable,
)
from monitor.model.recipe_version import RecipeVersion, weights_file
from monitor.names import check_name
from monitor.system.atomic_file import write_whole
from monitor.system.memory import installed
from monitor.system.progress import SILENT, Progress
from monitor.teachers.architectures import LEVELS, find, trunk_weights
from monitor.training import advice, plot, presence_training, readable_images
from monitor.training.calibration import NO_RATE, calibrate, content_mark, explained, is_rate
from monitor.training.checkpoint import Checkpoint
from monitor.training.loop import AstrayError, Fitted, TrainingError, batch_size, fit

__all__ = ["Examples", "Split", "TrainingError", "split", "train_recipe"]

CURVE = "training.png"
"""The picture of how the training went, beside `recipe.json`."""
FEWEST = 3
EPOCHS = 100
_PICTURE_BYTES = 2 << 30
"""Pictures are kept up to this (10,000 at 256x256) and up to a quarter of the machine's memory; the rest are
read anew in every epoch."""


@dataclass(frozen=True)
class Split:
    """Indices of images by what they are for; no image is for two things, except as the paper has it."""

    train: tuple[int, ...]
    select: tuple[int, ...]
    calibrate: tuple[int, ...]


class Examples:
    """The usable images of a folder, squashed to the recipe's size, by index."""

    def __init__(self, size: Size, room: int) -> None:
        """Of the pictures as many are kept as fit into `room` bytes."""
        self.files: list[Path] = []
        self.shapes: list[tuple[int, ...]] = []
        """Of the images themselves."""
        self.marks: list[str] = []
        self._size = size
        self._kept: dict[int, Image] = {}
        self._bytes = 0
        self._room = room

    def __len__(self) -> int:
        return len(self.files)

    def add(self, file: Path, content: bytes, image: Image) -> None:
        """`image` is what is in `content`, uint8 (H, W, 3) BGR or (H, W) mono."""
        picture = preprocessing.squashed(image, self._size)
        if self._bytes + picture.nbytes <= self._room:
            self._kept[len(self.files)] = picture
            self._bytes += picture.nbytes
        self.files.append(file)
        self.shapes.append(image.shape)
        self.marks.append(content_mark(content))

    def __getitem__(self, index: int, /) -> Image:
        """Raises TrainingError when the file, read before, can't be read any more."""
        if index in self._kept:
            return self._kept[index]
        try:
            return preprocessing.squashed(image_file.read(self.files[index]), self._size)
        except ImageError as error:
            raise TrainingError(f"{self.files[index]}: {error}, while it was trained on") from None


class TilesOf:
    """Every tile of every picture, by index: those of a picture stand next to each other."""

    def __init__(self, pictures: Pictures, grid: Grid) -> None:
        self._pictures, self._grid = pictures, grid

    def __getitem__(self, index: int, /) -> Image:
        picture, tile = divmod(index, len(self._grid))
        return self._grid.cut(self._pictures[picture], tile)

    def indices(self, pictures: Sequence[int], seed: int) -> tuple[int, ...]:
        """Of all tiles of these pictures: in the pictures' order where each is one tile, else mixed, so that
        the first few are not all of one picture."""
        count = len(self._grid)
        if count == 1:
            return tuple(pictures)
        together = [picture * count + tile for picture in pictures for tile in range(count)]
        return tuple(int(i) for i in np.random.default_rng(seed).permutation(together))


def split(count: int, seed: int, *, as_paper: bool) -> Split:
    """70 / 10 / 20 at random, each at least one; as in the paper: 80 / 20, and the 20 calibrate too.

    Raises TrainingError for fewer than 3 images.
    """
    if count < FEWEST:
        raise TrainingError(f"{count} usable images: at least {FEWEST} good images are needed, better 100")
    order = tuple(int(i) for i in np.random.default_rng(seed).permutation(count))
    if as_paper:
        # Rounded up like sklearn's train_test_split, which the authors' code calls.
        fifth = math.ceil(round(0.2 * count, 9))
        return Split(train=order[fifth:], select=order[:fifth], calibrate=order[:fifth])
    fifth, tenth = max(1, round(0.2 * count)), max(1, round(0.1 * count))
    return Split(order[fifth + tenth :], order[fifth : fifth + tenth], order[:fifth])


def train_recipe(
    *,
    name: str,
    recipes: Path,
    images: Path,
    empty: Path | None = None,
    teacher: str | None,
    teacher_weights: Path | None,
    teachers: Path,
    size: int | Size = 256,
    tiles: Tiles | None = None,
    epochs: int = EPOCHS,
    overkill: float = 0.01,
    seed: int = 0,
    device: str = "auto",
    as_paper: bool = False,
    int8: bool = False,
    roi: Roi | None = None,
    say: Callable[[str], None],
    progress: Progress = SILENT,
    clock: Callable[[], float] = time.monotonic,
) -> RecipeVersion:
    """Trains, calibrates and commits `recipes`/`name` from the good images in a folder, at any depth.

    `teacher`, `teacher_weights` and the folder `teachers` are as in `monitor.teachers.architectures.find`;
    `int8` adds a
    model in 8-bit integers; `roi` is only recorded, for images that were cut to it when they were collected;
    `empty` is a folder of pictures without a part, for a presence gate. Raises TrainingError, and what the
    gate (PresenceError), finding the teacher (TeacherError), calibrating (CalibrationError) and writing
    (RecipeError) raise.

    A run that was killed goes on where it was saved last when it is started again with the same images and
    settings, and ends with the same recipe as if nothing had happened.
    """
    check_name(name)
    if problem := unusable(as_size(size), tiles):
        raise TrainingError(problem)
    if epochs < 1:
        raise TrainingError(f"epochs must be at least 1, not {epochs}")
    if not is_rate(overkill):
        raise TrainingError(NO_RATE.format(overkill))
    if int8 and not can_quantise():
        raise TrainingError(
            'int8 needs OpenVINO and NNCF: pip install "line-monitor[openvino]", or leave --int8 out'
        )
    began = clock()

    def aside(line: str) -> None:
        progress.make_room()
        say(line)

    def watch(losses: Sequence[float], select_maps: Sequence[float]) -> None:
        if len(losses) == advice.EARLY < epochs:
            aside(advice.early_word(select_maps))

    grid = grid_of(as_size(size), tiles)
    where = choose_device(device)
    files = _files(images)
    _check_writable(recipes)
    if (recipes / name / "recipe.json").exists():
        say(f"recipe {name} is there already: it is replaced when the new one is whole")
        if empty is None and _has_gate(recipes / name):
            say("warning: it has a presence gate, the new one will have none: give --empty to keep one")
    # Before the images are read: of ten thousand, that takes minutes.
    gate = None
    if empty is not None:
        gate = presence_training.learned(
            empty, lambda image: preprocessing.squashed(image, grid.size), say=say, progress=progress
        )
    found = find(teacher, weights=teacher_weights, folder=teachers, say=say)
    examples, skipped = _examples(images, files, grid, say, progress)
    if gate is not None:
        pictures = (
            (file, examples.shapes[place], examples[place]) for place, file in enumerate(examples.files)
        )
        gate = presence_training.beside_parts(gate, pictures, "train without --empty")
        say(explain_gate(gate))
    parts = split(len(examples), seed, as_paper=as_paper)
    say(
        f"{len(examples)} images: {len(parts.train)} to train, {len(parts.select)} to select, "
        f"{len(parts.calibrate)} to calibrate"
        + (" (the same as select, as in the paper: the threshold is too low)" if as_paper else "")
    )
    seen = TilesOf(examples, grid)
    train, select = (seen.indices(part, seed) for part in (parts.train, parts.select))
    if len(grid) > 1:
        say(f"each is seen in {len(grid)} tiles of {shown(grid.tile)}")
    deviations = None if as_paper else channel_deviations(found.trunk, seen, train, where)
    batch = batch_size(len(train), as_paper=as_paper)
    run = {
        "images": hashlib.sha256(" ".join(examples.marks).encode()).hexdigest(),
        "teacher": f"{found.architecture} {found.sha256}",
        "size": f"{shown(grid.size)} in tiles of {shown(grid.tile)} at {grid.places}, {RESIZE}",
        "epochs": str(epochs),
        "seed": str(seed),
        "mode": "as in the paper" if as_paper else "chosen by drawn defects",
        "batch": str(batch),
        "device": _machine(where),
        "libraries": f"torch {torch.__version__}, numpy {np.__version__}, opencv {cv2.__version__}",
    }
    checkpoint = Checkpoint(recipes.absolute() / f".training-{name}", run, say=aside, clock=clock)
    try:
        fitted = fit(
            found.trunk,
            found.architecture,
            seen,
            train,
            select,
            epochs=epochs,
            seed=seed,
            device=where,
            progress=progress,
            batch=batch,
            as_paper=as_paper,
            deviations=deviations,
            checkpoint=checkpoint,
            watch=watch,
        )
    except AstrayError:
        checkpoint.remove()
        raise
    taught = trunk_weights(found.trunk)
    student = fitted.student if deviations is None else with_deviations(fitted.student, deviations)
    document = Document(
        name=name,
        teacher=TeacherEntry(
            name=found.name,
            architecture=found.architecture,
            sha256=found.sha256,
            origin=found.origin,
            weights=weights_file("teacher", taught),
        ),
        student=weights_file("student", student),
        levels=LEVELS[found.architecture],
        evened=deviations is not None,
        size=grid.size[0] if grid.size[0] == grid.size[1] else grid.size,
        tiles=tiles,
        resize=RESIZE if tiles is None else TILED_RESIZE,
        roi=roi,
        training=Training(
            utc=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            images=len(examples),
            train=len(parts.train),
            select=len(parts.select),
            calibrate=len(parts.calibrate),
            skipped=skipped,
            epochs=epochs,
            best_epoch=fitted.best_epoch,
            seed=seed,
            as_paper=as_paper,
            optimiser=fitted.optimiser,
            device=str(where),
            torch=str(torch.__version__),
            seconds=round(clock() - began, 1),
            losses=fitted.losses,
            select_maps=fitted.select_maps,
            told_apart=fitted.told_apart,
            curve=CURVE,
            seen=tuple(sorted(examples.marks[i] for i in (*parts.train, *parts.select))),
        ),
        presence=gate,
    )
    draft = RecipeVersion(recipes.absolute() / name, document, "", taught, student)
    if int8:
        draft = _with_int8(draft, seen, train, select, seed, aside)
    held_out = [examples.files[i] for i in sorted(parts.calibrate)]
    recipe = calibrate(
        draft,
        held_out,
        overkill=overkill,
        device=str(where),
        say=say,
        progress=progress,
        chose=as_paper,
    ).commit()
    checkpoint.remove()
    _save_curve(recipe.folder / CURVE, fitted, f"{name}: {len(examples)} images, {fitted.optimiser}", say)
    if warning := advice.closing_word(fitted.select_maps, fitted.best_epoch, len(parts.select)):
        say(warning)
    quantised = recipe.document.quantised
    for line in explained(recipe.document.calibration, quantised.pairs if quantised else ()):
        say(line)
    say(f"recipe {name}: {recipe.sha[:12]} in {recipe.folder}")
    return recipe


def _has_gate(recipe: Path) -> bool:
    """False for one that can't be used any more."""
    try:
        return RecipeVersion.load(recipe).document.presence is not None
    except RecipeError:
        return False


def _with_int8(
    draft: RecipeVersion,
    pictures: Pictures,
    train: Sequence[int],
    select: Sequence[int],
    seed: int,
    say: Callable[[str], None],
) -> RecipeVersion:
    from monitor.training.quantisation import quantised

    found = quantised(draft, pictures, train, select, seed)
    assert found.document.quantised is not None
    agreement = found.document.quantised.agreement
    fix = "" if agreement >= AGREES else f': under {AGREES}: better not set precision = "int8"'
    say(f"int8: its scores agree with float32's to {agreement:.3f} in rank{fix}")
    return found


def _save_curve(file: Path, fitted: Fitted, title: str, say: Callable[[str], None]) -> None:
    """The recipe is committed by now: a picture that can't be written is worth a line, not a failure."""
    picture = plot.draw(fitted.losses, fitted.select_maps, fitted.told_apart, fitted.best_epoch, title)
    try:
        write_whole(file, cv2.imencode(".png", picture)[1].tobytes())
    except OSError as error:
        say(f"warning: {file}: can't be written ({error.strerror or error})")


def _machine(device: torch.device) -> str:
    """What decides the last bits of a result: sums are added up by each thread and processor in its way."""
    if device.type == "cuda":
        return f"{device} {torch.cuda.get_device_name(device)}"
    return f"{device} {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


def _check_writable(recipes: Path) -> None:
    """Before hours are spent. Raises TrainingError."""
    try:
        recipes.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=recipes):
            pass
    except OSError as error:
        why = error.strerror or error
        raise TrainingError(f"{recipes}: recipes can't be written there ({why}); see line.data") from None


def _files(folder: Path) -> list[Path]:
    """What may be images, by name. Raises TrainingError when there are none."""
    try:
        files = image_file.find(folder)
    except ImageError as error:
        raise TrainingError(f"{folder}: {error}") from None
    if not files:
        kinds = " ".join(sorted(suffix[1:] for suffix in image_file.SUFFIXES))
        raise TrainingError(f"{folder}: no images there ({kinds}, at any depth)")
    return files


def _examples(
    folder: Path, files: Sequence[Path], grid: Grid, say: Callable[[str], None], progress: Progress
) -> tuple[Examples, int]:
    """The usable images and the number of the others. Raises TrainingError when there are none."""
    # A picture that is read anew for each of its tiles costs more than its training.
    room = installed() // 4
    examples = Examples(grid.size, room if len(grid) > 1 else min(_PICTURE_BYTES, room))
    # A copy could train the student and then vouch for its threshold.
    seen, copies = set[str](), 0
    unusable: list[str] = []  # said when the bar is done: both are one line of the terminal
    for done, file in enumerate(files, start=1):
        for _, content, image in readable_images.readable([file], unusable.append):
            if content_mark(content) in seen:
                copies += 1
                continue
            seen.add(content_mark(content))
            examples.add(file, content, image)
        progress.update("read", done, len(files))
    for line in unusable:
        say(line)
    if not len(examples):
        raise TrainingError(f"{folder}: none of the {len(files)} images there can be read")
    if copies:
        say(f"left out: {copies} images that are copies of others")
    return examples, len(unusable)
