"""The one rule for the names of lines, cameras and recipes.

It knows nothing of what the names stand for: they become folder names, file names and MQTT topic levels.
"""

from __future__ import annotations

import re

from monitor.errors import LineMonitorError

NAME = r"[a-z0-9-]{1,32}"
"""A regular expression, to be used inside longer ones."""
NAME_PATTERN = rf"^{NAME}$"
"""For schemas that take a pattern."""
NAME_RULE = "1 to 32 of the characters a-z, 0-9 and -"
"""The rule for people."""


class InvalidNameError(LineMonitorError):
    """The name breaks the rule. The message is one line with the rule."""


def check_name(name: str) -> str:
    """Return the name itself. Raises InvalidNameError when a recipe can't have it."""
    if not re.fullmatch(NAME, name):
        raise InvalidNameError(f"{name!r} can't be a recipe's name: use {NAME_RULE}")
    return name
