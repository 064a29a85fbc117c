"""Reads the settings of a line: the file, over it the credentials, over both the environment.

It knows nothing of cameras, brokers or recipes; `check` tests whether the things that settings name exist.
Only `load_settings` reads a file or the environment; a worker process gets its settings from the supervisor.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from monitor.settings.environment import CONFIG_VARIABLE, Override, read_credentials, read_variables
from monitor.settings.problems import explain, find_value
from monitor.settings.tables import Settings, SettingsError, tables
from monitor.settings.toml_text import KeyPath, TomlError, decode, find_line, parse
from monitor.system.printable import clean_line

DEFAULT_FILES = (Path("config/line.toml"), Path("/etc/line-monitor/line.toml"))
_LARGEST = 1_000_000
"""The largest settings file in bytes. A larger file is another one, or a device that has no end."""


class _MergedSettings(Settings, BaseSettings):
    """The settings merged by pydantic-settings. The argument `sources` has the tables of each source, those
    that override the others first."""

    # Without `case_sensitive` a table may be spelled [MQTT], while its keys may not.
    model_config = SettingsConfigDict(extra="forbid", frozen=True, case_sensitive=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources that were read already, since a message names where each value came from."""
        return tuple(InitSettingsSource(settings_cls, values) for values in init_settings()["sources"])


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
    overrides, problems = read_variables(os.environ, [name for name in _camera_names(tree) if name])
    variables, origins = _as_tables(overrides, tree)
    credentials, secrets = _as_tables(read_credentials(os.environ.get("CREDENTIALS_DIRECTORY")), tree)
    find_origin = _Origins(file, text, {**secrets, **origins}).find
    arguments: dict[str, Any] = {"sources": (variables, credentials, tree)}
    try:
        settings = Settings.model_validate(dict(_MergedSettings(**arguments)))
    except ValidationError as error:
        problems += explain(error, {**tree, **variables}, find_origin)
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
    """The names of the file's cameras in their order; empty for one that has none."""
    cameras = tree.get("camera")
    found = [find_value(camera, ("name",)) for camera in cameras] if isinstance(cameras, list) else []
    return [name if isinstance(name, str) else "" for name in found]


def _as_tables(
    overrides: Iterable[Override], tree: dict[str, Any]
) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    """The overrides as tables, and where each value came from. A key of one camera is put into the file's
    `tree`, since tables of two sources are merged by key but a list takes the place of another as a whole."""
    found: dict[str, Any] = {}
    origins: dict[KeyPath, str] = {}
    cameras = _camera_names(tree)
    for override in overrides:
        name, *rest = override.path
        values = {rest[-1]: override.value} if rest else override.value
        path: KeyPath = (name,)
        if len(rest) == 2:
            path = (name, cameras.index(rest[0]))
            tree[name][path[1]].update(values)
        elif isinstance(values, list):
            found[name] = values
            origins[path] = override.origin
            continue
        elif isinstance(tree.get(name, {}), dict):
            found.setdefault(name, {}).update(values)
        else:
            # The file's value is no table, which the settings refuse.
            continue
        origins.update({(*path, key): override.origin for key in values})
    return found, origins


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
