"""`line-monitor evaluate`: the accuracy of a recipe on labelled images.

The arguments and the output; `monitor.evaluation.evaluate` does the work.
"""

from __future__ import annotations

import argparse
import json
import sys

from monitor.commands.arguments import (
    CommandError,
    as_path,
    find_version,
    load_settings,
    print_to_stderr,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recipe",
        metavar="RECIPE",
        help="name of a recipe, for the version in force, or NAME@VERSION; if there is none of that name, "
        "RECIPE-<category> is used for each category",
    )
    parser.add_argument(
        "--dataset",
        type=as_path,
        required=True,
        metavar="DIR",
        help="a folder with good/ and a folder for each type of defect, or one in MVTec AD's layout; or a "
        "tar, tar.xz, tar.gz, tar.bz2 or zip archive of it. Good images that trained the recipe are left out",
    )
    parser.add_argument("--json", type=as_path, metavar="FILE", help="write the figures to FILE too")


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
    results = evaluate(
        recipe=find_version(settings, options.recipe)
        if "@" in options.recipe
        else paths.recipe(settings, options.recipe),
        device=settings.scoring.device,
        dataset=options.dataset,
        say=print_to_stderr,
        progress=progress.choose_progress(sys.stderr),
    )
    single = results.single
    print(single.table() if single else paper_results.format_table(results))
    if options.json:
        figures = single.as_dict() if single else paper_results.as_dict(results)
        try:
            write_whole(options.json, (json.dumps(figures, indent=1) + "\n").encode())
        except OSError as error:
            raise CommandError(f"{options.json}: {error.strerror}") from None
    if results.failed:
        raise CommandError("\n".join(results.failed.values()))
    return 0
