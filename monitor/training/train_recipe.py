"""Training of a recipe: the student learns the teacher's features of good images (the paper's section 3.2).

It knows nothing of live frames or cameras. Every image of `TrainingRequest.images` shows a good part, every
image of `empty` shows no part, and no image of a defective part may ever be used. A recipe whose loss
diverged is never committed.

The optimiser is the official code's SGD with rate 0.4, momentum 0.9 and weight decay 1e-4, or AdamW for a
student without batch normalisation, in batches of up to 32. By default the rate falls over a number of steps
that is fixed beforehand (`monitor.training.learning_rate`). The images are split into 70 % that train the
student, 10 % that select the student of one epoch, and 20 % that calibrate the threshold, because a threshold
from images that selected the student would be too low. The paper selects the student with the lowest mean
anomaly map; by default it is the one that best separates good images with drawn defects
(`monitor.training.synthetic_defects`) from the same images without.

The same images, settings and seed give the same student and threshold on the same kind of machine, with the
same number of threads and the same versions of the libraries, if MKL_CBWR is set before torch is loaded
(`monitor.cli`). Two such recipes still differ in their records of the time and of the training's duration.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import torch

from monitor.images import preprocessing
from monitor.images.preprocessing import RESIZE, TILED_RESIZE, Size, as_size
from monitor.images.tiling import Grid, format_size
from monitor.inference.backends import MIN_INT8_CORRELATION, can_quantise, choose_device
from monitor.inference.presence import describe_gate
from monitor.model.channel_scaling import add_deviations, channel_deviations
from monitor.model.recipe_json import (
    Document,
    Presence,
    RecipeError,
    Roi,
    TeacherEntry,
    Tiles,
    Training,
    make_grid,
    size_problem,
)
from monitor.model.recipe_version import RecipeVersion, weights_file
from monitor.names import check_name
from monitor.pyramid import Features
from monitor.system.atomic_file import write_whole
from monitor.system.progress import SILENT, Progress
from monitor.teachers.architectures import LEVELS, Teacher, find_teacher, trunk_weights
from monitor.training import advice, plot, presence_training
from monitor.training.calibrate_recipe import set_thresholds
from monitor.training.checkpoint import Checkpoint
from monitor.training.examples import (
    Examples,
    Split,
    TilePictures,
    find_training_files,
    read_examples,
    split_images,
)
from monitor.training.learning_rate import choose_epochs, describe_rate
from monitor.training.loop import (
    DivergedError,
    FitSettings,
    TrainedStudent,
    TrainingError,
    batch_size,
    fit,
    steps_an_epoch,
)
from monitor.training.student_precision import StudentPrecision, choose_precision
from monitor.training.thresholds import OVERKILL_OUT_OF_RANGE, explain_all, is_rate

__all__ = ["TrainingError", "TrainingRequest", "train_recipe"]

CURVE = "training.png"
"""The plot of the training's course, a file beside `recipe.json`."""

Say = Callable[[str], None]
"""Prints a line for a person."""


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """What to train, from what, and how."""

    name: str
    """The recipe's name."""
    recipes: Path
    """The folder of all recipes; the recipe is committed to `recipes`/`name`."""
    images: Path
    """The folder of good images, at any depth."""
    empty: Path | None = None
    """A folder of images of the empty place, without a part, for a presence gate."""
    teacher: str | None
    """The teacher's name, as in `monitor.teachers.architectures.find_teacher`."""
    teacher_weights: Path | None
    """A file with the teacher's weights."""
    teachers: Path
    """The folder with files of teachers' weights."""
    size: int | Size = 256
    """The size to which images are resized."""
    tiles: Tiles | None = None
    """The tiles into which resized images are cut."""
    epochs: int | None = None
    """None: as many as are usual for the mode and the number of images (`monitor.training.learning_rate`)."""
    overkill: float = 0.01
    """The share of good parts that may be rejected."""
    seed: int = 0
    device: str = "auto"
    as_paper: bool = False
    """The paper's split, batches of 32, optimiser and selection of the student, and no channel scaling."""
    int8: bool = False
    """Adds a model in 8-bit integers."""
    roi: Roi | None = None
    """The region of interest, which is only recorded: the images were cut to it when they were collected."""

    @property
    def grid(self) -> Grid:
        """The tiles of a resized image; one tile is the whole image."""
        return make_grid(as_size(self.size), self.tiles)


