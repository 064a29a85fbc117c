"""Arguments and settings that several commands share.

It knows nothing of what a command does. It imports no torch, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from monitor.errors import LineMonitorError
from monitor.settings import Settings, SettingsError, find_settings_file
from monitor.settings import load_settings as load_file

FAILED, USAGE = 1, 2
"""Exit codes: a failure explained on stderr, wrong usage."""
EMPTY_HELP = "images of the place without a part: such frames then pass unscored, as pass/no_part"


class CommandError(LineMonitorError):
    """A command can't go on. The message is one line with the fix."""


def positive_integer(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def image_size(text: str) -> tuple[int, int]:
    """Rows and columns of `256` or `1024x512` (width x height)."""
    width, x, height = text.lower().partition("x")
    if not (width.isdecimal() and (height.isdecimal() or not x)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: use 256 or 1024x512 (width x height)")
    return int(height or width), int(width)


def random_seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{text} is not 0 to {2**32 - 1}")
    return value


def minutes(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is no number of minutes")
    return value


def rate(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def add_config(parser: argparse.ArgumentParser) -> None:
    """Accept `--config` after the command too; where it is absent, the one before the command counts."""
    parser.add_argument("--config", type=Path, metavar="FILE", default=argparse.SUPPRESS)


def add_overkill(parser: argparse.ArgumentParser, default: float | None) -> None:
    shown = f" ({default})" if default is not None else " (as before)"
    parser.add_argument(
        "--overkill", type=rate, default=default, metavar="R", help=f"share of good parts rejected{shown}"
    )


def load_settings(options: argparse.Namespace) -> Settings:
    """The settings that the options name. Raises SettingsError."""
    return load_file(find_settings_file(options.config))


def teachers_folder(options: argparse.Namespace) -> Path | None:
    """The data folder's `teachers/`; None without a settings file. Raises SettingsError."""
    from monitor import paths

    try:
        file = find_settings_file(options.config)
    except SettingsError:
        return None
    return paths.teachers(load_file(file))


def print_to_stderr(line: str) -> None:
    print(line, file=sys.stderr)
