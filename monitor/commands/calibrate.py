"""`line-monitor calibrate`: sets a recipe's threshold, states what passes, or sets its presence gate.

It knows nothing of how a threshold is found. Torch is imported in `run`, so that `--help` answers without it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from monitor.commands.arguments import (
    EMPTY_HELP,
    add_overkill,
    find_version,
    load_settings,
    print_to_stderr,
    remove_old_versions,
)

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
        type=Path,
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
        type=Path,
        metavar="DIR",
        help="folder of images of known bad parts, at any depth, 10 or more: states how many of them pass",
    )
    gate = parser.add_mutually_exclusive_group()
    gate.add_argument("--empty", type=Path, metavar="DIR", help=EMPTY_HELP)
    gate.add_argument(
        "--no-empty", action="store_true", help="remove the presence gate: every frame is scored"
    )
    parser.set_defaults(refuse=parser.error)


def run(options: argparse.Namespace) -> int:
    from monitor import paths
    from monitor.system import progress
    from monitor.system.login_name import login_name
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
        who=login_name(),
    )
    if not (request.sets_threshold or request.sets_gate or request.defects):
        options.refuse(
            "one of these arguments is required: --images, --overkill, --defects, --empty, --no-empty"
        )
    if request.part_of is not None and request.images is None:
        options.refuse("--part-of is for the names of --images: give --images too")
    if request.extrapolate and not request.sets_threshold:
        options.refuse("--extrapolate is for a threshold: give --images or --overkill too")
    calibrate_recipe(request, say=print_to_stderr, progress=progress.choose_progress(sys.stderr))
    remove_old_versions(settings, options.recipe.partition("@")[0])
    return 0
