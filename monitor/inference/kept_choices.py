"""The choices of backends that were measured on this machine, in a file of the cache folder.

It knows nothing of how a backend is chosen. The file may be deleted at any time: the choices are then
measured again. An entry counts for one recipe version on one machine with one set of library versions.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch

from monitor.system.atomic_file import write_whole
from monitor.system.processor import describe_processor

FILE = "backends.json"
MOST = 100
"""The number of choices that the file holds; the oldest go first."""


class BackendChoice(NamedTuple):
    """The chosen runtime and precision."""

    runtime: str
    precision: str
    reason: str
    """Why, in one line; empty where nothing was to be chosen."""


class KeptChoices:
    """The file. Of two programs that write at once, one choice may be lost and is then measured again."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE

    def read(self, key: str, say: Callable[[str], None]) -> BackendChoice | None:
        """The choice of that key, if one is kept. `say` gets a line about a file that can't be read."""
        return self._read_all(say).get(key)

    def write(self, key: str, choice: BackendChoice, say: Callable[[str], None]) -> None:
        """Keeps a choice. `say` gets a line if the file can't be written: the line then runs all the same."""
        choices = self._read_all(lambda line: None)
        choices.pop(key, None)
        choices[key] = choice
        newest = dict(list(choices.items())[-MOST:])
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._file, msgspec.json.format(msgspec.json.encode(newest)))
        except OSError as error:
            say(
                f"{self._file}: the choice of a runtime and precision can't be kept ({error.strerror}), so "
                "each start measures again: make the folder writable"
            )

    def _read_all(self, say: Callable[[str], None]) -> dict[str, BackendChoice]:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=dict[str, BackendChoice])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            say(f"{self._file}: can't be read ({error}), so runtime and precision are measured again")
            return {}


def describe_machine() -> str:
    """What a measured choice holds for: processor, threads, versions of the program and its libraries."""
    versions = " ".join(f"{name} {_version(name)}" for name in ("line-monitor", "torch", "openvino"))
    return f"{describe_processor()}, {torch.get_num_threads()} threads, {versions}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
