"""Arguments and settings that several commands share.

It knows nothing of what a command does. It imports the settings only in functions: the library that checks
them takes longer to import than `--help` takes to run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.errors import LineMonitorError

if TYPE_CHECKING:
    from monitor.settings import Settings

FAILED, USAGE = 1, 2
"""Exit codes: a failure with a message on stderr, and wrong usage."""
RECIPE_HELP = "name of the recipe, for the version in force, or NAME@VERSION"
EMPTY_HELP = (
    "images of the empty place without a part; frames that show it then pass without a score (pass, no_part)"
)


class CommandError(LineMonitorError):
    """A command can't continue. The message is one line with the fix."""


def as_path(text: str) -> Path:
    """A path. An empty one, as from a variable that a script did not set, would be the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty: name a file or a folder")
    return Path(text)


def as_place(text: str) -> str:
    """A path or another place, such as `s3://bucket/path` or a pattern; never an empty one."""
    as_path(text)
    return text


def positive_integer(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} must be 1 or more")
    return value


def image_size(text: str) -> tuple[int, int]:
    """Rows and columns from `256` or `1024x512` (width x height)."""
    width, x, height = text.lower().partition("x")
    if not (width.isdecimal() and (height.isdecimal() or not x)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: use 256 or 1024x512 (width x height)")
    return int(height or width), int(width)


def random_seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{text} must be from 0 to {2**32 - 1}")
    return value


def minutes(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} must be more than 0 and less than 1000000 minutes")
    return value


def rate(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} must be between 0 and 1")
    return value


def add_config(parser: argparse.ArgumentParser) -> None:
    """Accept `--config` after the command as well; if it is absent there, the one before counts."""
    parser.add_argument("--config", type=as_path, metavar="FILE", default=argparse.SUPPRESS)


def add_overkill(parser: argparse.ArgumentParser, default: float | None) -> None:
    shown = f"default: {default}" if default is not None else "default: the recipe's present share"
    parser.add_argument(
        "--overkill",
        type=rate,
        default=default,
        metavar="R",
        help=f"allowed share of good parts that are rejected, 0 to 1 ({shown})",
    )


def load_settings(options: argparse.Namespace) -> Settings:
    """The settings of the file in the options or of the default file. Raises SettingsError."""
    from monitor.settings import find_settings_file
    from monitor.settings import load_settings as load_file

    return load_file(find_settings_file(options.config))


def teachers_folder(options: argparse.Namespace) -> Path | None:
    """The folder `teachers/` in the data folder; None without a settings file. Raises SettingsError."""
    from monitor import paths
    from monitor.settings import SettingsError, find_settings_file
    from monitor.settings import load_settings as load_file

    try:
        file = find_settings_file(options.config)
    except SettingsError:
        return None
    return paths.teachers(load_file(file))


def find_version(settings: Settings, recipe: str) -> Path:
    """The document of `NAME@VERSION`; of the version in force for `NAME` alone.

    Raises RecipeError and InvalidNameError.
    """
    from monitor import paths
    from monitor.model.in_force import find_asked

    return find_asked(paths.recipes(settings), recipe).file


def remove_old_versions(settings: Settings, recipe: str) -> None:
    """Keep to the settings' bound after a version was made. Raises RecipeError."""
    from monitor import paths
    from monitor.model import version_retention

    removed = version_retention.remove_old_versions(
        paths.recipe(settings, recipe), settings.recipes.keep_versions
    )
    if removed:
        names = ", ".join(version.name for version in removed)
        print_to_stderr(f"removed: {names} (recipes.keep_versions = {settings.recipes.keep_versions})")


def print_to_stderr(line: str) -> None:
    print(line, file=sys.stderr)
