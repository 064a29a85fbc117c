"""An argument that a script left empty is refused, and never taken for the current folder."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import pytest

from monitor.commands.arguments import as_path


def test_an_empty_path_is_no_folder() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="the path is empty"):
        as_path("")
    assert str(as_path(".")) == "."


@pytest.mark.parametrize(
    "name", ["train", "calibrate", "evaluate", "score", "export", "collect", "report", "recipes"]
)
def test_no_command_takes_a_path_in_another_way(name: str) -> None:
    parser = argparse.ArgumentParser()
    importlib.import_module(f"monitor.commands.{name}").add_arguments(parser)
    assert [action.dest for action in parser._actions if action.type is Path] == []
