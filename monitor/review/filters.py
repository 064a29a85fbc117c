"""The filters of the snapshot wall, read from an address's query and written back into one.

It knows nothing of files or of the page. All functions are pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal

from monitor.errors import LineMonitorError
from monitor.names import NAME
from monitor.review.shifts import WHOLE_DAY, Period, PlantClock
from monitor.review.snapshot_files import Key
from monitor.snapshots.folder_scan import CAMERA, DAY, STEM
from monitor.snapshots.labels import Label, SnapshotDetails

VERDICTS = ("reject", "pass", "all")
UNLABELLED = "none"
"""Filter value: snapshots without a label."""
LABELLED = "any"
"""Filter value: snapshots with any label."""
RECIPE = re.compile(NAME)
_NUMBER = re.compile(r"(\d{1,20}([.,]\d{0,24})?|[.,]\d{1,24})(e[+-]?\d{1,3})?", re.ASCII)
"""Numbers as people write them, also with a decimal comma, and every number that `repr` writes."""


class BadFilter(LineMonitorError):
    """The address's query is wrong. The message is one line that names the wrong part."""


@dataclass(frozen=True, slots=True)
class Filters:
    """An empty field matches every snapshot. Field names are the names in the query, except for `period`,
    which follows from `day` and `shift`."""

    camera: str = ""
    day: str = ""
    """The plant's calendar day; with `shift` the day on which the shift begins."""
    shift: str = WHOLE_DAY
    recipe: str = ""
    label: str = ""
    verdict: str = "reject"
    least: float | None = None
    most: float | None = None
    period: Period | None = None

    @staticmethod
    def parse(query: Mapping[str, str], clock: PlantClock) -> Filters:
        """Raises BadFilter. Other names in the query are ignored."""
        return Filters(
            camera=_name("camera", query, CAMERA, "a camera's name"),
            day=_name("day", query, DAY, "a day as YYYY-MM-DD"),
            shift=_choice("shift", query, clock.shifts),
            recipe=_name("recipe", query, RECIPE, "a recipe's name"),
            label=_choice("label", query, (*Label, UNLABELLED, LABELLED)),
            verdict=_choice("verdict", query, VERDICTS) or "reject",
            least=_number("least", query),
            most=_number("most", query),
        ).within(clock)

    def within(self, clock: PlantClock) -> Filters:
        """The same with the period of `day` and `shift`. Raises BadFilter."""
        if not self.day:
            return replace(self, shift=WHOLE_DAY, period=None)
        try:
            return replace(self, period=clock.period(self.day, self.shift))
        except (ValueError, OverflowError):
            raise BadFilter("day: not a day as YYYY-MM-DD") from None

    def query(self) -> dict[str, str]:
        """The query that `parse` reads, without fields at their defaults."""
        found: dict[str, str] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "period" and value != field.default and value not in ("", None):
                found[field.name] = _number_text(value) if isinstance(value, float) else str(value)
        return found

    def matches_name(self, key: Key, score: float) -> bool:
        """The checks that need no file.

        `score` is `key.score`: the caller keeps it, because parsing it from the name takes time.
        """
        if self.camera and key.camera != self.camera:
            return False
        if self.period and not self.period.start_order <= key.order < self.period.end_order:
            return False
        return (self.least is None or score >= self.least) and (self.most is None or score <= self.most)

    @property
    def needs_details(self) -> bool:
        return bool(self.recipe or self.label) or self.verdict != "all"

    def matches(self, details: SnapshotDetails) -> bool:
        if details.challenge:
            # A challenge part is no production: it is counted and labelled nowhere.
            return False
        if self.verdict != "all" and details.verdict not in (self.verdict, ""):
            return False
        if self.recipe and details.recipe != self.recipe:
            return False
        if self.label == UNLABELLED:
            return details.label is None
        if self.label == LABELLED:
            return details.label is not None
        return not self.label or details.label == self.label


@dataclass(frozen=True, slots=True)
class PageStart:
    """Where a page of the wall starts: at the snapshots older, or newer, than the one at `order`."""

    direction: Literal["older", "newer"]
    order: tuple[str, str]

    @staticmethod
    def parse(query: Mapping[str, str]) -> PageStart | None:
        """Raises BadFilter."""
        directions: tuple[Literal["older", "newer"], ...] = ("older", "newer")
        for direction in directions:
            if given := query.get(direction):
                day, _, stem = given.partition("/")
                if not (DAY.fullmatch(day) and STEM.fullmatch(stem)):
                    raise BadFilter(f"{direction}: not a snapshot's name")
                return PageStart(direction, (day, stem))
        return None


def _name(name: str, query: Mapping[str, str], shape: re.Pattern[str], meaning: str) -> str:
    value = query.get(name, "")
    if value and not shape.fullmatch(value):
        raise BadFilter(f"{name}: not {meaning}")
    return value


def _choice(name: str, query: Mapping[str, str], known: tuple[str, ...]) -> str:
    value = query.get(name, "")
    if value and value not in known:
        raise BadFilter(f"{name}: not one of {', '.join(known)}")
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


def _number_text(number: float) -> str:
    # All digits: a rounded limit would leave out the part whose score it was copied from.
    return repr(number).removesuffix(".0")
