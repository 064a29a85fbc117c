"""Which snapshots a person wants to see: read from a page's address, and put into one again. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal

from monitor.errors import LineMonitorError
from monitor.review.labels import About, Label
from monitor.review.snapshot_files import Key
from monitor.snapshots.folder_scan import CAMERA, DAY, STEM

VERDICTS = ("reject", "pass", "all")
NOBODY = "none"
"""The label of a snapshot that nobody has labelled."""
ANY = "any"
"""Any label."""
_NUMBER = re.compile(r"(\d{1,20}([.,]\d{0,24})?|[.,]\d{1,24})(e[+-]?\d{1,3})?", re.ASCII)
"""As people write them, with a comma too, and all that `repr` writes."""


class BadFilter(LineMonitorError):
    """An address that makes no sense; one line says which part of it."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Empty means: whatever it is."""

    camera: str = ""
    day: str = ""
    recipe: str = ""
    label: str = ""
    verdict: str = "reject"
    least: float | None = None
    most: float | None = None

    @staticmethod
    def parse(query: Mapping[str, str]) -> Filters:
        """Raises BadFilter. What isn't a filter is ignored."""
        least, most = _number("least", query), _number("most", query)
        return Filters(
            camera=_one("camera", query, CAMERA),
            day=_one("day", query, DAY),
            recipe=_one("recipe", query, CAMERA),
            label=_of("label", query, (*Label, NOBODY, ANY)),
            verdict=_of("verdict", query, VERDICTS) or "reject",
            least=least,
            most=most,
        )

    def query(self) -> dict[str, str]:
        """What `parse` reads, without what is left open."""
        found: dict[str, str] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default and value not in ("", None):
                found[field.name] = _written(value) if isinstance(value, float) else str(value)
        return found

    def matches_name(self, key: Key, score: float) -> bool:
        """What can be told without opening a file; `score` is the key's, which takes time to read."""
        if self.camera and key.camera != self.camera:
            return False
        return (self.least is None or score >= self.least) and (self.most is None or score <= self.most)

    @property
    def needs_about(self) -> bool:
        return bool(self.recipe or self.label) or self.verdict != "all"

    def matches(self, about: About) -> bool:
        if self.verdict != "all" and about.verdict not in (self.verdict, ""):
            return False
        if self.recipe and about.recipe != self.recipe:
            return False
        if self.label == NOBODY:
            return about.label is None
        if self.label == ANY:
            return about.label is not None
        return not self.label or about.label == self.label

    def on(self, day: str) -> Filters:
        return replace(self, day=day)


@dataclass(frozen=True, slots=True)
class Place:
    """From where a wall goes on: sets older than `key`, or newer ones."""

    direction: Literal["older", "newer"]
    order: tuple[str, str]

    @staticmethod
    def parse(query: Mapping[str, str]) -> Place | None:
        """Raises BadFilter."""
        directions: tuple[Literal["older", "newer"], ...] = ("older", "newer")
        for direction in directions:
            if given := query.get(direction):
                day, _, stem = given.partition("/")
                if not (DAY.fullmatch(day) and STEM.fullmatch(stem)):
                    raise BadFilter(f"{direction}: not a snapshot's name")
                return Place(direction, (day, stem))
        return None


def _one(name: str, query: Mapping[str, str], shape: re.Pattern[str]) -> str:
    value = query.get(name, "")
    if value and not shape.fullmatch(value):
        raise BadFilter(f"{name}: not a {name}")
    return value


def _of(name: str, query: Mapping[str, str], known: tuple[str, ...]) -> str:
    value = query.get(name, "")
    if value and value not in known:
        raise BadFilter(f"{name}: one of {', '.join(known)}")
    return value


def _number(name: str, query: Mapping[str, str]) -> float | None:
    value = query.get(name, "").strip()
    if not value:
        return None
    if not _NUMBER.fullmatch(value):
        raise BadFilter(f"{name}: not a score")
    number = float(value.replace(",", "."))
    if not math.isfinite(number):
        raise BadFilter(f"{name}: not a score")
    return number


def _written(number: float) -> str:
    # To the last digit: a limit that is rounded on the way leaves out the part that it was taken from.
    return repr(number).removesuffix(".0")
