"""What a training starts from: the good images with their uses, the teacher and the presence gate.

It knows nothing of the training loop or of thresholds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from monitor.images import preprocessing
from monitor.images.preprocessing import as_size
from monitor.images.tiling import format_size
from monitor.inference.backends import can_quantise, choose_device
from monitor.inference.presence import describe_gate
from monitor.inference.torch_network import disable_tf32
from monitor.model.channel_scaling import channel_deviations
from monitor.model.recipe_json import (
    LeftOutImage,
    Presence,
    RecipeError,
    size_problem,
)
from monitor.model.recipe_version import RecipeVersion
from monitor.names import check_name
from monitor.pyramid import Features
from monitor.system.progress import Progress
from monitor.teachers.architectures import (
    DEFAULT,
    Teacher,
    architecture_of,
    find_teacher,
)
from monitor.teachers.lite_trunk import load_lite_teacher
from monitor.training import presence_training
from monitor.training.automatic_size import find_size
from monitor.training.examples import (
    Examples,
    Split,
    TilePictures,
    find_training_files,
    read_examples,
    split_images,
)
from monitor.training.known_defects import find_defects, list_defects
from monitor.training.learning_rate import choose_epochs
from monitor.training.left_out_images import count_good, explain_left_out, leave_images_out
from monitor.training.loop import (
    TrainingError,
    batch_size,
    steps_an_epoch,
)
from monitor.training.memory_training import MemoryTeacher
from monitor.training.parts import explain_parts, find_named_parts, find_parts, name_below
from monitor.training.student_precision import StudentPrecision, choose_precision
from monitor.training.thresholds import OVERKILL_OUT_OF_RANGE, is_rate
from monitor.training.training_request import Say, TrainingRequest


def check_request(request: TrainingRequest) -> None:
    """Raises an error for a request that can't be trained, before any image is read.

    The errors are InvalidNameError, TrainingError, PartsError and DefectsError.
    """
    check_name(request.name)
    if not request.automatic_size and (problem := size_problem(as_size(request.size), request.tiles)):
        raise TrainingError(problem)
    if request.epochs is not None and request.epochs < 1:
        raise TrainingError(f"epochs must be at least 1, not {request.epochs}")
    if not is_rate(request.overkill):
        raise TrainingError(OVERKILL_OUT_OF_RANGE.format(request.overkill))
    if request.as_paper and request.compare.has_memory:
        raise TrainingError(
            "the paper's mode has a student alone: use --compare student, or leave --as-paper out"
        )
    if request.int8 and not request.compare.has_student:
        raise TrainingError(
            "int8 needs a student: leave --int8 out, or use --compare both or --compare student"
        )
    if request.int8 and not can_quantise():
        raise TrainingError(
            'int8 needs OpenVINO and NNCF: pip install "line-monitor[openvino]", or leave --int8 out'
        )
    if request.part_of is not None:
        files = find_training_files(request.images)
        find_named_parts(name_below(request.images, files), request.part_of)
    if request.defects is not None:
        list_defects(request.defects)


def find_request_size(request: TrainingRequest, say: Say) -> TrainingRequest:
    """The request with the size that it asks for. Raises TrainingError and TeacherError."""
    if request.automatic_size is None:
        return request
    found = find_size(
        find_training_files(request.images),
        request.recipes / request.name,
        request.automatic_size,
        architecture=architecture_of(request.teacher or DEFAULT),
        tiles=request.tiles,
        say=say,
    )
    if found is None:
        return request
    chosen, wish = found
    return replace(request, size=chosen.size, tiles=chosen.tiles, automatic_size=wish)


@dataclass(frozen=True)
class TrainingInputs:
    """What `prepare_inputs` makes of a request: the input of the training loop and of the document."""

    device: torch.device
    teacher: Teacher
    examples: Examples
    gate: Presence | None
    left_out: Sequence[LeftOutImage]
    defects: Sequence[Path]
    """Images of known bad parts."""
    parts: Sequence[int]
    """By image, the number of the part that it shows."""
    by_use: Split
    pictures: TilePictures
    """The tiles of the examples."""
    train: Sequence[int]
    """The indices of the tiles that train."""
    select: Sequence[int]
    """The indices of the tiles that select the student and fix the units."""
    deviations: Features | None
    """The teacher's channel deviations, which divide teacher and student; None in the paper's mode."""
    memory_teacher: MemoryTeacher | None
    """What a memory compares beside the teacher; None without a memory."""
    batch: int
    epochs: int
    precision: StudentPrecision


def prepare_inputs(request: TrainingRequest, say: Say, progress: Progress) -> TrainingInputs:
    """Reads the images, learns the presence gate and finds the teacher.

    Checks that take little time come before the good images are read: reading ten thousand of them takes
    minutes.
    """
    grid = request.grid
    device = choose_device(request.device)
    disable_tf32(device)
    files, left_out = leave_images_out(
        find_training_files(request.images), request.leave_out, request.bad_by, request.bad_reason
    )
    _check_writable(request.recipes)
    _report_replacement(request, say)
    gate = _learn_gate(request, say, progress)
    teacher = find_teacher(request.teacher, weights=request.teacher_weights, folder=request.teachers, say=say)
    marks = frozenset(image.mark for image in left_out)
    own = load_lite_teacher() if request.compare.has_memory else None
    examples = read_examples(request.images, files, grid, excluded=marks, say=say, progress=progress)
    if gate is not None:
        compared = ((file, examples.shapes[i], examples[i]) for i, file in enumerate(examples.files))
        gate = presence_training.compare_with_parts(gate, compared, "train without --empty")
        say(describe_gate(gate))
    for line in explain_left_out(left_out):
        say(line)
    defects: Sequence[Path] = ()
    if request.defects is not None:
        defects = find_defects(request.defects, frozenset(examples.marks), say)
    parts = _find_parts(request, examples, say)
    by_use = split_images(
        parts,
        request.seed,
        as_paper=request.as_paper,
        compare=request.compare,
        overkill=request.overkill,
        left_out=count_good(left_out),
    )
    say(_explain_split(by_use, request))
    pictures = TilePictures(examples, grid)
    train, select = (pictures.indices(images, request.seed) for images in (by_use.train, by_use.select))
    if len(grid) > 1:
        say(f"each is cut into {len(grid)} tiles of {format_size(grid.tile)}")
    batch = batch_size(len(train), as_paper=request.as_paper)
    usual_epochs = choose_epochs(steps_an_epoch(max(1, len(train)), batch), as_paper=request.as_paper)
    # Without a student no image trains: those that select never calibrate either.
    scaling = train or select
    return TrainingInputs(
        device=device,
        teacher=teacher,
        examples=examples,
        gate=gate,
        left_out=left_out,
        defects=defects,
        parts=parts,
        by_use=by_use,
        pictures=pictures,
        train=train,
        select=select,
        deviations=None if request.as_paper else channel_deviations(teacher.trunk, pictures, scaling, device),
        memory_teacher=None
        if own is None
        else MemoryTeacher(own, channel_deviations(own.trunk, pictures, scaling, device)),
        batch=batch,
        epochs=request.epochs or usual_epochs,
        precision=choose_precision(device, as_paper=request.as_paper),
    )


def _explain_split(by_use: Split, request: TrainingRequest) -> str:
    """One line for a person: how many images have which use."""
    train, select, calibrate = len(by_use.train), len(by_use.select), len(by_use.calibrate)
    if not request.compare.has_student:
        return (
            f"{select + calibrate} images: {select} to fix the unit of scores, {calibrate} to calibrate; "
            "the memory keeps features of all of them"
        )
    # In the paper's mode the same images select and calibrate.
    count = train + select + (0 if request.as_paper else calibrate)
    text = f"{count} images: {train} to train, {select} to select, {calibrate} to calibrate"
    if request.as_paper:
        text += " (the same as select, as in the paper: the threshold is too low)"
    if request.compare.has_memory:
        text += "; the memory keeps features of all of them"
    return text


def _find_parts(request: TrainingRequest, examples: Examples, say: Say) -> Sequence[int]:
    """By image, the number of the part that it shows. Raises PartsError."""
    if request.as_paper:
        return range(len(examples))
    names = name_below(request.images, examples.files)
    parts = find_parts(names, examples.thumbnails, request.part_of)
    if line := explain_parts(parts):
        say(line)
    return parts


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
