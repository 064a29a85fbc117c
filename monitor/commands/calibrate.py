"""`line-monitor calibrate`: sets a recipe's threshold from good images, or its presence gate.

It knows nothing of how a threshold is found. Torch is imported in `run`, so that `--help` answers without it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from monitor.commands.arguments import EMPTY_HELP, add_overkill, load_settings, print_to_stderr


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="the recipe's name")
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of images of good parts that the recipe was not trained on, at any depth",
    )
    add_overkill(parser, None)
    gate = parser.add_mutually_exclusive_group()
    gate.add_argument("--empty", type=Path, metavar="DIR", help=EMPTY_HELP)
    gate.add_argument(
        "--no-empty", action="store_true", help="remove the presence gate: every frame is scored"
    )
    parser.set_defaults(refuse=parser.error)


def run(options: argparse.Namespace) -> int:
    from monitor import paths
    from monitor.system import progress
    from monitor.training.calibrate_recipe import calibrate_recipe

    if options.images is None and (options.overkill is not None or not (options.empty or options.no_empty)):
        options.refuse("the following arguments are required: --images (or --empty or --no-empty alone)")
    settings = load_settings(options)
    calibrate_recipe(
        recipe=paths.recipe(settings, options.recipe),
        images=options.images,
        overkill=options.overkill,
        empty=options.empty,
        gated=not options.no_empty,
        device=settings.scoring.device,
        say=print_to_stderr,
        progress=progress.choose_progress(sys.stderr),
    )
    return 0
