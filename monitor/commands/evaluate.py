"""`line-monitor evaluate`: a recipe's accuracy on a labelled set."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from monitor.commands.arguments import CommandError, load_settings, print_to_stderr


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recipe",
        metavar="RECIPE",
        help="where there is none of that name: RECIPE-<category> for each category",
    )
    parser.add_argument(
        "--dataset", type=Path, required=True, metavar="DIR", help="or a tar, tar.xz, tar.gz or zip archive"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")


def run(options: argparse.Namespace) -> int:
    from monitor import paths
    from monitor.evaluation import paper_results
    from monitor.evaluation.evaluate import evaluate
    from monitor.system import progress
    from monitor.system.atomic_file import check_place, write_whole

    settings = load_settings(options)
    if options.json:
        try:
            check_place(options.json)
        except OSError as error:
            raise CommandError(f"{options.json}: {error.strerror}") from None
    found = evaluate(
        recipe=paths.recipe(settings, options.recipe),
        device=settings.scoring.device,
        dataset=options.dataset,
        say=print_to_stderr,
        progress=progress.on(sys.stderr),
    )
    alone = found.alone
    print(alone.table() if alone else paper_results.table(found))
    if options.json:
        figures = alone.as_dict() if alone else paper_results.as_dict(found)
        try:
            write_whole(options.json, (json.dumps(figures, indent=1) + "\n").encode())
        except OSError as error:
            raise CommandError(f"{options.json}: {error.strerror}") from None
    if found.failed:
        raise CommandError("\n".join(found.failed.values()))
    return 0
