"""A recipe's document and weights before it has thresholds: teacher, student, memory and int8 model.

It knows nothing of the training loop or of thresholds.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import torch

from monitor.images.tiling import format_size
from monitor.inference.backends import MIN_INT8_CORRELATION
from monitor.model.channel_scaling import add_deviations
from monitor.model.image_mark import list_digest
from monitor.model.recipe_json import (
    Document,
    Lineage,
    Origin,
    Training,
    resize_name,
)
from monitor.model.recipe_version import RecipeVersion, weights_file
from monitor.system.progress import Progress
from monitor.teachers.architectures import (
    LEVELS,
    trunk_weights,
)
from monitor.training.learning_rate import describe_rate
from monitor.training.loop import (
    TrainedStudent,
)
from monitor.training.memory_training import GoodImages, LeaveOut, LeftOutScorer, add_memory
from monitor.training.parts import blocks_of
from monitor.training.training_inputs import TrainingInputs
from monitor.training.training_request import Say, TrainingRequest
from monitor.verdict import rfc3339_seconds

CURVE = "training.png"
"""The plot of the training's course, a file beside `recipe.json`."""


def draft_recipe(
    request: TrainingRequest,
    inputs: TrainingInputs,
    fitted: TrainedStudent | None,
    progress: Progress,
    seconds: float,
) -> tuple[RecipeVersion, LeftOutScorer | None]:
    """The recipe with its student and its memory, without a threshold, not yet committed."""
    draft = _draft_student(request, inputs, fitted, seconds)
    if not request.compare.has_memory:
        return draft, None
    assert inputs.deviations is not None
    assert inputs.memory_teacher is not None
    return add_memory(
        draft,
        GoodImages(inputs.pictures, request.grid, blocks_of(inputs.parts)),
        inputs.by_use,
        inputs.deviations,
        inputs.memory_teacher,
        seed=request.seed,
        device=inputs.device,
        progress=progress,
    )


def _draft_student(
    request: TrainingRequest, inputs: TrainingInputs, fitted: TrainedStudent | None, seconds: float
) -> RecipeVersion:
    """The recipe with its student, or with its teacher alone, without a threshold."""
    teacher, deviations = inputs.teacher, inputs.deviations
    size = request.grid.size
    teacher_arrays = trunk_weights(teacher.trunk)
    student_arrays = None if fitted is None else fitted.student
    if student_arrays is not None and deviations is not None:
        student_arrays = add_deviations(student_arrays, deviations)
    record = _record(request, inputs, fitted, seconds)
    document = Document(
        name=request.name,
        teacher=teacher.entry(teacher_arrays),
        student=None if student_arrays is None else weights_file("student", student_arrays),
        levels=LEVELS[teacher.architecture],
        evened=deviations is not None,
        size=size[0] if size[0] == size[1] else size,
        tiles=request.tiles,
        resize=resize_name(request.tiles, None),
        roi=request.roi,
        training=record,
        lineage=_lineage(request, inputs, record.utc),
        calibrated_on=tuple(sorted(inputs.examples.marks[i] for i in inputs.by_use.calibrate)),
        presence=inputs.gate,
    )
    folder = request.recipes.absolute() / request.name
    return RecipeVersion(folder, document, "", teacher_arrays, student_arrays)


def _lineage(request: TrainingRequest, inputs: TrainingInputs, utc: str) -> Lineage:
    settings = {
        "compare": str(request.compare),
        "overkill": f"{request.overkill:g}",
        "seed": str(request.seed),
        "size": format_size(request.grid.size),
        "images": str(request.images.absolute()),
    }
    if inputs.defects:
        settings["defects"] = f"{len(inputs.defects)} images in {request.defects}"
    marks = [*inputs.examples.marks, *(image.mark for image in inputs.left_out)]
    return Lineage(
        origin=Origin.TRAINING,
        utc=utc,
        who=request.who,
        images=len(inputs.examples),
        images_sha256=list_digest(marks),
        settings=settings,
    )


def _record(
    request: TrainingRequest, inputs: TrainingInputs, fitted: TrainedStudent | None, seconds: float
) -> Training:
    """The record of the training in the recipe's document."""
    examples, by_use = inputs.examples, inputs.by_use
    # A memory has seen the images that calibrate too: they score better in it than new images.
    seen = range(len(examples)) if request.compare.has_memory else (*by_use.train, *by_use.select)
    record = Training(
        utc=rfc3339_seconds(datetime.now(UTC)),
        images=len(examples),
        train=len(by_use.train),
        select=len(by_use.select),
        calibrate=len(by_use.calibrate),
        skipped=examples.skipped,
        epochs=0,
        best_epoch=0,
        seed=request.seed,
        as_paper=request.as_paper,
        optimiser="",
        device=str(inputs.device),
        torch=str(torch.__version__),
        seconds=round(seconds, 1),
        losses=(),
        select_maps=(),
        left_out=tuple(inputs.left_out),
        part_of=request.part_of,
        automatic_size=request.automatic_size is not None,
        smallest_defect=request.automatic_size.smallest_defect if request.automatic_size else None,
        seen=tuple(sorted(examples.marks[i] for i in seen)),
    )
    if fitted is None:
        return record
    return msgspec.structs.replace(
        record,
        epochs=inputs.epochs,
        best_epoch=fitted.best_epoch,
        optimiser=fitted.optimiser,
        learning_rate=describe_rate(as_paper=request.as_paper),
        precision=str(inputs.precision),
        losses=fitted.losses,
        select_maps=fitted.select_maps,
        told_apart=fitted.told_apart,
        curve=CURVE,
    )


def add_int8(
    draft: RecipeVersion, inputs: TrainingInputs, seed: int, say: Say, leave_out: LeaveOut | None
) -> RecipeVersion:
    """The recipe with its int8 model. `leave_out` is as in `quantisation.quantise_recipe`."""
    # Imported here, because OpenVINO and NNCF are optional.
    from monitor.training.quantisation import quantise_recipe

    found = quantise_recipe(draft, inputs.pictures, inputs.train, inputs.select, seed, leave_out)
    assert found.document.quantised is not None
    agreement = found.document.quantised.agreement
    fix = ""
    if agreement < MIN_INT8_CORRELATION:
        fix = f' (below {MIN_INT8_CORRELATION}: better not set precision = "int8")'
    say(f"int8: the rank correlation of its scores with float32's scores is {agreement:.3f}{fix}")
    return found
