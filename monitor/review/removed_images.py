"""Which images people removed on the page before a recipe was taught, from the record of changes.

It knows nothing of files: it reads the words of entries, as `teach_pages` and `recorded_training` write them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from monitor.audit.entry import Entry, Kind

_ONE = re.compile(r"removed: image (\w+)/")
_MANY = re.compile(r"removed: (\d+) (images|known defects), (\w+)")
_BACK = re.compile(r"brought back: (\d+) ")
_START = re.compile(r"teaching of \w+ is started from (\d+) good images")
_SINGLY = "singly"
_DEFECT = "known defect"
"""The reason of a removed known defect. It is not counted here, but it is among the images brought back."""
_WORDS = {"copy": "near copies", "oddest": "oddest of the teaching before", "unreadable": "not readable"}


@dataclass(frozen=True, slots=True)
class RemovedImages:
    """The images that one person removed."""

    who: str
    counts: tuple[tuple[str, int], ...]
    """Why, in words, and how many."""


def is_about_teaching(entry: Entry, recipe: str) -> bool:
    return entry.kind == Kind.TRAINING and entry.subject == f"recipe.{recipe}.teaching"


def count_removed(entries: Iterable[Entry], images: int, utc: str) -> list[RemovedImages] | None:
    """What was removed before the teaching of so many images that led to a training of that time; None where
    the record has no such teaching, as after a training on the command line.

    `entries` are those about the recipe's teaching, oldest first. What was brought back does not count.
    """
    removed: list[tuple[str, str, int]] = []
    found: list[tuple[str, str, int]] | None = None
    for entry in entries:
        what = entry.after or ""
        if entry.utc[:19] > utc[:19]:
            break
        if match := _ONE.match(what):
            removed.append((entry.who, _SINGLY if match[1] == "good" else _DEFECT, 1))
        elif match := _MANY.match(what):
            why = _WORDS.get(match[3], match[3]) if match[2] == "images" else _DEFECT
            removed.append((entry.who, why, int(match[1])))
        elif match := _BACK.match(what):
            _take_back(removed, int(match[1]))
        elif (match := _START.match(what)) and int(match[1]) == images:
            found = list(removed)
    return None if found is None else _sum(found)


def _take_back(removed: list[tuple[str, str, int]], count: int) -> None:
    while count and removed:
        who, why, number = removed.pop()
        if number > count:
            removed.append((who, why, number - count))
        count -= min(number, count)


def _sum(removed: Iterable[tuple[str, str, int]]) -> list[RemovedImages]:
    people: dict[str, Counter[str]] = {}
    for who, why, number in removed:
        if why != _DEFECT:
            people.setdefault(who, Counter())[why] += number
    return [RemovedImages(who, tuple(counts.items())) for who, counts in people.items()]
