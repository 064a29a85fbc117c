"""The state of all lines of a plant, as it follows from their messages: the rules, as pure functions of a
picture that messages fill.

It knows nothing of the connection to the broker. Only what a line publishes counts: its retained status,
which the broker replaces by the Will when the line dies, and its heartbeat, which counts parts and shows a
line that died without a word.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import msgspec

from monitor.line_state.counts import PartCounts
from monitor.verdict import SCHEMA

SILENT_S = 2.0
"""A living line without a heartbeat for so long counts as silent: heartbeats come every second."""
TOPICS = ("+/+/status", "+/+/heartbeat", "+/+/+/recipe")
_COUNTS = tuple(one.name for one in fields(PartCounts))
COLUMNS = ("line", "ready", "state", "drift", "recipes", *_COUNTS)
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
    counts: PartCounts | None = None
    """Of the newest heartbeat in this session."""
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
    counts: PartCounts | None
    """The parts since the service's start; None where no heartbeat had them."""
    recipes: Mapping[str, CameraRecipe]
    cameras: Mapping[str, str]

    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        return *self.condition(), *_count_cells(self.counts)

    def condition(self) -> tuple[str, ...]:
        """The row without the counts, which change all the time."""
        reason = f": {self.reason}" if self.reason else ""
        recipes = " ".join(f"{camera} {recipe}" for camera, recipe in sorted(self.recipes.items()))
        ready = "ready" if self.ready else "not ready"
        return self.line, ready, f"{self.state}{reason}", " ".join(self.drift), recipes

    def payload(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "line": self.line,
            "state": self.state,
            "ready": self.ready,
            "reason": self.reason,
            "drift": list(self.drift),
            "counts": self.counts and asdict(self.counts),
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
                known.since_s, known.heard_s, known.counts = now_s, None, None
            known.status = payload
        elif rest == "heartbeat":
            known.heard_s, known.counts = now_s, _parse_counts(payload.get("counts"))
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


def _parse_counts(content: object) -> PartCounts | None:
    """None for what is no count: lines of an earlier version have none."""
    try:
        return msgspec.convert(content, PartCounts)
    except msgspec.ValidationError:
        return None


def _is_gone(status: Mapping[str, Any]) -> bool:
    return status.get("state") in _GONE


def _overview(name: str, known: _LineMessages, now_s: float) -> LineOverview:
    status = known.status
    cameras, drift = status.get("cameras"), status.get("drift")
    last_s = known.heard_s if known.heard_s is not None else known.since_s
    is_silent = not _is_gone(status) and now_s - last_s >= SILENT_S
    return LineOverview(
        line=name,
        state="silent" if is_silent else str(status.get("state")),
        ready=status.get("ready") is True and not is_silent,
        reason=f"no heartbeat for {SILENT_S:.0f} s" if is_silent else status.get("reason"),
        drift=tuple(str(camera) for camera in drift) if isinstance(drift, list) else (),
        counts=known.counts,
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


def sum_counts(lines: Sequence[LineOverview]) -> PartCounts | None:
    """The parts of all lines that count; None where none does."""
    counts = [line.counts for line in lines if line.counts is not None]
    if not counts:
        return None
    return PartCounts(*(sum(getattr(one, name) for one in counts) for name in _COUNTS))


def _count_cells(counts: PartCounts | None) -> tuple[str, ...]:
    return tuple("" if counts is None else f"{getattr(counts, name):,}" for name in _COUNTS)


def list_rows(lines: Sequence[LineOverview]) -> list[tuple[str, ...]]:
    """The rows of the table: the lines, and under several lines with counts their sum."""
    rows = [line.cells() for line in lines]
    if len(counting := [line for line in lines if line.counts is not None]) > 1:
        name = f"sum of {len(counting)} lines"
        rows.append((name, "", "", "", "", *_count_cells(sum_counts(counting))))
    return rows


def explain_lines(lines: Sequence[LineOverview]) -> Iterator[str]:
    """The lines as text in columns, then what differs."""
    rows = [COLUMNS, *list_rows(lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    for row in rows:
        cells = zip(COLUMNS, row, widths, strict=True)
        shown = (cell.rjust(width) if name in _COUNTS else cell.ljust(width) for name, cell, width in cells)
        yield "  ".join(shown).rstrip()
    yield from map(str, find_differences(lines))


def make_payload(lines: Sequence[LineOverview]) -> dict[str, Any]:
    """For `--json`: the lines, the sum of their counts, and what differs."""
    total = sum_counts(lines)
    return {
        "lines": [line.payload() for line in lines],
        "counts": total and asdict(total),
        "differences": [difference.payload() for difference in find_differences(lines)],
    }
