"""The settings as flat values for the record of changes: one value per path, without defaults.

It knows nothing of the journal. A secret must never leave this module as plain text: it is returned as a
SecretStr.
"""

from __future__ import annotations

from enum import Enum
from importlib import metadata
from typing import Any

from pydantic import SecretStr

from drivers.source import find_secrets, redacted
from monitor.settings import Settings
from monitor.settings.tables import default_actuate_ms


def flatten_settings(settings: Settings) -> dict[str, str | SecretStr]:
    """Every setting that differs from its default, by its path such as `mqtt.host` or `camera.top.recipe`.
    The program's version is among them, because the defaults may differ between versions."""
    tree: dict[str, Any] = settings.model_dump(exclude_defaults=True)
    found: dict[str, str | SecretStr] = {"program": metadata.version("line-monitor")}
    for given, camera in zip(settings.camera, tree.pop("camera", ()), strict=True):
        source = camera.pop("source")
        path = f"camera.{camera.pop('name')}"
        if given.actuate_ms == default_actuate_ms(given.deadline_ms):
            camera.pop("actuate_ms", None)
        found[f"{path}.source"] = redacted(source)
        if hidden := find_secrets(source):
            found[f"{path}.source.secrets"] = SecretStr(hidden)
        found.update({f"{path}.{key}": _value(value) for key, value in camera.items()})
    for part in tree.get("challenge", {}).pop("part", ()):
        path = f"challenge.part.{part.pop('id')}"
        found.update({f"{path}.{key}": _value(value) for key, value in part.items()})
    for table, keys in tree.items():
        found.update({f"{table}.{key}": _value(value) for key, value in keys.items()})
    return found


def _value(value: object) -> str | SecretStr:
    if isinstance(value, SecretStr):
        return value
    if isinstance(value, Enum):
        return str(value.value)
    return str(list(value)) if isinstance(value, tuple) else str(value)
