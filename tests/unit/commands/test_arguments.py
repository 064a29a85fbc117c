"""An argument that a script left empty is refused, and never taken for the current folder."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from monitor.cli import COMMANDS, build_parser
from monitor.commands.arguments import as_path, as_place


@pytest.mark.parametrize("kind", [as_path, as_place])
def test_an_empty_path_is_no_folder(kind: Callable[[str], object]) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="the path is empty"):
        kind("")
    assert str(kind(".")) == "."


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_takes_a_path_in_another_way(command: str) -> None:
    found = [action for action in actions(build_parser([command])) if action.type is Path]
    assert not found


def test_each_path_of_a_fleets_archive_is_looked_at() -> None:
    (archive,) = (one for one in actions(build_parser(["fleet"])) if one.dest == "archive")
    assert archive.type is as_place


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments of a command and of all commands below it."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from actions(below)
