"""Settings in environment variables, as `LINE_MONITOR__MQTT__PORT=1884`, and in systemd credentials.

It knows nothing of the settings file. A message must never show a variable's value, which may be a secret.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_origin

from monitor.settings.tables import CameraSettings, SettingsError, plain_kind, tables

PREFIX = "LINE_MONITOR__"
CONFIG_VARIABLE = "LINE_MONITOR_CONFIG"
_SIMILAR = re.compile(r"line[_-]?monitor[_-]+(.+)", re.IGNORECASE)
"""A variable that was meant for this program, as `LINE_MONITOR_MQTT_PORT`."""
_ALIKE = 0.8
"""How alike a variable with another prefix must be to a setting's to count as a mistyped one."""
_CREDENTIALS = {"mqtt_password": ("mqtt", "password"), "review_password": ("review", "password_hash")}


@dataclass(frozen=True, slots=True)
class Override:
    """A value that takes the place of the file's."""

    path: tuple[str, ...]
    """The key, or the table that is set as a whole. A camera is in it by its name."""
    value: Any
    origin: str
    """Where the value came from, for messages."""


def read_variables(
    environment: Mapping[str, str], cameras: Sequence[str]
) -> tuple[list[Override], list[str]]:
    """The overrides of the variables, whole tables first, and one line for each variable that can't be used.

    `cameras` are the names of the file's cameras. An empty variable counts as not set.
    """
    known = _known_variables(cameras)
    found: dict[tuple[str, ...], Override] = {}
    problems = []
    for variable in sorted(environment):
        origin, value = f"environment variable {variable}", environment[variable]
        path = known.get(variable.upper())
        if path is None:
            if why := _why_unknown(variable, known, cameras):
                problems.append(f"{origin}: {why}")
        elif path in found:
            problems.append(f"{origin}: sets the same key as {found[path].origin}; remove one")
        elif value.strip():
            try:
                found[path] = Override(path, _read_value(path, value), origin)
            except ValueError as error:
                problems.append(f"{origin}: {error}")
    if whole := found.get(("camera",)):
        single = [override for path, override in found.items() if len(path) == 3]
        problems += [f"{one.origin}: {whole.origin} sets all cameras; set the key there" for one in single]
    return sorted(found.values(), key=lambda override: len(override.path)), problems


def read_credentials(folder: str | None) -> Iterator[Override]:
    """Secrets in files of the folder that systemd provides (systemd.exec(5), LoadCredential=)."""
    for credential, path in _CREDENTIALS.items() if folder else ():
        file = Path(folder or "") / credential
        # An empty file counts as none, because the unit names files that may hold no secret.
        if secret := _read_secret(file):
            yield Override(path, secret, f"credential {file}")


def _read_secret(file: Path) -> str:
    try:
        # Some editors begin a file with a byte order mark, which is no part of the secret.
        secret = file.read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SettingsError(
            f"credential {file}: {why}; make it a text file that the service's user can read"
        ) from None
    if "\n" in secret:
        raise SettingsError(f"credential {file}: it has several lines; keep the one with the secret")
    return secret


def _variable(*path: str) -> str:
    return PREFIX + "__".join(path).upper().replace("-", "_")


def _known_variables(cameras: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The path of every table and key by its variable."""
    known: dict[str, tuple[str, ...]] = {}
    for table, model in tables().items():
        known[_variable(table)] = (table,)
        for start in [(table, camera) for camera in cameras] if model is CameraSettings else [(table,)]:
            known.update({_variable(*start, key): (*start, key) for key in model.model_fields})
    return known


def _why_unknown(variable: str, known: Mapping[str, tuple[str, ...]], cameras: Sequence[str]) -> str:
    """Why a variable that is meant for this program sets nothing; empty for a variable of other programs."""
    meant = _SIMILAR.fullmatch(variable)
    if variable == CONFIG_VARIABLE:
        return ""
    if meant is None:
        setting = _find_behind_mistyped_prefix(variable, known)
        return f"unknown setting; did you mean {setting}?" if setting else ""
    plain = {re.sub("_+", "_", name.removeprefix(PREFIX)): name for name in known}
    is_ours = variable.upper().startswith(PREFIX)
    if meant[1].upper().startswith("CONF"):
        return f"unknown setting; did you mean {CONFIG_VARIABLE}?"
    cutoff = 0.6 if is_ours else _ALIKE
    close = difflib.get_close_matches(re.sub("[_-]+", "_", meant[1]).upper(), plain, n=1, cutoff=cutoff)
    table, *rest = meant[1].lower().split("__")
    camera = "-".join(rest[:-1]).replace("_", "-")
    if is_ours and table == "camera" and len(rest) > 1 and camera not in cameras:
        return f"no camera called {camera!r} in the settings; there are: {', '.join(cameras) or 'none'}"
    if close:
        return f"unknown setting; did you mean {plain[close[0]]}?"
    return "unknown setting; correct or remove it: config/README.md lists the settings" if is_ours else ""


def _find_behind_mistyped_prefix(variable: str, known: Mapping[str, tuple[str, ...]]) -> str:
    """The setting's variable that this one is but for its first word, as in `LINE_MONTOR__MQTT__PORT`; else
    empty."""
    for separator in re.finditer("__", variable):
        prefix, setting = variable[: separator.start()], PREFIX + variable[separator.end() :].upper()
        letters = re.sub("[_-]", "", prefix).upper()
        alike = difflib.SequenceMatcher(None, letters, "LINEMONITOR").ratio()
        if alike >= _ALIKE and setting in known:
            return setting
    return ""


def _read_value(path: tuple[str, ...], text: str) -> Any:
    """The value of a variable, by the kind of its setting. A text that does not fit stays text, which the
    settings then refuse. Raises ValueError."""
    if len(path) == 1:
        return _read_table(path[0], text)
    field = tables()[path[0]].model_fields[path[-1]]
    kind = plain_kind(field)
    if kind in (int, float):
        return _read_number(text.strip())
    if get_origin(kind) in (tuple, dict):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    if kind is not Path and not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("not UTF-8 text") from None
    return text


def _read_table(table: str, text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, list if table == "camera" else dict):
        raise ValueError(
            f"sets the whole table {table}, and is not its JSON; "
            "set single keys, as in LINE_MONITOR__LINE__NAME=line1"
        )
    return value


def _read_number(text: str) -> int | float | str:
    if not text.isascii() or "_" in text:
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
