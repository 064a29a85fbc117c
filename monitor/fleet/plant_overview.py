"""The state of all lines of a plant, as it follows from their messages: the rules, as pure functions of a
picture that messages fill.

It knows nothing of the connection to the broker. Only what a line publishes counts: its retained status,
which the broker replaces by the Will when the line dies, and its heartbeat, which shows a line that died
without a word.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from monitor.verdict import SCHEMA

SILENT_S = 2.0
"""A living line without a heartbeat for so long counts as silent: heartbeats come every second."""
TOPICS = ("+/+/status", "+/+/heartbeat", "+/+/+/recipe")
COLUMNS = ("line", "ready", "state", "drift", "recipes", "counts")
_GONE = ("offline", "stopped")
"""The states in which a line sends no heartbeat."""


@dataclass(frozen=True)
class CameraRecipe:
    """The recipe that judges one camera's parts."""

    recipe: str
    sha: str

    def __str__(self) -> str:
        return f"{self.recipe}@{self.sha[:12]}"


@dataclass
class _LineMessages:
    """What one line has published."""

    status: dict[str, Any] = field(default_factory=dict)
    recipes: dict[str, CameraRecipe] = field(default_factory=dict)
    heard_s: float | None = None
    """When the last heartbeat came."""
    since_s: float = 0.0
    """Since when a heartbeat is to be expected."""


@dataclass(frozen=True)
class LineOverview:
    """One line as it is shown."""

    line: str
    state: str
    ready: bool
    reason: str | None
    drift: tuple[str, ...]
    counts: Mapping[str, Any] | None
    """As the line's status has them; None where it has none."""
    recipes: Mapping[str, CameraRecipe]
    cameras: Mapping[str, str]

    def cells(self) -> tuple[str, ...]:
        reason = f": {self.reason}" if self.reason else ""
        counts = " ".join(f"{name} {value}" for name, value in (self.counts or {}).items())
        recipes = " ".join(f"{camera} {recipe}" for camera, recipe in sorted(self.recipes.items()))
        ready = "ready" if self.ready else "not ready"
        return self.line, ready, f"{self.state}{reason}", " ".join(self.drift), recipes, counts

    def payload(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "line": self.line,
            "state": self.state,
            "ready": self.ready,
            "reason": self.reason,
            "drift": list(self.drift),
            "counts": self.counts,
            "cameras": dict(self.cameras),
            "recipes": {
                camera: {"recipe": recipe.recipe, "recipe_sha": recipe.sha}
                for camera, recipe in sorted(self.recipes.items())
            },
        }


@dataclass(frozen=True)
class RecipeDifference:
    """Lines that judge by other versions of one recipe."""

    recipe: str
    lines: Mapping[str, tuple[str, ...]]
    """The lines and their cameras by version."""

    def __str__(self) -> str:
        versions = "; ".join(f"@{sha[:12]} on {', '.join(lines)}" for sha, lines in self.lines.items())
        return f"recipe {self.recipe!r} differs: {versions}"

    def payload(self) -> dict[str, Any]:
        """For `--json`."""
        return {"recipe": self.recipe, "versions": {sha: list(lines) for sha, lines in self.lines.items()}}


class PlantOverview:
    """All lines on one broker. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._lines: dict[str, _LineMessages] = {}

    def take(self, topic: str, content: bytes, now_s: float) -> None:
        """Takes a message. One that is not a line's is ignored: other programs may use such topics too."""
        site, _, rest = topic.partition("/")
        name, _, rest = rest.partition("/")
        payload = _parse(content)
        if rest == "status" and not content:
            # An empty retained message removes a status: the line is no more.
            self._lines.pop(f"{site}/{name}", None)
        elif payload is not None:
            self._take_payload(f"{site}/{name}", rest, payload, now_s)

    def _take_payload(self, line: str, rest: str, payload: dict[str, Any], now_s: float) -> None:
        known = self._lines.setdefault(line, _LineMessages(since_s=now_s))
        if rest == "status":
            if known.status.get("session") != payload.get("session") or _is_gone(known.status):
                known.since_s, known.heard_s = now_s, None
            known.status = payload
        elif rest == "heartbeat":
            known.heard_s = now_s
        elif rest.endswith("/recipe"):
            camera, in_force = rest.removesuffix("/recipe"), payload.get("in_force")
            known.recipes.pop(camera, None)
            if isinstance(in_force, dict) and isinstance(in_force.get("recipe_sha"), str):
                known.recipes[camera] = CameraRecipe(str(in_force.get("recipe")), in_force["recipe_sha"])

    def is_settled(self) -> bool:
        """Whether nothing is waited for: each line is gone, or its heartbeat was heard."""
        return bool(self._lines) and all(
            _is_gone(known.status) or known.heard_s is not None for known in self._lines.values()
        )

    def lines(self, now_s: float) -> list[LineOverview]:
        """The lines that have a status, by name."""
        return [_overview(name, known, now_s) for name, known in sorted(self._lines.items()) if known.status]


def _parse(content: bytes) -> dict[str, Any] | None:
    try:
        payload = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return payload if isinstance(payload, dict) and payload.get("schema") == SCHEMA else None


def _is_gone(status: Mapping[str, Any]) -> bool:
    return status.get("state") in _GONE


def _overview(name: str, known: _LineMessages, now_s: float) -> LineOverview:
    status = known.status
    counts, cameras, drift = status.get("counts"), status.get("cameras"), status.get("drift")
    last_s = known.heard_s if known.heard_s is not None else known.since_s
    is_silent = not _is_gone(status) and now_s - last_s >= SILENT_S
    return LineOverview(
        line=name,
        state="silent" if is_silent else str(status.get("state")),
        ready=status.get("ready") is True and not is_silent,
        reason=f"no heartbeat for {SILENT_S:.0f} s" if is_silent else status.get("reason"),
        drift=tuple(str(camera) for camera in drift) if isinstance(drift, list) else (),
        counts=counts if isinstance(counts, dict) else None,
        recipes=dict(known.recipes),
        cameras={str(k): str(v) for k, v in cameras.items()} if isinstance(cameras, dict) else {},
    )


def find_differences(lines: Sequence[LineOverview]) -> list[RecipeDifference]:
    """The recipes of which lines of one plant have other versions in force: one name should be one recipe."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in lines:
        site = line.line.partition("/")[0]
        for camera, recipe in sorted(line.recipes.items()):
            users = found.setdefault(f"{site}/{recipe.recipe}", {})
            users.setdefault(recipe.sha, []).append(f"{line.line}/{camera}")
    return [
        RecipeDifference(name.partition("/")[2], {sha: tuple(users) for sha, users in versions.items()})
        for name, versions in sorted(found.items())
        if len(versions) > 1
    ]


def explain_lines(lines: Sequence[LineOverview]) -> Iterator[str]:
    """The lines as text in columns, then what differs."""
    rows = [COLUMNS, *(line.cells() for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    yield from map(str, find_differences(lines))
