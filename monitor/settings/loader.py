"""Reads the settings of a line: the file, over it the credentials, over both the environment.

It knows nothing of cameras, brokers or recipes; `check` tests whether the things that settings name exist.
Only `load_settings` reads a file or the environment; a worker process gets its settings from the supervisor.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from monitor.settings.environment import CONFIG_VARIABLE, Override, read_credentials, read_variables
from monitor.settings.problems import explain, find_value
from monitor.settings.tables import Settings, SettingsError, tables
from monitor.settings.toml_text import KeyPath, TomlError, decode, find_line, parse
from monitor.system.printable import clean_line

DEFAULT_FILES = (Path("config/line.toml"), Path("/etc/line-monitor/line.toml"))
_LARGEST = 1_000_000
"""The largest settings file in bytes. A larger file is another one, or a device that has no end."""


def find_settings_file(config: Path | None) -> Path:
    """The settings file: `config` if given, else $LINE_MONITOR_CONFIG, else the first default that exists."""
    if config is not None:
        return config
    if named := os.environ.get(CONFIG_VARIABLE):
        return Path(named)
    forbidden = []
    for file in DEFAULT_FILES:
        try:
            if file.is_file():
                return file
        except PermissionError:
            forbidden.append(file)
    if forbidden:
        raise SettingsError(
            f"{forbidden[-1]}: this user may not read the folder; use sudo -u line-monitor, "
            "or name a file with --config FILE"
        )
    raise SettingsError(
        f"no settings file at {' or '.join(map(str, DEFAULT_FILES))}; name one with --config FILE"
    )


def load_settings(file: Path) -> Settings:
    """The checked settings of a file, the environment and the credentials. Raises SettingsError with a line
    for each problem."""
    try:
        text = decode(_read(file))
        tree = parse(text)
    except TomlError as error:
        line = f"line {error.line}: " if error.line else ""
        raise SettingsError(f"{file}: {line}{error}") from None
    cameras = _camera_names(tree)
    variables, problems = read_variables(os.environ, cameras)
    overrides = [*read_credentials(os.environ.get("CREDENTIALS_DIRECTORY")), *variables]
    origins = _Origins(file, text, _merge(tree, overrides, cameras))
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        problems += explain(error, tree, origins.find)
    if problems:
        raise SettingsError("\n".join(map(clean_line, problems)))
    if not settings.line.data.is_absolute():
        data = (file.resolve().parent / settings.line.data).resolve()
        settings = settings.model_copy(update={"line": settings.line.model_copy(update={"data": data})})
    return settings


def _read(file: Path) -> bytes:
    fix = "name a readable file with --config FILE"
    if os.environ.get(CONFIG_VARIABLE) == str(file):
        fix = f"correct the environment variable {CONFIG_VARIABLE}"
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
    except FileNotFoundError:
        raise SettingsError(f"{file}: no such file; {fix.replace('a readable file', 'one')}") from None
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}; {fix}") from None
    if len(content) > _LARGEST:
        raise SettingsError(
            f"{file}: larger than {_LARGEST // 1_000_000} MB, so it is no settings file; {fix}"
        )
    return content


def _camera_names(tree: dict[str, Any]) -> list[str]:
    cameras = tree.get("camera")
    found = (
        [camera.get("name") for camera in cameras if isinstance(camera, dict)]
        if isinstance(cameras, list)
        else []
    )
    return [name for name in found if isinstance(name, str)]


def _merge(tree: dict[str, Any], overrides: Sequence[Override], cameras: Sequence[str]) -> dict[KeyPath, str]:
    """Puts the overrides into the tree, the last one of a key last. Returns where each came from, by its path
    in the tree."""
    origins: dict[KeyPath, str] = {}
    for override in overrides:
        name, value = override.path[0], override.value
        present = tree.get(name)
        if len(override.path) == 3:
            path: KeyPath = (name, cameras.index(override.path[1]), override.path[2])
        elif len(override.path) == 2:
            tree.setdefault(name, {})
            path = override.path
        elif isinstance(value, dict) and isinstance(present, dict):
            # A table in the environment replaces only the keys that it has.
            present.update(value)
            origins.update({(name, key): override.origin for key in value})
            continue
        else:
            path = (name,)
        table = find_value(tree, path[:-1])
        # The file's table may be none, which the settings then refuse.
        if isinstance(table, dict):
            table[path[-1]] = value
            origins[path] = override.origin
    return origins


@dataclass(frozen=True, slots=True)
class _Origins:
    """Where each value came from."""

    file: Path
    text: str
    overrides: dict[KeyPath, str]

    def find(self, path: KeyPath, message: str) -> str:
        """Where the key's value came from. For a table: where the keys came from that the message names, when
        one of them is not from the file."""
        for count in range(len(path), 0, -1):
            if origin := self.overrides.get(path[:count]):
                return origin
        named = [
            origin
            for key, origin in self.overrides.items()
            if key[: len(path)] == path and re.search(rf"\b{re.escape(str(key[-1]))}\b", message)
        ]
        if named:
            return " and ".join(named)
        line = find_line(self.text, self._named_key(path, message))
        return f"{self.file}: line {line}" if line else str(self.file)

    def _named_key(self, path: KeyPath, message: str) -> KeyPath:
        """The first key of the table that the message names; the path itself if there is none."""
        table = find_value(parse(self.text), path)
        if len(path) in (1, 2) and isinstance(table, dict) and path[0] in tables():
            for key in re.findall(r"\w+", message):
                if key in table:
                    return (*path, key)
        return path
