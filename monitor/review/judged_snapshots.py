"""The newest snapshots of one recipe, labelled or not: the images that two versions are compared on.

It knows nothing of scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from monitor.snapshots.folder_scan import CAMERA, DAY
from monitor.snapshots.labels import MAX_JSON_BYTES


class _Judge(msgspec.Struct):
    recipe: str = ""
    challenge: str | None = None
    """The challenge part that it shows, which says nothing about the production."""


def find_newest(snapshots: Path, recipe: str, most: int) -> list[Path]:
    """The frames (`.png`) of the newest snapshots that the recipe judged, newest first."""
    found: list[Path] = []
    for file in _newest_first(snapshots):
        if len(found) == most:
            break
        if _judged_by(file.with_suffix(".json")) == recipe:
            found.append(file)
    return found


def _newest_first(snapshots: Path) -> Iterator[Path]:
    days = [day for day in snapshots.iterdir() if DAY.fullmatch(day.name)] if snapshots.is_dir() else []
    for day in sorted(days, reverse=True):
        cameras = [camera for camera in day.iterdir() if CAMERA.fullmatch(camera.name)]
        files = [file for camera in cameras for file in camera.glob("*.png")]
        yield from sorted(files, key=lambda file: file.name, reverse=True)


def _judged_by(file: Path) -> str:
    """The recipe in a snapshot's `.json`; empty for a challenge part, and where it can't be read."""
    try:
        with file.open("rb") as opened:
            judge = msgspec.json.decode(opened.read(MAX_JSON_BYTES), type=_Judge)
            return "" if judge.challenge else judge.recipe
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
