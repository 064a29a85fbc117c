"""Training of a recipe: a student learns the teacher's features of good images (the paper's section 3.2), a
memory keeps some of them, or both.

It knows nothing of live frames or cameras. Every image of `TrainingRequest.images` shows a good part, every
image of `empty` shows no part, and no image of a defective part may ever be used. A recipe whose loss
diverged is never committed.

The optimiser is the official code's SGD with rate 0.4, momentum 0.9 and weight decay 1e-4, or AdamW for a
student without batch normalisation, in batches of up to 32. By default the rate falls over a number of steps
that is fixed beforehand (`monitor.training.learning_rate`). Some images train the student, some select the
student of one epoch, and others calibrate the threshold (`monitor.training.examples.split_images`), because a
threshold from images that selected the student would be too low. The paper selects the student with the
lowest mean anomaly map; by default it is the one that best separates good images with drawn defects
(`monitor.training.synthetic_defects`) from the same images without. The memory has features of all images
(`monitor.training.memory_training`).

The same images, settings and seed give the same student and threshold on the same kind of machine, with the
same number of threads and the same versions of the libraries, if MKL_CBWR is set before torch is loaded
(`monitor.cli`). Two such recipes still differ in their records of the time and of the training's duration.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import cv2
import msgspec
import numpy as np
import torch

from monitor.images.preprocessing import RESIZE
from monitor.images.tiling import format_size
from monitor.model.in_force import explain_not_in_force
from monitor.model.recipe_json import REFERENCE
from monitor.model.recipe_version import RecipeVersion
from monitor.names import join_version
from monitor.system.progress import SILENT, Progress
from monitor.training import advice, plot
from monitor.training.calibrate_recipe import set_thresholds
from monitor.training.checkpoint import Checkpoint, checkpoint_folder
from monitor.training.first_look import add_first_looks
from monitor.training.known_defects import score_defects
from monitor.training.learning_rate import describe_rate
from monitor.training.left_out_images import count_good
from monitor.training.loop import (
    DivergedError,
    FitSettings,
    TrainedStudent,
    TrainingError,
    fit,
)
from monitor.training.memory_training import LeftOutScorer, set_left_out_thresholds
from monitor.training.operating_points import explain_points, state, unrelated_score
from monitor.training.recipe_draft import CURVE, add_int8, draft_recipe
from monitor.training.recipe_pictures import save_decisions, save_picture, show_oddest
from monitor.training.thresholds import (
    ThresholdRule,
    explain_all,
    format_bound,
    guarantee_with,
    without_guarantee,
)
from monitor.training.training_inputs import TrainingInputs, check_request, find_request_size, prepare_inputs
from monitor.training.training_lock import hold_recipe
from monitor.training.training_request import Say, TrainingRequest

__all__ = ["TrainingError", "TrainingRequest", "train_recipe"]

_LEAVE_OUT = "train again with --leave-out FILE --bad-by NAME --bad-reason TEXT"
"""What to do about a bad part among the oddest good images."""


def train_recipe(
    request: TrainingRequest,
    *,
    say: Say,
    progress: Progress = SILENT,
    clock: Callable[[], float] = time.monotonic,
    recording: Callable[[RecipeVersion], AbstractContextManager[object]] = nullcontext,
) -> RecipeVersion:
    """Trains, calibrates and commits the recipe. The commit is made in the context of `recording`.

    A run that was killed continues where it was saved last when it is started again with the same images and
    settings, and it ends with the same student and threshold as an uninterrupted run.

    Raises TrainingError, also while another process trains the recipe, and the errors of the recipe's name
    (InvalidNameError), the presence gate (PresenceError), the teacher (TeacherError), the calibration
    (CalibrationError) and the device and the recipe's files (RecipeError).
    """
    check_request(request)
    request = find_request_size(request, say)
    began = clock()
    inputs = prepare_inputs(request, say, progress)
    with hold_recipe(request.recipes, request.name):
        return _train_recipe(request, inputs, say, progress, clock, began, recording)


def _train_recipe(
    request: TrainingRequest,
    inputs: TrainingInputs,
    say: Say,
    progress: Progress,
    clock: Callable[[], float],
    began: float,
    recording: Callable[[RecipeVersion], AbstractContextManager[object]],
) -> RecipeVersion:
    def say_beside_bar(line: str) -> None:
        progress.make_room()
        say(line)

    checkpoint = Checkpoint(
        checkpoint_folder(request.recipes.absolute(), request.name),
        _fingerprint(request, inputs),
        say=say_beside_bar,
        clock=clock,
    )
    fitted = None
    if request.compare.has_student:
        fitted = _fit(request, inputs, checkpoint, say_beside_bar, progress)
    draft, left_out = draft_recipe(request, inputs, fitted, progress, clock() - began)
    leave_out = None if left_out is None else partial(left_out.leave_out, draft)
    draft = add_first_looks(draft, inputs.pictures, inputs.train, inputs.select, request.seed, leave_out)
    if request.int8:
        draft = add_int8(draft, inputs, request.seed, say_beside_bar, leave_out)
    draft = _with_thresholds(draft, request, inputs, left_out, say, progress)
    defects = None
    if inputs.defects:
        defects = score_defects(draft, inputs.defects, device=str(inputs.device), say=say, progress=progress)
        draft = draft.with_changes(defect_scores=defects.scores)
    draft = _with_both_rates(draft, inputs, say)
    draft = state(draft)
    with recording(draft):
        recipe = draft.commit()
    if request.compare.has_student:
        # Without a student it may be the state of another training, which a person can still resume.
        checkpoint.remove()
    if fitted is not None:
        title = f"{request.name}: {len(inputs.examples)} images, {fitted.optimiser}"
        _save_curve(recipe.folder / CURVE, fitted, title, say)
        if warning := advice.closing_advice(fitted.select_maps, fitted.best_epoch, len(inputs.by_use.select)):
            say(warning)
    calibrating = [inputs.examples.files[number] for number in sorted(inputs.by_use.calibrate)]
    show_oddest(recipe, calibrating, _LEAVE_OUT, say)
    save_decisions(recipe, defects, say)
    _report(recipe, say)
    return recipe


def _fingerprint(request: TrainingRequest, inputs: TrainingInputs) -> dict[str, str]:
    """Everything that decides the student, to the bit. A checkpoint is used only if all of it is the same."""
    grid, teacher = request.grid, inputs.teacher
    return {
        "images": hashlib.sha256(" ".join(inputs.examples.marks).encode()).hexdigest(),
        "split": hashlib.sha256(f"{tuple(inputs.train)} {tuple(inputs.select)}".encode()).hexdigest(),
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
    request: TrainingRequest, inputs: TrainingInputs, checkpoint: Checkpoint, say: Say, progress: Progress
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


def _with_thresholds(
    draft: RecipeVersion,
    request: TrainingRequest,
    inputs: TrainingInputs,
    left_out: LeftOutScorer | None,
    say: Say,
    progress: Progress,
) -> RecipeVersion:
    """The recipe with a threshold for every runtime and precision here, not yet committed."""
    numbers = sorted(inputs.by_use.calibrate)
    parts = tuple(inputs.parts[number] for number in numbers)
    # In the paper's mode there is no guarantee that an estimate could stand in for.
    rule = ThresholdRule(
        request.overkill, request.extrapolate and not request.as_paper, count_good(inputs.left_out)
    )
    if left_out is not None:
        return set_left_out_thresholds(
            draft,
            left_out,
            numbers,
            parts,
            rule,
            device=inputs.device,
            progress=progress,
        )
    calibrated = set_thresholds(
        draft,
        [inputs.examples.files[number] for number in numbers],
        rule,
        device=str(inputs.device),
        say=say,
        progress=progress,
        parts=parts,
    )
    if not request.as_paper:
        return calibrated
    # In the paper's mode the same images selected the student.
    calibrations = calibrated.document.calibration
    return calibrated.with_calibration({key: without_guarantee(own) for key, own in calibrations.items()})


def _with_both_rates(draft: RecipeVersion, inputs: TrainingInputs, say: Say) -> RecipeVersion:
    """The recipe with the rate that holds if the images that a person calls bad show good parts."""
    bad = len(inputs.left_out) - count_good(inputs.left_out)
    own = draft.document.calibration[REFERENCE]
    if not bad or own.guarantee is None or draft.document.training is None:
        return draft
    rate = guarantee_with(own, bad)
    say(f"if the images called bad show good parts after all, overkill is at most {format_bound(rate)}")
    return draft.with_changes(
        training=msgspec.structs.replace(draft.document.training, guarantee_if_good=rate)
    )


def _save_curve(file: Path, fitted: TrainedStudent, title: str, say: Say) -> None:
    picture = plot.draw_course(fitted.losses, fitted.select_maps, fitted.told_apart, fitted.best_epoch, title)
    save_picture(file, picture, say)


def _report(recipe: RecipeVersion, say: Say) -> None:
    document = recipe.document
    pairs = document.quantised.pairs if document.quantised else ()
    for line in explain_all(document.calibration, pairs, unrelated_score(document)):
        say(line)
    say(f"recipe {join_version(recipe.name, recipe.number)} ({recipe.sha[:12]}) is in {recipe.folder}")
    for line in explain_not_in_force(recipe):
        say(line)
    for line in explain_points(document):
        say(line)
