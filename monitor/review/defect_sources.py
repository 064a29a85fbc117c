"""Where a recipe's known defects come from, in words: which of them say what share of defects passes.

It knows nothing of files: these are pure functions of the images' names. Parts that were labelled on the wall
were rejected by some version, so they say little of the defects that this version passes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from monitor.names import NAME
from monitor.review.snapshot_files import Key, NoSuchSnapshot
from monitor.snapshots.labels import SnapshotDetails

_COLLECTED = re.compile(rf"(\d{{4}})(\d\d)(\d\d)T(\d{{6}})\d{{3}}Z_({NAME})_(\d+)\.png", re.ASCII)
"""As `monitor.capture.collect.file_name` writes it."""

FrameIdentity = tuple[str, str, str, int]
"""Day, second, camera and number of a frame."""


def name_defect(key: Key) -> str:
    """The name of the known defect that is copied from that snapshot."""
    return f"{key.day}_{key.stem}.png"


def find_snapshot(name: str) -> Key | None:
    """The snapshot that a known defect of that name was copied from; None for another image."""
    day, _, stem = name.removesuffix(".png").partition("_")
    parts = stem.split("_")
    try:
        return Key.parse(day, parts[1], stem) if len(parts) > 1 else None
    except NoSuchSnapshot:
        return None


def identify_key(key: Key) -> FrameIdentity:
    """The frame that the snapshot shows."""
    return key.day, key.stem[:6], key.camera, key.frame


def identify_frame(name: str) -> FrameIdentity | None:
    """The frame that a known defect of that name shows; None where its name does not say it."""
    if (key := find_snapshot(name)) is not None:
        return identify_key(key)
    match = _COLLECTED.fullmatch(name)
    if match is None:
        return None
    year, month, day, second, camera, frame = match.groups()
    return f"{year}-{month}-{day}", second, camera, int(frame)


@dataclass(slots=True)
class DefectSources:
    """How many known defects come from where."""

    collected: int = 0
    """Shown to the camera."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Labelled on the wall, by the version that rejected them."""
    passed: int = 0
    """Labelled on the wall, and passed when they were judged."""
    unknown: int = 0
    """Labelled on the wall, where the snapshot is gone."""
    other: int = 0
    """Put into the folder by hand."""

    @property
    def text(self) -> str:
        """Where they come from, and what follows, in a sentence or two; empty without any."""
        versions = " and ".join(self.rejected)
        count = sum(self.rejected.values())
        parts = [
            f"{self.collected} from the camera" if self.collected else "",
            f"{count} labelled on the page Rejects, which {versions} rejected" if count else "",
            f"{self.passed} labelled on the page Rejects, which had passed" if self.passed else "",
            f"{self.unknown} labelled on the page Rejects, whose snapshots are deleted"
            if self.unknown
            else "",
            f"{self.other} put into the folder by hand" if self.other else "",
        ]
        told = ", ".join(filter(None, parts))
        if not told:
            return ""
        if not count:
            return f"{told}."
        return (
            f"{told}: defects that {'it' if len(self.rejected) == 1 else 'they'} passed are not among these "
            f"{count}. So the share that passes looks too small: bad parts that you show to the camera "
            "correct it."
        )


def count_sources(
    names: Iterable[str],
    find_details: Callable[[Key], SnapshotDetails],
    name_version: Callable[[str, str], str],
) -> DefectSources:
    """Counts known defects by their source. `find_details` gives a snapshot's details, `name_version` the
    version in words for a recipe's name and sha256."""
    sources = DefectSources()
    rejected: Counter[tuple[str, str]] = Counter()
    for name in names:
        key = find_snapshot(name)
        if key is None:
            if _COLLECTED.fullmatch(name):
                sources.collected += 1
            else:
                sources.other += 1
            continue
        details = find_details(key)
        if details.verdict == "reject":
            rejected[details.recipe, details.recipe_sha] += 1
        elif details.verdict:
            sources.passed += 1
        else:
            sources.unknown += 1
    for judge, count in rejected.items():
        sources.rejected[name_version(*judge)] += count
    return sources