def train_recipe(
    request: TrainingRequest,
    *,
    say: Say,
    progress: Progress = SILENT,
    clock: Callable[[], float] = time.monotonic,
) -> RecipeVersion:
    """Trains, calibrates and commits the recipe.

    A run that was killed continues where it was saved last when it is started again with the same images and
    settings, and it ends with the same student and threshold as an uninterrupted run.

    Raises TrainingError, and the errors of the recipe's name (InvalidNameError), the presence gate
    (PresenceError), the teacher (TeacherError), the calibration (CalibrationError) and the device and the
    recipe's files (RecipeError).
    """
    _check(request)
    began = clock()

    def say_beside_bar(line: str) -> None:
        progress.make_room()
        say(line)

    inputs = _prepare(request, say, progress)
    checkpoint = Checkpoint(
        request.recipes.absolute() / f".training-{request.name}",
        _fingerprint(request, inputs),
        say=say_beside_bar,
        clock=clock,
    )
    fitted = _fit(request, inputs, checkpoint, say_beside_bar, progress)
    draft = _draft(request, inputs, fitted, seconds=round(clock() - began, 1))
    if request.int8:
        draft = _with_int8(draft, inputs, request.seed, say_beside_bar)
    recipe = set_thresholds(
        draft,
        [inputs.examples.files[i] for i in sorted(inputs.by_use.calibrate)],
        overkill=request.overkill,
        device=str(inputs.device),
        say=say,
        progress=progress,
        selected_student=request.as_paper,
    ).commit()
    checkpoint.remove()
    title = f"{request.name}: {len(inputs.examples)} images, {fitted.optimiser}"
    _save_curve(recipe.folder / CURVE, fitted, title, say)
    _report(recipe, fitted, selecting=len(inputs.by_use.select), say=say)
    return recipe


def _check(request: TrainingRequest) -> None:
    """Raises InvalidNameError or TrainingError for a request that can't be trained."""
    check_name(request.name)
    if problem := size_problem(as_size(request.size), request.tiles):
        raise TrainingError(problem)
    if request.epochs is not None and request.epochs < 1:
        raise TrainingError(f"epochs must be at least 1, not {request.epochs}")
    if not is_rate(request.overkill):
        raise TrainingError(OVERKILL_OUT_OF_RANGE.format(request.overkill))
    if request.int8 and not can_quantise():
        raise TrainingError(
            'int8 needs OpenVINO and NNCF: pip install "line-monitor[openvino]", or leave --int8 out'
        )


@dataclass(frozen=True)
class _Inputs:
    """What `_prepare` makes of a request: the input of the training loop and of the recipe's document."""

    device: torch.device
    teacher: Teacher
    examples: Examples
    gate: Presence | None
    by_use: Split
    pictures: TilePictures
    """The tiles of the examples."""
    train: Sequence[int]
    """The indices of the tiles that train."""
    select: Sequence[int]
    """The indices of the tiles that select the student."""
    deviations: Features | None
    """The teacher's channel deviations, which divide teacher and student; None in the paper's mode."""
    batch: int
    epochs: int
    precision: StudentPrecision


