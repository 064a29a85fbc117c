"""`line-monitor train`: makes a recipe from images of good parts.

It knows nothing of how a recipe is trained. Torch is imported in `run`, so that `--help` answers without it.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import TYPE_CHECKING

from monitor.commands.arguments import (
    EMPTY_HELP,
    USAGE,
    add_overkill,
    as_path,
    image_size,
    load_settings,
    positive_integer,
    print_to_stderr,
    random_seed,
    remove_old_versions,
)
from monitor.commands.signing import add_signature, hold_version, recording, sign

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from monitor.accounts.signature import Signature
    from monitor.model.recipe_version import RecipeVersion
    from monitor.settings import Settings
    from monitor.training.compare import Compare
    from monitor.training.training_request import TrainingRequest

_SAME_SEED = (
    "Trains a recipe from images of good parts. The same images, options and seed give the same recipe on "
    "the same kind of machine, with the same number of threads, the same versions of line-monitor and torch, "
    "and MKL_CBWR in the environment before torch is loaded. This command sets MKL_CBWR to AUTO unless it is "
    "set."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = _SAME_SEED
    parser.add_argument("recipe", metavar="RECIPE", help="the recipe's name")
    parser.add_argument(
        "--images",
        type=as_path,
        required=True,
        metavar="DIR",
        help="folder of images of good parts, at any depth",
    )
    parser.add_argument("--empty", type=as_path, metavar="DIR", help=EMPTY_HELP)
    _add_network_arguments(parser)
    _add_course_arguments(parser)
    add_signature(parser)


def _add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """The teacher, and the size of what the network gets."""
    parser.add_argument(
        "--teacher",
        metavar="NAME",
        help="the pretrained network that teaches (resnet18; without its weights resnet18-bundled)",
    )
    parser.add_argument(
        "--teacher-weights",
        type=as_path,
        metavar="FILE",
        help="the teacher's weights, .pth or .safetensors",
    )
    parser.add_argument(
        "--compare",
        choices=("student", "memory", "both"),
        metavar="WITH",
        help="what an image is compared with: student (as in the paper), memory (features of good images, "
        "taught in seconds) or both (both; with --as-paper student)",
    )
    parser.add_argument(
        "--size",
        type=_size,
        metavar="PX",
        help="pixels that images are resized to: 256 or 1024x512; auto keeps the images' shape, at about "
        "256x256 pixels, more for long parts (auto; with --as-paper 256)",
    )
    parser.add_argument(
        "--smallest-defect",
        type=positive_integer,
        metavar="PX",
        help="the smallest defect that matters, in pixels of the images: chooses size and tiles for it",
    )
    parser.add_argument(
        "--tile",
        type=image_size,
        metavar="PX",
        help="pixels of a tile that images are cut into, for small defects",
    )
    parser.add_argument(
        "--overlap",
        type=int,
        metavar="PX",
        help="pixels that tiles overlap by (an eighth of their shorter side)",
    )


def _size(text: str) -> tuple[int, int] | None:
    """As `image_size`; None for `auto`."""
    return None if text == "auto" else image_size(text)


def _add_course_arguments(parser: argparse.ArgumentParser) -> None:
    """The course of the training, and what is made besides the student."""
    parser.add_argument(
        "--epochs",
        type=positive_integer,
        metavar="N",
        help="passes over the training images (15, more for few images; 100 with --as-paper)",
    )
    add_overkill(parser, 0.01)
    parser.add_argument(
        "--seed",
        type=random_seed,
        default=0,
        metavar="N",
        help="same seed, same recipe: see above (0)",
    )
    parser.add_argument("--device", metavar="D", help="auto, cpu, cuda or cuda:1 (as in the settings)")
    parser.add_argument(
        "--as-paper",
        action="store_true",
        help="split, train and select the student (the trained network) as in the paper",
    )
    parser.add_argument(
        "--defects",
        type=as_path,
        metavar="DIR",
        help="folder of images of known bad parts, at any depth: they state what passes and never train",
    )
    parser.add_argument(
        "--leave-out",
        type=as_path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="good images to leave out: they count as good parts that are rejected (overkill)",
    )
    parser.add_argument(
        "--bad-by", default="", metavar="NAME", help="who calls the images of --leave-out bad parts"
    )
    parser.add_argument("--bad-reason", default="", metavar="TEXT", help="why they are bad parts")
    parser.add_argument(
        "--part-of",
        metavar="PATTERN",
        help="regular expression that finds the part in an image's path: images of one part count once",
    )
    parser.add_argument(
        "--extrapolate",
        action="store_true",
        help="with too few images for the rate, estimate a threshold above every good image",
    )
    parser.add_argument(
        "--int8",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="also make a model in 8-bit integers for OpenVINO (default: no)",
    )


def find_usage_problem(options: argparse.Namespace) -> str:
    """Which options do not go together, with the fix; empty where all do."""
    if options.overlap is not None and options.tile is None:
        return "--overlap is for tiles only: give --tile too"
    if options.smallest_defect is not None and not _is_automatic(options):
        return "--smallest-defect chooses the size: leave --size or --as-paper out"
    if options.as_paper and (options.part_of or options.extrapolate):
        return "--as-paper guarantees no rate: leave --part-of and --extrapolate out"
    if options.as_paper and _choose_compare(options).has_memory:
        return "--as-paper has a student alone: leave --compare out"
    return ""


def run(options: argparse.Namespace) -> int:
    from monitor.accounts.permissions import Permission
    from monitor.system import progress
    from monitor.teaching.recorded_training import TAUGHT
    from monitor.training.train_recipe import train_recipe

    if problem := find_usage_problem(options):
        print_to_stderr(f"line-monitor: {problem}")
        return USAGE
    settings = load_settings(options)
    signature = sign(options, settings, Permission.TEACH, TAUGHT)
    train_recipe(
        make_request(options, settings, signature.name),
        say=print_to_stderr,
        progress=progress.choose_progress(sys.stderr),
        recording=partial(recording_training, settings, signature),
    )
    remove_old_versions(settings, options.recipe)
    return 0


def _is_automatic(options: argparse.Namespace) -> bool:
    """Whether the size is found from the images."""
    return options.size is None and not options.as_paper


def _choose_compare(options: argparse.Namespace) -> Compare:
    from monitor.training.compare import Compare

    return Compare(options.compare or ("student" if options.as_paper else "both"))


def make_request(options: argparse.Namespace, settings: Settings, who: str) -> TrainingRequest:
    """What `train` is asked for on the line of these settings by that person. Raises TrainingError.

    `monitor.commands.fleet` makes the same request on a node of a cluster.
    """
    from monitor import paths
    from monitor.model.recipe_json import make_tiles
    from monitor.training.automatic_size import AutomaticSize
    from monitor.training.camera_limits import find_camera_limits
    from monitor.training.training_request import TrainingRequest

    automatic, compare = _is_automatic(options), _choose_compare(options)
    limits = find_camera_limits(
        options.recipe, (camera for camera in settings.camera if camera.recipe == options.recipe)
    )
    return TrainingRequest(
        name=options.recipe,
        recipes=paths.recipes(settings),
        images=options.images,
        empty=options.empty,
        teacher=options.teacher,
        teacher_weights=options.teacher_weights,
        teachers=paths.teachers(settings),
        size=options.size or 256,
        automatic_size=AutomaticSize(options.smallest_defect, limits.deadline_ms) if automatic else None,
        tiles=make_tiles(options.tile, options.overlap) if options.tile else None,
        epochs=options.epochs,
        overkill=options.overkill,
        seed=options.seed,
        compare=compare,
        part_of=options.part_of,
        extrapolate=options.extrapolate,
        defects=options.defects,
        leave_out=tuple(options.leave_out),
        bad_by=options.bad_by,
        bad_reason=options.bad_reason,
        device=options.device or settings.scoring.device,
        as_paper=options.as_paper,
        int8=options.int8,
        who=who,
        roi=limits.roi,
    )


def recording_training(
    settings: Settings, signature: Signature, draft: RecipeVersion
) -> AbstractContextManager[None]:
    """Records that the recipe was taught, then runs the block that commits it."""
    from monitor.audit.entry import Kind
    from monitor.teaching.recorded_training import describe_draft

    hold_version(settings, draft.folder)
    return recording(settings, Kind.TRAINING, f"recipe.{draft.name}", None, describe_draft(draft), signature)
