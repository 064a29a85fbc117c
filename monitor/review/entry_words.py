"""An entry of the record of changes in words that people read, for the page and the printed reports.

It knows nothing of files. The words in the file itself never change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from monitor.audit.entry import Entry, Kind
from monitor.review.snapshot_files import find_key

KINDS = {
    Kind.BEGIN: "record begun",
    Kind.LABEL: "label",
    Kind.THRESHOLD: "threshold",
    Kind.TRAINING: "teaching",
    Kind.PROMOTION: "approved and put in force",
    Kind.ROLLBACK: "gone back",
    Kind.CHANGEOVER: "changeover",
    Kind.IN_FORCE: "put in force",
    Kind.RESET: "reset",
    Kind.CHALLENGE: "challenge",
    Kind.SETTING: "setting",
    Kind.ACCOUNT: "account",
    Kind.REFUSED: "refused",
    Kind.REPAIR: "incomplete line",
}
_OF_RECIPE = {
    "threshold": "threshold of recipe {}",
    "in_force": "version of recipe {}",
    "teaching": "images of recipe {}",
    "sha256": "recipe {}, sha256",
}
_SERVICE = "service"
"""How the service's own entries came."""


def name_kind(entry: Entry) -> str:
    """What was done, in a word or two."""
    if _is_report(entry):
        return "in force on the line"
    try:
        return KINDS[Kind(entry.kind)]
    except ValueError:
        return entry.kind


def name_subject(entry: Entry) -> str:
    """What was changed, in a few words; the subject itself where it says enough."""
    head, _, rest = entry.subject.partition(".")
    name, _, what = rest.partition(".")
    if head == "recipe" and name:
        return _OF_RECIPE[what].format(name) if what in _OF_RECIPE else f"recipe {rest}"
    if head == "camera" and what.startswith("recipe_in_force"):
        return f"recipe of camera {name}{', sha256' if what.endswith('_sha') else ''}"
    if head == "account" and rest:
        return f"account {rest}"
    if (key := find_key(f"{entry.subject}.jpg")) is not None:
        return f"part of camera {key.camera}, frame {key.frame}, {key.day} {key.clock} UTC"
    return entry.subject


def name_recipe(entry: Entry) -> str:
    """The recipe that the entry is about; empty where it names none."""
    head, _, rest = entry.subject.partition(".")
    if head == "recipe":
        return rest.partition(".")[0].partition("@")[0]
    for value in (entry.after, entry.before):
        name, at, number = (value or "").partition(",")[0].partition("@")
        if at and number.isdecimal():
            return name
    # A camera's recipe in the settings, and what a refused signature was for.
    if head == "camera" and entry.subject.endswith(".recipe"):
        return entry.after or entry.before or ""
    return next((word.partition("@")[0] for word in entry.subject.split() if "@" in word), "")


@dataclass(frozen=True, slots=True)
class ListedChange:
    """One change in a report, with what the running line said of it afterwards."""

    entry: Entry
    reports: tuple[Entry, ...] = ()
    """The service's entries that follow from it: which camera judges by it, its hash, its threshold."""

    @property
    def cameras(self) -> tuple[tuple[str, str], ...]:
        """The cameras that judged by it from then on, each with the time."""
        return tuple(
            (entry.subject.split(".")[1], entry.utc)
            for entry in self.reports
            if entry.subject.startswith("camera.") and entry.subject.endswith(".recipe_in_force")
        )


def fold_reports(entries: Iterable[Entry]) -> list[ListedChange]:
    """The changes, oldest first, each with the service's reports that follow from it: one promotion is one
    change, though the record has five entries of it."""
    found: list[ListedChange] = []
    for entry in entries:
        place = _find_cause(found, entry) if _is_report(entry) else None
        if place is None:
            found.append(ListedChange(entry))
        else:
            found[place] = ListedChange(found[place].entry, (*found[place].reports, entry))
    return found


def _is_report(entry: Entry) -> bool:
    return entry.via == _SERVICE and entry.kind in (Kind.CHANGEOVER, Kind.IN_FORCE)


def _find_cause(found: list[ListedChange], report: Entry) -> int | None:
    """The newest change before it that it can follow from."""
    recipe = name_recipe(report)
    for place in range(len(found) - 1, -1, -1):
        change = found[place]
        if change.entry.kind not in (Kind.PROMOTION, Kind.IN_FORCE, Kind.ROLLBACK, Kind.CHANGEOVER):
            continue
        if recipe:
            if name_recipe(change.entry) == recipe:
                return place
        elif any(one.subject + "_sha" == report.subject for one in (change.entry, *change.reports)):
            return place
    return None