def _prepare(request: TrainingRequest, say: Say, progress: Progress) -> _Inputs:
    """Reads the images, learns the presence gate and finds the teacher.

    Checks that take little time come before the good images are read: reading ten thousand of them takes
    minutes.
    """
    grid = request.grid
    device = choose_device(request.device)
    files = find_training_files(request.images)
    _check_writable(request.recipes)
    _report_replacement(request, say)
    gate = _learn_gate(request, say, progress)
    teacher = find_teacher(request.teacher, weights=request.teacher_weights, folder=request.teachers, say=say)
    examples = read_examples(request.images, files, grid, say=say, progress=progress)
    if gate is not None:
        parts = ((file, examples.shapes[i], examples[i]) for i, file in enumerate(examples.files))
        gate = presence_training.compare_with_parts(gate, parts, "train without --empty")
        say(describe_gate(gate))
    by_use = split_images(len(examples), request.seed, as_paper=request.as_paper)
    say(
        f"{len(examples)} images: {len(by_use.train)} to train, {len(by_use.select)} to select, "
        f"{len(by_use.calibrate)} to calibrate"
        + (" (the same as select, as in the paper: the threshold is too low)" if request.as_paper else "")
    )
    pictures = TilePictures(examples, grid)
    train, select = (pictures.indices(images, request.seed) for images in (by_use.train, by_use.select))
    if len(grid) > 1:
        say(f"each is cut into {len(grid)} tiles of {format_size(grid.tile)}")
    batch = batch_size(len(train), as_paper=request.as_paper)
    usual_epochs = choose_epochs(steps_an_epoch(len(train), batch), as_paper=request.as_paper)
    return _Inputs(
        device=device,
        teacher=teacher,
        examples=examples,
        gate=gate,
        by_use=by_use,
        pictures=pictures,
        train=train,
        select=select,
        deviations=None if request.as_paper else channel_deviations(teacher.trunk, pictures, train, device),
        batch=batch,
        epochs=request.epochs or usual_epochs,
        precision=choose_precision(device, as_paper=request.as_paper),
    )


def _check_writable(recipes: Path) -> None:
    """Raises TrainingError if no file can be written to the folder, before hours of training are spent."""
    try:
        recipes.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=recipes):
            pass
    except OSError as error:
        why = error.strerror or error
        raise TrainingError(f"{recipes}: recipes can't be written there ({why}); see line.data") from None


def _report_replacement(request: TrainingRequest, say: Say) -> None:
    folder = request.recipes / request.name
    if (folder / "recipe.json").exists():
        say(f"recipe {request.name} is there already: it is replaced when the new one is complete")
        if request.empty is None and _has_gate(folder):
            say("warning: it has a presence gate, the new one will have none: give --empty to keep one")


def _has_gate(recipe: Path) -> bool:
    """False for a recipe that can't be used any more."""
    try:
        return RecipeVersion.load(recipe).document.presence is not None
    except RecipeError:
        return False


def _learn_gate(request: TrainingRequest, say: Say, progress: Progress) -> Presence | None:
    if request.empty is None:
        return None
    size = request.grid.size
    return presence_training.learn_gate(
        request.empty, lambda image: preprocessing.resize_image(image, size), say=say, progress=progress
    )


def _fingerprint(request: TrainingRequest, inputs: _Inputs) -> dict[str, str]:
    """Everything that decides the student, to the bit. A checkpoint is used only if all of it is the same."""
    grid, teacher = request.grid, inputs.teacher
    return {
        "images": hashlib.sha256(" ".join(inputs.examples.marks).encode()).hexdigest(),
        "teacher": f"{teacher.architecture} {teacher.sha256}",
        "size": f"{format_size(grid.size)} in tiles of {format_size(grid.tile)} at {grid.places}, {RESIZE}",
        "epochs": str(inputs.epochs),
        "learning rate": describe_rate(as_paper=request.as_paper),
        "precision": str(inputs.precision),
        "seed": str(request.seed),
        "mode": "as in the paper" if request.as_paper else "chosen by drawn defects",
        "batch": str(inputs.batch),
        "device": _machine(inputs.device),
        "libraries": f"torch {torch.__version__}, numpy {np.__version__}, opencv {cv2.__version__}",
    }


def _machine(device: torch.device) -> str:
    """What decides the last bits of a sum: on a CUDA device the GPU's name, on a CPU the processor's
    instructions and the number of threads."""
    if device.type == "cuda":
        return f"{device} {torch.cuda.get_device_name(device)}"
    return f"{device} {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


def _fit(
    request: TrainingRequest, inputs: _Inputs, checkpoint: Checkpoint, say: Say, progress: Progress
) -> TrainedStudent:
    """Runs the training loop. If it diverges, its checkpoint is removed: a resumed run would diverge too."""

    def advise_early(losses: Sequence[float], select_maps: Sequence[float]) -> None:
        if len(losses) == advice.EARLY < inputs.epochs:
            say(advice.early_advice(select_maps))

    settings = FitSettings(
        architecture=inputs.teacher.architecture,
        epochs=inputs.epochs,
        seed=request.seed,
        device=inputs.device,
        batch=inputs.batch,
        as_paper=request.as_paper,
        deviations=inputs.deviations,
        precision=inputs.precision,
    )
    try:
        return fit(
            inputs.teacher.trunk,
            inputs.pictures,
            inputs.train,
            inputs.select,
            settings,
            progress=progress,
            checkpoint=checkpoint,
            on_epoch_end=advise_early,
        )
    except DivergedError:
        checkpoint.remove()
        raise


