"""The one rule for the names of sites, lines, cameras and recipes.

It knows nothing of what the names stand for. They become folder names, file names and MQTT topic levels, so
the rule allows only characters that are safe in all three.
"""

from __future__ import annotations

import re

from monitor.errors import LineMonitorError

NAME = r"[a-z0-9-]{1,32}"
"""A regular expression for use inside longer ones."""
NAME_PATTERN = rf"^{NAME}$"
"""The same for the whole text, for schemas that take a pattern."""
VERSION = r"[1-9][0-9]{0,8}"
"""The number of a recipe's version."""
NAME_RULE = "1 to 32 of the characters a-z, 0-9 and -"
"""The rule in words, for error messages."""


class InvalidNameError(LineMonitorError):
    """The name breaks the rule. The message is one line with the rule."""


def check_name(name: str) -> str:
    """Returns the name. Raises InvalidNameError when it can't be a recipe's name."""
    if not re.fullmatch(NAME, name):
        raise InvalidNameError(f"{name!r} can't be a recipe's name: use {NAME_RULE}")
    return name


def split_version(text: str) -> tuple[str, int | None]:
    """The recipe's name and the version's number of `NAME@VERSION`; None for the number of `NAME` alone.

    Raises InvalidNameError.
    """
    name, at, number = text.partition("@")
    if at and not re.fullmatch(VERSION, number):
        raise InvalidNameError(f"{text!r} names no version: use {check_name(name)}@1, @2 and so on")
    return check_name(name), int(number) if at else None


def join_version(name: str, number: int | None) -> str:
    """`NAME@VERSION`, or `NAME` alone where the number is not known."""
    return name if number is None else f"{name}@{number}"
