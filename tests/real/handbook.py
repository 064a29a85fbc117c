"""The commands and settings in `deploy/README.md`, for tests that run them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

_HANDBOOK = Path(__file__).resolve().parents[2] / "deploy/README.md"
_BLOCK = re.compile(r"^(?:<!-- run: (?P<name>[a-z]+) -->\n)?```sh\n(?P<commands>.*?)^```$", re.S | re.M)


def names() -> list[str | None]:
    """The mark of every block of shell commands, in order; None for a block that is not run."""
    return [found["name"] for found in _BLOCK.finditer(_HANDBOOK.read_text(encoding="utf-8"))]


def block(name: str, in_place_of: Mapping[str, object]) -> str:
    """The commands of a block with its placeholders replaced. Each placeholder must occur in it."""
    text = _HANDBOOK.read_text(encoding="utf-8")
    (commands,) = [found["commands"] for found in _BLOCK.finditer(text) if found["name"] == name]
    for placeholder, real in in_place_of.items():
        assert placeholder in commands, f"{placeholder!r} is not in the block {name}"
        commands = commands.replace(placeholder, str(real))
    return str(commands)


def written_in(language: str) -> list[str]:
    """The blocks of one language, such as `toml`."""
    return re.findall(rf"^```{language}\n(.*?)^```$", _HANDBOOK.read_text(encoding="utf-8"), re.S | re.M)


def section(title: str) -> str:
    """The text below a heading."""
    _, _, after = _HANDBOOK.read_text(encoding="utf-8").partition(f"\n## {title}\n")
    return after.partition("\n## ")[0]


def items() -> set[str]:
    """The items in the first column of the table about `check`."""
    _, _, after = _HANDBOOK.read_text(encoding="utf-8").partition("| item |")
    table, _, _ = after.partition("\n\n")
    return {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