def _draft(
    request: TrainingRequest, inputs: _Inputs, fitted: TrainedStudent, seconds: float
) -> RecipeVersion:
    """The recipe with its student, without a threshold, not yet committed."""
    teacher, deviations = inputs.teacher, inputs.deviations
    size = request.grid.size
    teacher_arrays = trunk_weights(teacher.trunk)
    student_arrays = fitted.student if deviations is None else add_deviations(fitted.student, deviations)
    document = Document(
        name=request.name,
        teacher=TeacherEntry(
            name=teacher.name,
            architecture=teacher.architecture,
            sha256=teacher.sha256,
            origin=teacher.origin,
            weights=weights_file("teacher", teacher_arrays),
        ),
        student=weights_file("student", student_arrays),
        levels=LEVELS[teacher.architecture],
        evened=deviations is not None,
        size=size[0] if size[0] == size[1] else size,
        tiles=request.tiles,
        resize=RESIZE if request.tiles is None else TILED_RESIZE,
        roi=request.roi,
        training=_training_entry(request, inputs, fitted, seconds),
        presence=inputs.gate,
    )
    folder = request.recipes.absolute() / request.name
    return RecipeVersion(folder, document, "", teacher_arrays, student_arrays)


def _training_entry(
    request: TrainingRequest, inputs: _Inputs, fitted: TrainedStudent, seconds: float
) -> Training:
    """The record of the training in the recipe's document."""
    examples, by_use = inputs.examples, inputs.by_use
    return Training(
        utc=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        images=len(examples),
        train=len(by_use.train),
        select=len(by_use.select),
        calibrate=len(by_use.calibrate),
        skipped=examples.skipped,
        epochs=inputs.epochs,
        best_epoch=fitted.best_epoch,
        seed=request.seed,
        as_paper=request.as_paper,
        optimiser=fitted.optimiser,
        learning_rate=describe_rate(as_paper=request.as_paper),
        precision=str(inputs.precision),
        device=str(inputs.device),
        torch=str(torch.__version__),
        seconds=seconds,
        losses=fitted.losses,
        select_maps=fitted.select_maps,
        told_apart=fitted.told_apart,
        curve=CURVE,
        seen=tuple(sorted(examples.marks[i] for i in (*by_use.train, *by_use.select))),
    )


def _with_int8(draft: RecipeVersion, inputs: _Inputs, seed: int, say: Say) -> RecipeVersion:
    # Imported here, because OpenVINO and NNCF are optional.
    from monitor.training.quantisation import quantise_recipe

    found = quantise_recipe(draft, inputs.pictures, inputs.train, inputs.select, seed)
    assert found.document.quantised is not None
    agreement = found.document.quantised.agreement
    fix = ""
    if agreement < MIN_INT8_CORRELATION:
        fix = f' (below {MIN_INT8_CORRELATION}: better not set precision = "int8")'
    say(f"int8: the rank correlation of its scores with float32's scores is {agreement:.3f}{fix}")
    return found


def _save_curve(file: Path, fitted: TrainedStudent, title: str, say: Say) -> None:
    """Writes the plot. The recipe is committed already, so a plot that can't be written is only a warning."""
    picture = plot.draw_course(fitted.losses, fitted.select_maps, fitted.told_apart, fitted.best_epoch, title)
    try:
        write_whole(file, cv2.imencode(".png", picture)[1].tobytes())
    except OSError as error:
        say(f"warning: {file}: can't be written ({error.strerror or error})")


def _report(recipe: RecipeVersion, fitted: TrainedStudent, *, selecting: int, say: Say) -> None:
    if warning := advice.closing_advice(fitted.select_maps, fitted.best_epoch, selecting):
        say(warning)
    document = recipe.document
    for line in explain_all(document.calibration, document.quantised.pairs if document.quantised else ()):
        say(line)
    say(f"recipe {recipe.name}: {recipe.sha[:12]} in {recipe.folder}")
