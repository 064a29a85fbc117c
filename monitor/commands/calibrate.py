"""`line-monitor calibrate`: sets a recipe's threshold, states what passes, or sets its presence gate.

It knows nothing of how a threshold is found. Torch is imported in `run`, so that `--help` answers without it.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from monitor.commands.arguments import (
    EMPTY_HELP,
    add_overkill,
    as_path,
    find_version,
    load_settings,
    print_to_stderr,
    remove_old_versions,
)
from monitor.commands.signing import add_signature, confirm, hold_version, recording, sign

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from monitor.model.recipe_version import RecipeVersion

_DESCRIPTION = (
    "Sets a recipe's threshold from images of good parts that training never saw (--images), or for another "
    "share of rejected good parts from the scores that the recipe records (--overkill alone). Choose this "
    "share before you look at these scores, or by known defects alone: a share that was chosen by the scores "
    "of good parts is no longer guaranteed. --defects states how many known bad parts pass; they never set "
    "the threshold."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = _DESCRIPTION
    parser.add_argument(
        "recipe", metavar="RECIPE", help="name of the recipe, for its newest version, or NAME@VERSION"
    )
    parser.add_argument(
        "--images",
        type=as_path,
        metavar="DIR",
        help="folder of images of good parts that the recipe was not trained on, at any depth",
    )
    add_overkill(parser, None)
    parser.add_argument(
        "--part-of",
        metavar="PATTERN",
        help="regular expression for file names: images with the same match (of its first group, if it has "
        "one) show one part and count as one",
    )
    parser.add_argument(
        "--extrapolate",
        action="store_true",
        help="where the images are too few for the share, estimate a threshold above all of them; it "
        "guarantees no more, and more defects pass",
    )
    parser.add_argument(
        "--defects",
        type=as_path,
        metavar="DIR",
        help="folder of images of known bad parts, at any depth, 10 or more: states how many of them pass",
    )
    gate = parser.add_mutually_exclusive_group()
    gate.add_argument("--empty", type=as_path, metavar="DIR", help=EMPTY_HELP)
    gate.add_argument(
        "--no-empty", action="store_true", help="remove the presence gate: every frame is scored"
    )
    add_signature(parser, warns=True)
    parser.set_defaults(refuse=parser.error)


def run(options: argparse.Namespace) -> int:
    from monitor import paths
    from monitor.accounts.permissions import Permission
    from monitor.audit.entry import Kind
    from monitor.commands.judging_versions import explain_judges
    from monitor.model.in_force import find_in_force
    from monitor.model.recipe_json import REFERENCE
    from monitor.model.threshold_change import real_defects, warn_of_change
    from monitor.review.line_view import LineView
    from monitor.system import progress
    from monitor.training.calibrate_recipe import CalibrationRequest, calibrate_recipe

    settings = load_settings(options)
    request = CalibrationRequest(
        recipe=find_version(settings, options.recipe)
        if "@" in options.recipe
        else paths.recipe(settings, options.recipe),
        images=options.images,
        overkill=options.overkill,
        part_of=options.part_of,
        extrapolate=options.extrapolate,
        defects=options.defects,
        empty=options.empty,
        gated=not options.no_empty,
        device=settings.scoring.device,
    )
    if not (request.sets_threshold or request.sets_gate or request.defects):
        options.refuse(
            "one of these arguments is required: --images, --overkill, --defects, --empty, --no-empty"
        )
    if request.part_of is not None and request.images is None:
        options.refuse("--part-of is for the names of --images: give --images too")
    if request.extrapolate and not request.sets_threshold:
        options.refuse("--extrapolate is for a threshold: give --images or --overkill too")
    signature = sign(options, settings, Permission.CALIBRATE, "recipe calibrated")

    def approve(before: RecipeVersion, after: RecipeVersion) -> AbstractContextManager[None]:
        old, new = (one.document.calibration[REFERENCE].threshold for one in (before, after))
        defects = real_defects(after.document.defect_scores)
        warnings = warn_of_change(old, new, defects) if new != old else ()
        confirmed = confirm(warnings, signature, understood=options.understood)
        hold_version(settings, after.folder)
        subject = f"recipe.{after.name}.threshold"
        return recording(settings, Kind.THRESHOLD, subject, repr(old), repr(new), confirmed)

    made = calibrate_recipe(
        replace(request, who=signature.name),
        say=print_to_stderr,
        progress=progress.choose_progress(sys.stderr),
        approve=approve,
    )
    judges = LineView(settings).judges(camera.name for camera in settings.camera)
    is_taken = made.sha.startswith(find_in_force(made.folder).digits)
    for line in explain_judges(judges, made.name, made.number, made.sha, is_taken_at_start=is_taken):
        print_to_stderr(line)
    remove_old_versions(settings, options.recipe.partition("@")[0])
    return 0
