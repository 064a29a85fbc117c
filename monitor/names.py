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
NAME_RULE = "1 to 32 of the characters a-z, 0-9 and -"
"""The rule in words, for error messages."""


class InvalidNameError(LineMonitorError):
    """The name breaks the rule. The message is one line with the rule."""


def check_name(name: str) -> str:
    """Returns the name. Raises InvalidNameError when it can't be a recipe's name."""
    if not re.fullmatch(NAME, name):
        raise InvalidNameError(f"{name!r} can't be a recipe's name: use {NAME_RULE}")
    return name
