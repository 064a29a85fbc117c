"""What `deploy/README.md` tells an engineer to type and to write, for tests that do so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

_HANDBOOK = Path(__file__).resolve().parents[2] / "deploy/README.md"
_BLOCK = re.compile(r"^(?:<!-- run: (?P<name>[a-z]+) -->\n)?```sh\n(?P<commands>.*?)^```$", re.S | re.M)


def names() -> list[str | None]:
    """Of every block of shell commands, in order; None for one that is not marked to be run."""
    return [found["name"] for found in _BLOCK.finditer(_HANDBOOK.read_text(encoding="utf-8"))]


def block(name: str, in_place_of: Mapping[str, object]) -> str:
    """A block's commands with its placeholders replaced; each of these must stand in it."""
    text = _HANDBOOK.read_text(encoding="utf-8")
    (commands,) = [found["commands"] for found in _BLOCK.finditer(text) if found["name"] == name]
    for placeholder, real in in_place_of.items():
        assert placeholder in commands, f"{placeholder!r} is not in the block {name}"
        commands = commands.replace(placeholder, str(real))
    return str(commands)


def written_in(language: str) -> list[str]:
    """The blocks of that language, such as `toml`."""
    return re.findall(rf"^```{language}\n(.*?)^```$", _HANDBOOK.read_text(encoding="utf-8"), re.S | re.M)


def section(title: str) -> str:
    """What stands below that heading."""
    _, _, after = _HANDBOOK.read_text(encoding="utf-8").partition(f"\n## {title}\n")
    return after.partition("\n## ")[0]


def items() -> set[str]:
    """What the first column of the table of `check` names."""
    _, _, after = _HANDBOOK.read_text(encoding="utf-8").partition("| item |")
    table, _, _ = after.partition("\n\n")
    return {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
