"""`line-monitor report`: the record of a recipe's version or of a shift, as one HTML file to print."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from monitor.commands.arguments import CommandError, as_path, load_settings

if TYPE_CHECKING:
    from monitor.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "recipe", nargs="?", metavar="NAME[@VERSION]", help="the recipe; without a version the one in force"
    )
    what.add_argument(
        "--shift",
        nargs="*",
        metavar=("DATE", "START"),
        help="instead of a recipe a shift, as in `--shift 2026-11-24 06:00`; a date alone is the whole day, "
        "nothing is the last shift that is over",
    )
    parser.add_argument(
        "-o", "--output", type=as_path, required=True, metavar="FILE", help="the HTML file to write"
    )


def run(options: argparse.Namespace) -> int:
    from monitor.system.atomic_file import write_whole

    settings = load_settings(options)
    page = _shift(settings, options.shift) if options.shift is not None else _recipe(settings, options.recipe)
    try:
        write_whole(options.output, page.encode())
    except OSError as error:
        raise CommandError(f"{options.output}: can't be written: {error.strerror or error}") from None
    print(f"report written to {options.output}")
    return 0


def _recipe(settings: Settings, name: str) -> str:
    from monitor.review.recipe_report import RecipeReports
    from monitor.review.shift_report import read_snapshots
    from monitor.review.shifts import PlantClock

    plant = PlantClock.of(settings.review)
    return RecipeReports(settings, read_snapshots(settings), plant).make(name, time.time_ns())


def _shift(settings: Settings, words: list[str]) -> str:
    """Raises CommandError."""
    from monitor.review.filters import BadFilter, Filters
    from monitor.review.shift_report import ShiftReports, read_snapshots
    from monitor.review.shifts import PlantClock

    plant, now_ns = PlantClock.of(settings.review), time.time_ns()
    if len(words) > 2:
        raise CommandError("--shift takes a date and the start of a shift, as in `--shift 2026-11-24 06:00`")
    day, shift = [*words, "", ""][:2]
    if not day:
        day, shift = plant.shift_before(*plant.shift(datetime.fromtimestamp(now_ns / 1e9, UTC)))
    try:
        filters = Filters.parse({"day": day, "shift": shift}, plant)
    except BadFilter as error:
        raise CommandError(f"--shift: {error}") from None
    return ShiftReports(settings, read_snapshots(settings), plant).make(filters, now_ns)
